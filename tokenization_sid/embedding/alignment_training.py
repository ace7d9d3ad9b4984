"""Training of the alignment with `SentenceTransformerTrainer`: one dataset and one loss per kind of example.

One optimiser step accumulates the gradients of one batch of each kind, so that its gradient is that of Σ λ L.
"""

from __future__ import annotations

import tempfile
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import numpy as np

from onesearch.devices import use_one_gpu

from ..parallel.threads import fixed_threads
from .alignment_examples import Examples
from .configs import EXAMPLE_KINDS, PAIR_KINDS, AlignmentConfig
from .static_encoder import TokenisedOnce, blank_rows, static_module, threads_of, without_card

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import MultiDatasetDefaultBatchSampler, SentenceTransformer
    from torch import nn
    from torch.utils.data import ConcatDataset


def add_projection(encoder: SentenceTransformer, config: AlignmentConfig, item_vectors: np.ndarray) -> None:
    """Freeze the encoder and append a linear projection, if the config asks for them; in place.

    The projection starts as the principal directions of the catalogue, which change the cosines of items as little as its size allows.

    Args:
        encoder: base encoder.
        config: its fields `frozen` and `dimension` decide.
        item_vectors: (items, dimension) vectors of the base encoder.

    Raises:
        ValueError: `dimension` exceeds that of the encoder.
    """
    import torch
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    size = item_vectors.shape[1]
    dimension = config.dimension or size
    if dimension > size:
        raise ValueError(
            f"alignment.dimension={dimension}, but the base encoder gives {size}; allowed are 1 to {size}, or null for {size}"
        )
    encoder.requires_grad_(not config.frozen)
    if not config.frozen and dimension == size:
        return
    _, directions = np.linalg.eigh(item_vectors.T.astype(np.float64) @ item_vectors)
    weight = torch.from_numpy(np.ascontiguousarray(directions.T[::-1][:dimension], dtype=np.float32))
    head = Dense(size, dimension, bias=False, activation_function=torch.nn.Identity(), init_weight=weight)
    encoder.append(head.to(encoder.device))
    encoder.append(Normalize())


def train(
    encoder: SentenceTransformer,
    queries: list[str],
    texts: list[str],
    examples: Examples,
    config: AlignmentConfig,
    progress: bool = False,
) -> None:
    """Train `encoder` in place.

    1. The query–item pairs (or the most frequent kind without them) and `epochs` give the number of steps.
    2. Every kind gets a dataset of that many batches: whole passes over its examples, each in a random order of its own.
    3. One step takes one batch of each kind in turn and accumulates their gradients.

    Args:
        encoder: encoder to train.
        queries: texts of the rows of queries.
        texts: texts of the rows of items.
        examples: rows per kind.
        config: losses and training; its learning rate is set (`with_defaults`).
        progress: show a progress bar.
    """
    from datasets import DatasetDict
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

    if config.learning_rate is None:
        raise ValueError("alignment.learning_rate is None; call with_defaults on the config first")
    leading = len(examples.rows.get("q2i", max(examples.rows.values(), key=len)))
    batch_size = min(config.batch_size, max(2, leading // 4))
    steps = config.epochs * max(1, leading // batch_size)
    datasets = DatasetDict(
        {kind: _dataset(kind, examples, queries, texts, steps * batch_size, config.seed) for kind in examples.rows}
    )
    without_card(encoder)
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            num_train_epochs=1,  # the datasets hold the draws of every epoch
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=len(datasets),
            multi_dataset_batch_sampler=_round_robin,
            dataloader_drop_last=True,
            learning_rate=config.learning_rate,
            lr_scheduler_type="linear",
            seed=config.seed,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=not progress,
            use_cpu=encoder.device.type == "cpu",
        )
        use_one_gpu(arguments)
        losses = _losses(encoder, examples, config)
        trainer = SentenceTransformerTrainer(model=encoder, args=arguments, train_dataset=datasets, loss=losses)
        if static_module(encoder) is not None:
            trainer.data_collator.preprocess_fn = TokenisedOnce(encoder)
        with blank_rows(encoder), fixed_threads(threads_of(encoder)):
            trainer.train()
    encoder.eval()


def _round_robin(dataset: ConcatDataset, **samplers: Any) -> MultiDatasetDefaultBatchSampler:
    """Sampler that takes one batch of each kind in turn, over a dataset that returns a batch at once.

    torch's `ConcatDataset` returns rows one by one, which takes eight times as long.
    """
    from sentence_transformers.base.sampler import RoundRobinBatchSampler

    def batch(rows: list[int]) -> list[dict[str, Any]]:
        kind = bisect_right(dataset.cumulative_sizes, rows[0])
        before = dataset.cumulative_sizes[kind - 1] if kind else 0
        part: Any = dataset.datasets[kind]
        return part.__getitems__([row - before for row in rows])

    dataset.__getitems__ = batch  # type: ignore[attr-defined]  # torch's loader asks for this method, its stubs lack it
    return RoundRobinBatchSampler(dataset, **samplers)


def _dataset(kind: str, examples: Examples, queries: list[str], texts: list[str], size: int, seed: int) -> Dataset:
    """Dataset of `size` examples of a kind: whole passes, each in a random order; texts are looked up when a batch is made."""
    from datasets import Dataset

    rows = examples.rows[kind]
    random = np.random.default_rng([seed, EXAMPLE_KINDS.index(kind)])
    passes = -(-size // len(rows))
    drawn = np.concatenate([random.permutation(len(rows)) for _ in range(passes)])[:size]
    tables = {"q2q": (queries, queries), "i2i": (texts, texts), "rank": (queries, texts, texts)}.get(kind, (queries, texts))
    names = ("anchor", "positive", "negative")[: len(tables)]

    def look_up(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        """Columns in the order that the losses expect."""
        chosen = rows[batch["row"]]
        columns: dict[str, list[Any]] = {}
        for name, table, column in zip(names, tables, chosen.T):
            columns[name] = [table[row] for row in column]
        if kind in PAIR_KINDS:
            columns["label"] = chosen.tolist()
        elif kind == "relevance":
            columns["label"] = examples.grades[batch["row"]].tolist()
        return columns

    return Dataset.from_dict({"row": drawn}).with_transform(look_up)


def _losses(encoder: SentenceTransformer, examples: Examples, config: AlignmentConfig) -> dict[str, nn.Module]:
    """Weighted loss of every kind of example."""
    from .alignment_losses import InBatchContrast, Weighted, rank_margin, relevance_regression

    losses: dict[str, nn.Module] = {
        kind: InBatchContrast(encoder, config.temperature, examples.positives[kind], symmetric=kind != "q2i")
        for kind in PAIR_KINDS
    }
    losses |= {"rank": rank_margin(encoder, config.margin), "relevance": relevance_regression(encoder)}
    return {kind: Weighted(losses[kind], config.weights[kind]) for kind in examples.rows}


__all__ = ["add_projection", "train"]
