"""OneSearch's aligned collaborative and semantic embedding: the encoder learns from what followed which query (arXiv 2509.03236, KHQE).

`align_run` writes the trained encoder (a sentence-transformers folder) and ``alignment.json`` to ``embeddings/``. Embeddings of another
encoder that were there are removed; `onesearch.tokenization_sid.embedding.embeddings.embed_market` makes them anew with this one.

Only sessions of the training split are mined (`alignment_examples.py`), judgements of queries in held-out sessions are left out, and the
validation split is measured before and after (`alignment_measures.py`).
"""

from __future__ import annotations

import logging
import os
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from onesearch.data.market import Market
from onesearch.data.session_pairs import query_rows, session_items
from onesearch.files import RunFolder, write_json

from ..item_facts import ItemFacts
from .alignment_examples import collect_examples
from .alignment_gaps import WEIGHT_0, left_out_sentence, losses_left_out
from .alignment_measures import measure
from .alignment_training import add_projection, train
from .configs import AlignmentConfig, TextEncoderConfig
from .embeddings import ALIGNMENT_NAME, distinct_queries, written_embeddings
from .static_encoder import static_module
from .text_encoder import base_encoder, embed_texts, texts_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)


class Aligned(NamedTuple):
    """Result of an alignment.

    Attributes:
        encoder: the trained encoder.
        report: ``config``, ``examples`` (numbers of mined and kept examples per kind), ``left_out`` (losses without examples and the
            reason of each, see `losses_left_out`), ``split`` that was measured, and the results of
            `measure` as ``before`` and ``after``.
    """

    encoder: SentenceTransformer
    report: dict[str, Any]


def align_run(
    run: RunFolder, encoder: TextEncoderConfig | None = None, config: AlignmentConfig | None = None, progress: bool = False
) -> dict[str, Any]:
    """Align the encoder of a run with its training sessions, and write it with ``alignment.json`` to ``embeddings/``.

    The folder appears whole or not at all.

    Args:
        run: run with a market.
        encoder: base encoder: the static one without behaviour, or a sentence-transformers model by name. None takes the defaults.
        config: losses, mining and training; None takes the defaults.
        progress: show progress bars.

    Returns:
        Content of ``alignment.json``: ``schema``, ``base`` (the config of the base encoder), and the report of `Aligned`.

    Raises:
        ValueError: there are several processes, or nothing to align on; see `align`.
    """
    encoder, config = encoder or TextEncoderConfig(), config or AlignmentConfig()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("alignment trains in one process; run `onesearch sids align` without torchrun, then embed with it")
    market = Market.load(run.require("market", "onesearch data"))
    facts = ItemFacts.fit(market, encoder)
    aligned = align(market, base_encoder(market, encoder, facts), config, progress, facts)
    report = {"schema": 1, "base": asdict(encoder), **aligned.report}
    with written_embeddings(run) as folder:
        aligned.encoder.save(str(folder / run.encoder.name), create_model_card=False)
        facts.save(folder)
        write_json(folder / ALIGNMENT_NAME, report)
    return report


def align(
    market: Market,
    encoder: SentenceTransformer,
    config: AlignmentConfig,
    progress: bool = False,
    facts: ItemFacts | None = None,
) -> Aligned:
    """Train an encoder on the training sessions of a market, and measure it on the validation sessions before and after.

    Args:
        market: sessions, catalogue and judgements.
        encoder: base encoder, trained in place.
        config: losses, mining and training.
        progress: show progress bars.
        facts: facts of the items that the encoder reads; `encoder` knows their reserved tokens (`base_encoder`). None reads the text fields
            alone.

    Raises:
        ValueError: no training session has a query and a click or purchase, no example is left, the dimension exceeds the encoder's, or a
            frozen transformer would have to learn the tokens of facts.
    """
    if config.frozen and static_module(encoder) is None and facts is not None and facts.markers:
        raise ValueError(
            f"alignment.frozen=True leaves the tokens of the facts {', '.join(facts.facts)} of a transformer untrained; set it to False, "
            "or leave the banded facts out of encoder.facts"
        )
    queries, texts = distinct_queries(market), texts_of(market, facts)
    _refuse_silent_sessions(market)
    config = with_defaults(config, encoder)
    query_vectors = embed_texts(encoder, queries, progress=progress)
    item_vectors = embed_texts(encoder, texts, progress=progress)
    before = measure(market, queries, query_vectors, item_vectors)
    examples = collect_examples(market, queries, config, query_vectors, item_vectors)
    add_projection(encoder, config, item_vectors)
    train(encoder, queries, texts, examples, config, progress)
    after = measure(market, queries, embed_texts(encoder, queries), embed_texts(encoder, texts))
    report: dict[str, Any] = {
        "config": asdict(config),
        "examples": examples.counts,
        "split": "validation",
        "before": before,
        "after": after,
    }
    report["left_out"] = losses_left_out(report)
    sentence = left_out_sentence(report)
    if sentence is not None:
        level = logging.INFO if set(report["left_out"].values()) == {WEIGHT_0} else logging.WARNING
        logger.log(level, "%s", sentence)
    return Aligned(encoder, report)


def with_defaults(config: AlignmentConfig, encoder: SentenceTransformer) -> AlignmentConfig:
    """Config with the values filled in that depend on the kind of encoder: the cosine of the filter and the learning rate."""
    static = static_module(encoder) is not None
    least, rate = config.mining.min_cosine, config.learning_rate
    if least is None:
        least = -1.0 if static else 0.6
    if rate is None and config.frozen:
        rate = 1e-3
    if rate is None:
        rate = 3e-2 if static else 2e-5
    return replace(config, mining=replace(config.mining, min_cosine=least), learning_rate=rate)


def _refuse_silent_sessions(market: Market) -> None:
    """Raise unless a training session has a query and a click or purchase."""
    if not len(market.sessions):
        raise ValueError("the market has no sessions, and alignment learns from what followed queries; build SIDs without it")
    sessions, _ = session_items(market, "train", ("clicked", "purchased"))
    if not len(sessions):
        raise ValueError(
            f"none of the training sessions ({len(market.sessions):,} in all splits) has a click or a purchase of an item of the "
            "catalogue; check the market with `onesearch data check`, or build SIDs without alignment"
        )
    if not (query_rows(market, distinct_queries(market))[sessions] >= 0).any():
        raise ValueError("no training session with a click or a purchase has a query; build SIDs without alignment")


__all__ = ["Aligned", "align", "align_run", "with_defaults"]
