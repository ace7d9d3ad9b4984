"""Text encoders of a market: the static encoder, trained on the market itself, or one that was trained elsewhere, by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onesearch.data.languages import market_language
from onesearch.data.market import Market
from onesearch.data.requests import Request, each_request, request_rows
from onesearch.data.text import item_texts

from ..parallel.threads import fixed_threads
from .configs import BANDED_FACTS, TextEncoderConfig
from .pretrained import load_encoder_named
from .static_encoder import (
    TokenisedOnce,
    add_static_tokens,
    blank_rows,
    static_encoder,
    static_module,
    threads_of,
    without_card,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from ..item_facts import ItemFacts


def build_text_encoder(market: Market, config: TextEncoderConfig, facts: ItemFacts | None = None) -> SentenceTransformer:
    """Load the named encoder, or train the static one on the market's texts and training sessions.

    Args:
        market: items and sessions.
        config: config of the encoder.
        facts: facts of the items that the encoder reads; None reads the text fields alone.

    Raises:
        ValueError: the encoder is a named one, and a fact enters as tokens that it has not learned.
    """
    refuse_untrained(config, facts)
    encoder = base_encoder(market, config, facts)
    if config.model is None and config.epochs and len(request_rows(market, "train")):
        requests = each_request(market, "train", with_context=False)
        pairs = positive_pairs(market, requests, config.max_pairs, config.seed, facts)
        with blank_rows(encoder):
            _train(encoder, pairs, config)
    return encoder


def base_encoder(market: Market, config: TextEncoderConfig, facts: ItemFacts | None = None) -> SentenceTransformer:
    """Load the named encoder, or make the static one by latent semantic analysis of the item texts, without behaviour.

    Args:
        market: items, and training sessions if `facts` counts in them.
        config: config of the encoder.
        facts: facts of the items that the encoder reads. Their reserved tokens join the vocabulary of a named encoder with vectors that
            say nothing before they are trained.
    """
    markers = [] if facts is None else facts.markers
    if config.model is None:
        return static_encoder(texts_of(market, facts), config, markers, market_language(market))
    encoder = load_encoder_named(config.model)
    if markers:
        _add_tokens(encoder, markers)
    return encoder


def refuse_untrained(config: TextEncoderConfig, facts: ItemFacts | None) -> None:
    """Raise if a named encoder would read tokens that it has not learned."""
    if config.model is not None and facts is not None and facts.markers:
        banded = [name for name in config.facts if name in BANDED_FACTS]
        raise ValueError(
            f"encoder.facts={list(config.facts)}: {', '.join(banded)} enter as tokens that {config.model} has to learn; add `alignment` to "
            "the recipe (`onesearch sids align`), or leave them out"
        )


def texts_of(market: Market, facts: ItemFacts | None) -> list[str]:
    """What the encoder reads of each item: its text fields, and its facts unless they are None."""
    return item_texts(market) if facts is None else facts.texts(market)


def _add_tokens(encoder: SentenceTransformer, tokens: Sequence[str]) -> None:
    """Add reserved tokens: to a transformer with the mean of the other token vectors, to static vectors with zeros, which add nothing."""
    import torch
    from sentence_transformers.sentence_transformer.modules import Transformer

    if static_module(encoder) is not None:
        add_static_tokens(encoder, tokens)
        return
    first = encoder[0]
    if not isinstance(first, Transformer):
        raise ValueError(
            f"a {type(first).__name__} takes no new tokens; name a transformer, or leave {', '.join(BANDED_FACTS)} out of encoder.facts"
        )
    body = first.auto_model
    before = len(encoder.tokenizer)
    encoder.tokenizer.add_tokens(list(tokens), special_tokens=True)
    body.resize_token_embeddings(len(encoder.tokenizer), mean_resizing=False)
    weight = body.get_input_embeddings().weight
    with torch.no_grad():
        weight[before:] = weight[:before].mean(dim=0)


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


def positive_pairs(
    market: Market, requests: Iterable[Request], limit: int, seed: int, facts: ItemFacts | None = None
) -> tuple[list[str], list[str]]:
    """Texts that belong together in the requests.

    A query belongs to the items that were bought after it, or clicked if none was bought. The last item of the user's history belongs to
    the same items.

    Args:
        market: item texts.
        requests: requests of the training split.
        limit: upper bound of the pairs, sampled if there are more.
        seed: seeds the sampling.
        facts: facts that the texts of items hold; None for the text fields alone.

    Returns:
        Anchors and positives, aligned.
    """
    text_of = dict(zip(market.items["item_id"], texts_of(market, facts)))
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


def _train(encoder: SentenceTransformer, pairs: tuple[list[str], list[str]], config: TextEncoderConfig) -> None:
    """Train the token vectors contrastively on `positive_pairs`; equal texts in a batch are no negatives of each other."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.base.sampler import BatchSamplers
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    anchors, positives = pairs
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
    without_card(encoder)
    trainer = SentenceTransformerTrainer(
        model=encoder,
        args=arguments,
        train_dataset=Dataset.from_dict({"anchor": anchors, "positive": positives}),
        loss=MultipleNegativesRankingLoss(encoder),
    )
    if static_module(encoder) is not None:
        trainer.data_collator.preprocess_fn = TokenisedOnce(encoder)
    with fixed_threads(threads_of(encoder)):
        trainer.train()


__all__ = ["base_encoder", "build_text_encoder", "embed_texts", "positive_pairs", "refuse_untrained", "texts_of", "unit_rows"]
