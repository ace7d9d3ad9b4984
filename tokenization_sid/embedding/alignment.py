"""OneSearch's aligned collaborative and semantic embedding (arXiv 2509.03236, KHQE): an encoder trained on what followed which query.

`align_run` leaves in ``embeddings/`` the trained encoder (a sentence-transformers folder) and ``alignment.json``. Embeddings that lay there
were another encoder's and go; `onesearch.tokenization_sid.embedding.embeddings.embed_market` makes them again with this one.

One optimiser step sees one batch of each kind of example, so that its gradient is that of Σ λ L. Only sessions of the training split are
mined; judgements of queries that are asked in the held-out sessions are left out.
"""

from __future__ import annotations

import logging
import os
import tempfile
from bisect import bisect_right
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from onesearch.data.market import Market
from onesearch.data.session_pairs import query_rows, session_items
from onesearch.data.text import item_texts
from onesearch.files import RunFolder, atomic_folder, write_json

from .alignment_measures import held_out_queries, measure
from .configs import EXAMPLE_KINDS, PAIR_KINDS, AlignmentConfig, TextEncoderConfig
from .embeddings import ALIGNMENT_NAME, distinct_queries
from .pairs import cosines, mine_pairs, mine_triples
from .text_encoder import base_encoder, blank_rows, embed_texts

if TYPE_CHECKING:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from torch import nn
    from torch.utils.data import BatchSampler, ConcatDataset

logger = logging.getLogger(__name__)

FEW = 0.01
"""Warn when the cosine filter leaves a smaller share of the mined pairs than this."""


@dataclass(frozen=True)
class Examples:
    """Training rows per kind and how they came about.

    Args:
        rows: kind → rows of queries (and items): (pairs, 2), or (triples, 3) for ``rank``. Kinds without any are absent.
        positives: kind → all mined pairs, (pairs, 2), those below the cosine included: none of them is a negative.
        grades: (judgements,) float32 in 0 to 1, aligned with ``rows["relevance"]``.
        counts: kind → ``mined``, ``kept``.
    """

    rows: dict[str, np.ndarray]
    positives: dict[str, np.ndarray]
    grades: np.ndarray
    counts: dict[str, dict[str, int]]


def align_run(
    run: RunFolder, encoder: TextEncoderConfig | None = None, config: AlignmentConfig | None = None, progress: bool = False
) -> dict[str, Any]:
    """Align the encoder of a run with its training sessions; writes the encoder and ``alignment.json`` to ``embeddings/``, or nothing.

    Args:
        encoder: what to start from: the static encoder before any behaviour, or a sentence-transformers model by name.

    Returns:
        What ``alignment.json`` holds: ``base``, ``config``, ``examples`` (mined and kept per kind), ``split``, ``before``, ``after``.
    """
    encoder, config = encoder or TextEncoderConfig(), config or AlignmentConfig()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("alignment trains in one process; run `onesearch sids align` without torchrun, then embed with it")
    market = Market.load(run.require("market", "onesearch data"))
    model, report = align(market, base_encoder(market, encoder), config, progress)
    report = {"schema": 1, "base": asdict(encoder), **report}
    with atomic_folder(run.embeddings) as folder:
        model.save(str(folder / run.encoder.name), create_model_card=False)
        write_json(folder / ALIGNMENT_NAME, report)
    return report


def align(
    market: Market, encoder: SentenceTransformer, config: AlignmentConfig, progress: bool = False
) -> tuple[SentenceTransformer, dict[str, Any]]:
    """Train `encoder` in place on the training sessions of a market, and measure it before and after on the validation sessions.

    Returns:
        The encoder, and ``config``, ``examples``, ``split``, ``before`` and ``after`` as in ``alignment.json``.
    """
    queries, texts = distinct_queries(market), item_texts(market)
    _check_sessions(market)
    config = _settled(config, encoder)
    vectors = embed_texts(encoder, queries, progress=progress), embed_texts(encoder, texts, progress=progress)
    before = measure(market, queries, *vectors)
    examples = collect_examples(market, queries, config, *vectors)
    _prepare(encoder, config, vectors[1])
    train(encoder, queries, texts, examples, config, progress)
    after = measure(market, queries, embed_texts(encoder, queries), embed_texts(encoder, texts))
    found = {"config": asdict(config), "examples": examples.counts, "split": "validation", "before": before, "after": after}
    return encoder, found


def collect_examples(
    market: Market, queries: list[str], config: AlignmentConfig, query_vectors: np.ndarray, item_vectors: np.ndarray
) -> Examples:
    """Mine pairs and triples of the training sessions, drop what the base encoder finds too unlike, read the judgements.

    Args:
        query_vectors, item_vectors: unit rows of the base encoder, (queries, dimension) and (items, dimension).
    """
    mined = mine_pairs(market, queries, config.mining, seed=config.seed)
    sides = {"q2q": (query_vectors, query_vectors), "i2i": (item_vectors, item_vectors), "q2i": (query_vectors, item_vectors)}
    rows, counts = {}, {}
    for kind in PAIR_KINDS:
        least = config.mining.min_cosine
        rows[kind] = mined[kind] if least is None else mined[kind][cosines(mined[kind], *sides[kind]) >= least]
        counts[kind] = {"mined": len(mined[kind]), "kept": len(rows[kind])}
        if len(rows[kind]) < FEW * len(mined[kind]):
            logger.warning(
                "%s: %s of %s mined pairs have a cosine of at least %s under the base encoder; lower mining.min_cosine "
                "(--min-cosine), or set it to -1 to keep all: with hardly a pair there is nothing to learn",
                kind, f"{len(rows[kind]):,}", f"{len(mined[kind]):,}", least,
            )  # fmt: skip
    rows["rank"] = mine_triples(market, queries, config.mining, seed=config.seed)
    rows["relevance"], grades = judged_pairs(market, queries)
    for kind in ("rank", "relevance"):
        counts[kind] = {"mined": len(rows[kind]), "kept": len(rows[kind])}
    used = {kind: part for kind, part in rows.items() if len(part) and config.weights[kind]}
    for kind in EXAMPLE_KINDS:
        if kind not in used:
            why = "its weight is 0" if not config.weights[kind] else "there is no example"
            logger.info("alignment leaves %s out: %s", kind, why)
    if not used:
        raise ValueError(
            f"nothing to align on: {counts} (mined and kept per loss); lower mining.min_cosine={config.mining.min_cosine} or "
            "give another loss a weight"
        )
    if "relevance" in used:
        logger.info(
            "%s judgements train the encoder: on their queries the relevance report is not held out", f"{len(grades):,}"
        )
    return Examples(used, mined, grades, counts)


def judged_pairs(market: Market, queries: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Judged pairs whose query no held-out session asks.

    Returns:
        (pairs, 2) rows of queries and items, and (pairs,) float32 grades as shares of the highest.
    """
    from .alignment_losses import HIGHEST_GRADE

    row_of = {query: row for row, query in enumerate(queries)}
    item_of = {item_id: row for row, item_id in enumerate(market.items.data.column("item_id").to_pylist())}
    held = held_out_queries(market)
    columns = (market.relevance.data.column(name).to_pylist() for name in ("query", "item_id", "grade"))
    judged = [
        (row_of[query], item_of[item], grade)
        for query, item, grade in zip(*columns)
        if query in row_of and item in item_of and query not in held
    ]
    table = np.array(judged, dtype=np.int64).reshape(-1, 3)
    return table[:, :2], (table[:, 2] / HIGHEST_GRADE).astype(np.float32)


def train(
    encoder: SentenceTransformer,
    queries: list[str],
    texts: list[str],
    examples: Examples,
    config: AlignmentConfig,
    progress: bool = False,
) -> None:
    """Train `encoder` in place with `SentenceTransformerTrainer`: a dataset and a loss per kind, one batch of each per step."""
    from datasets import DatasetDict
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.models import StaticEmbedding

    leading = len(examples.rows.get("q2i", max(examples.rows.values(), key=len)))
    batch_size = min(config.batch_size, max(2, leading // 4))
    steps = config.epochs * max(1, leading // batch_size)
    datasets = DatasetDict(
        {kind: _dataset(kind, examples, queries, texts, steps * batch_size, config.seed) for kind in examples.rows}
    )
    encoder.model_card_data.generate_widget_examples = False  # no card is written, and looking for examples reads every row
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            num_train_epochs=1,  # the datasets hold every epoch's draw
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=len(datasets),
            multi_dataset_batch_sampler=_round_robin,
            dataloader_drop_last=True,
            learning_rate=_settled(config, encoder).learning_rate,
            lr_scheduler_type="linear",
            seed=config.seed,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=not progress,
            use_cpu=encoder.device.type == "cpu",
        )
        trainer = SentenceTransformerTrainer(
            model=encoder, args=arguments, train_dataset=datasets, loss=_losses(encoder, examples, config)
        )
        if isinstance(encoder[0], StaticEmbedding):
            trainer.data_collator.preprocess_fn = _TokensOnce(encoder)
        with blank_rows(encoder):
            trainer.train()
    encoder.eval()


def _round_robin(dataset: ConcatDataset, **samplers: Any) -> BatchSampler:
    """The library's sampler of one batch per kind in turn, over a dataset that gives a batch at once: torch's joins datasets in such a
    way that rows are asked for one by one, which takes eight times as long."""
    from sentence_transformers.base.sampler import RoundRobinBatchSampler

    def batch(rows: list[int]) -> list[dict[str, Any]]:
        kind = bisect_right(dataset.cumulative_sizes, rows[0])
        before = dataset.cumulative_sizes[kind - 1] if kind else 0
        return dataset.datasets[kind].__getitems__([row - before for row in rows])

    dataset.__getitems__ = batch
    return RoundRobinBatchSampler(dataset, **samplers)


class _TokensOnce:
    """What a static encoder's `preprocess` gives, each text tokenised once: most of its training would be tokenising."""

    def __init__(self, encoder: SentenceTransformer):
        self.tokenizer = encoder.tokenizer
        self.ids: dict[str, np.ndarray] = {}

    def __call__(self, inputs: list[str], **_: Any) -> dict[str, Any]:
        import torch

        new = [text for text in dict.fromkeys(inputs) if text not in self.ids]
        for text, encoding in zip(new, self.tokenizer.encode_batch(new, add_special_tokens=False)):
            self.ids[text] = np.array(encoding.ids, dtype=np.int64)
        found = [self.ids[text] for text in inputs]
        ends = np.cumsum([0, *map(len, found[:-1])])
        return {"input_ids": torch.from_numpy(np.concatenate(found)), "offsets": torch.from_numpy(ends)}


def _dataset(kind: str, examples: Examples, queries: list[str], texts: list[str], size: int, seed: int) -> Dataset:
    """`size` seeded draws of one kind as row numbers, whole passes first; texts are looked up as batches are made."""
    from datasets import Dataset

    rows = examples.rows[kind]
    random = np.random.default_rng([seed, EXAMPLE_KINDS.index(kind)])
    drawn = np.concatenate([random.permutation(len(rows)) for _ in range(-(-size // len(rows)))])[:size]
    tables = {"q2q": (queries, queries), "i2i": (texts, texts), "rank": (queries, texts, texts)}.get(kind, (queries, texts))
    names = ("anchor", "positive", "negative")[: len(tables)]

    def look_up(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        """Columns in the order that the losses expect."""
        chosen = rows[batch["row"]]
        columns = {name: [table[row] for row in chosen[:, at]] for at, (name, table) in enumerate(zip(names, tables))}
        if kind in PAIR_KINDS:
            columns["label"] = chosen.tolist()
        elif kind == "relevance":
            columns["label"] = examples.grades[batch["row"]].tolist()
        return columns

    return Dataset.from_dict({"row": drawn}).with_transform(look_up)


def _losses(encoder: SentenceTransformer, examples: Examples, config: AlignmentConfig) -> dict[str, nn.Module]:
    from .alignment_losses import InBatchContrast, Weighted, rank_margin, relevance_regression

    losses: dict[str, nn.Module] = {
        kind: InBatchContrast(encoder, config.temperature, examples.positives[kind], symmetric=kind != "q2i")
        for kind in PAIR_KINDS
    }
    losses |= {"rank": rank_margin(encoder, config.margin), "relevance": relevance_regression(encoder)}
    return {kind: Weighted(losses[kind], config.weights[kind]) for kind in examples.rows}


def _prepare(encoder: SentenceTransformer, config: AlignmentConfig, item_vectors: np.ndarray) -> None:
    """Freeze the encoder and add a projection, as the config says. The projection starts as the principal directions of the catalogue."""
    import torch
    from sentence_transformers.models import Dense, Normalize

    size = encoder.get_embedding_dimension()
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


def _settled(config: AlignmentConfig, encoder: SentenceTransformer) -> AlignmentConfig:
    """The config with the values that depend on the kind of encoder filled in."""
    from sentence_transformers.models import StaticEmbedding

    static = isinstance(encoder[0], StaticEmbedding)
    least, rate = config.mining.min_cosine, config.learning_rate
    if least is None:
        least = -1.0 if static else 0.6
    if rate is None:
        rate = 1e-3 if config.frozen else 3e-2 if static else 2e-5
    return replace(config, mining=replace(config.mining, min_cosine=least), learning_rate=rate)


def _check_sessions(market: Market) -> None:
    """Something must have happened in the training sessions."""
    if not len(market.sessions):
        raise ValueError("the market has no sessions, and alignment learns from what followed queries; build SIDs without it")
    sessions, _ = session_items(market, "train", ("clicked", "purchased"))
    if not len(sessions):
        raise ValueError(
            f"none of the training sessions ({len(market.sessions):,} in all splits) has a click or a purchase of an item of the "
            "catalogue; alignment needs some: check with `onesearch data check`, or build SIDs without it"
        )
    if not (query_rows(market, distinct_queries(market))[sessions] >= 0).any():
        raise ValueError("no training session with a click or a purchase has a query; build SIDs without alignment")
