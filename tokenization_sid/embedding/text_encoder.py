"""Text encoders of a market: the static encoder, trained on the market itself, or any sentence-transformers model by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onesearch.data.market import Market
from onesearch.data.requests import Request, build_requests
from onesearch.data.text import item_texts

from .configs import TextEncoderConfig
from .static_encoder import blank_rows, static_encoder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def build_text_encoder(market: Market, config: TextEncoderConfig) -> SentenceTransformer:
    """Load the named encoder, or train the static one on the market's texts and training sessions."""
    encoder = base_encoder(market, config)
    requests = build_requests(market, "train") if config.model is None and config.epochs else []
    if requests:
        with blank_rows(encoder):
            _train(encoder, market, requests, config)
    return encoder


def base_encoder(market: Market, config: TextEncoderConfig) -> SentenceTransformer:
    """Load the named encoder, or make the static one by latent semantic analysis of the item texts, without behaviour."""
    from sentence_transformers import SentenceTransformer

    if config.model is None:
        return static_encoder(item_texts(market), config)
    return SentenceTransformer(config.model)


def embed_texts(
    encoder: SentenceTransformer, texts: Sequence[str], batch_size: int = 1024, progress: bool = False
) -> np.ndarray:
    """Embed texts.

    Args:
        encoder: encoder of the market.
        texts: texts of any number, also none.
        batch_size: number of texts per batch.
        progress: show a progress bar.

    Returns:
        (texts, dimension) float32 unit vectors. The static encoder gives the zero vector to a text without a known token.
    """
    if not len(texts):
        return np.zeros((0, encoder.get_embedding_dimension() or 0), dtype=np.float32)
    vectors = encoder.encode(list(texts), batch_size=batch_size, show_progress_bar=progress, convert_to_numpy=True)
    return unit_rows(vectors)


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Scale the rows of `vectors` (n, dimension) to length 1, as float32; zero rows stay zero."""
    vectors = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


def positive_pairs(market: Market, requests: Sequence[Request], limit: int, seed: int) -> tuple[list[str], list[str]]:
    """Texts that belong together in the requests.

    A query belongs to the items that were bought after it, or clicked if none was bought. The last item of the user's history belongs to
    the same items.

    Args:
        market: item texts.
        requests: requests of the training split.
        limit: upper bound of the pairs, sampled if there are more.
        seed: seeds the sampling.

    Returns:
        Anchors and positives, aligned.
    """
    text_of = dict(zip(market.items["item_id"], item_texts(market)))
    pairs: list[tuple[str, str]] = []
    for request in requests:
        targets = request.purchased or request.clicked
        pairs.extend((request.query, text_of[item]) for item in targets)
        if request.history:
            last = request.history[-1]
            pairs.extend((text_of[last], text_of[item]) for item in targets if item != last)
    if len(pairs) > limit:
        chosen = np.random.default_rng(seed).choice(len(pairs), limit, replace=False)
        pairs = [pairs[row] for row in np.sort(chosen)]
    return [anchor for anchor, _ in pairs], [positive for _, positive in pairs]


def _train(encoder: SentenceTransformer, market: Market, requests: Sequence[Request], config: TextEncoderConfig) -> None:
    """Train the token vectors contrastively on `positive_pairs`; equal texts in a batch are no negatives of each other."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.base.sampler import BatchSamplers
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    anchors, positives = positive_pairs(market, requests, config.max_pairs, config.seed)
    batch_size = min(config.batch_size, max(2, len(anchors) // 4))
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(Path(".")),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=batch_size,
        learning_rate=config.learning_rate,
        batch_sampler=BatchSamplers.BATCH_SAMPLER,
        lr_scheduler_type="linear",
        seed=config.seed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_steps=max(1, math.ceil(len(anchors) / batch_size)),
        use_cpu=True,
    )
    encoder.model_card_data.generate_widget_examples = False  # no card is written
    trainer = SentenceTransformerTrainer(
        model=encoder,
        args=arguments,
        train_dataset=Dataset.from_dict({"anchor": anchors, "positive": positives}),
        loss=MultipleNegativesRankingLoss(encoder),
    )
    trainer.train()


__all__ = ["base_encoder", "build_text_encoder", "embed_texts", "positive_pairs", "unit_rows"]
