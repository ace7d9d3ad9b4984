"""The text encoder of a shop: vectors of the catalogue's own texts, or pretrained English ones where they fit and are installed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from onesearch.data.market import Market
from onesearch.extras import MODULES
from onesearch.tokenization_sid.embedding.alignment import align
from onesearch.tokenization_sid.embedding.configs import AlignmentConfig, TextEncoderConfig
from onesearch.tokenization_sid.embedding.text_encoder import base_encoder

from .market_facts import MarketFacts
from .recipe import Recipe

ENGLISH = "english"
"""Name of the pretrained vectors, and of the extra that installs them."""

ENOUGH = 100
"""Number of validation requests from which the encoders are compared on them."""

CUTOFF = "recall@10"
"""Measure of the comparison: share of a request's items among the nearest ten of the whole catalogue."""


@dataclass(frozen=True)
class EncoderChoice:
    """The chosen encoder and the reason.

    Args:
        config: config of the encoder.
        reason: a sentence.
    """

    config: TextEncoderConfig
    reason: str

    def __str__(self) -> str:
        return f"text vectors: {self.reason}"


def choose_encoder(market: Market, facts: MarketFacts, recipe: Recipe) -> EncoderChoice:
    """Choose between the encoder of a recipe, which learns from the catalogue's own texts, and pretrained English vectors.

    1. Texts in another language, or an installation without the extra ``english``, keep the catalogue's own.
    2. With fewer than `ENOUGH` validation requests, English texts get the pretrained vectors: they know the meaning of words that a
       small catalogue shows a few times only.
    3. Otherwise both are aligned with the training searches, as the recipe says, and compared on the validation requests.

    Args:
        market: the market.
        facts: its counts.
        recipe: its `encoder` and `alignment` are compared.
    """
    own, english = recipe.encoder, TextEncoderConfig(model=ENGLISH)
    if facts.language != "en":
        return EncoderChoice(own, "of the catalogue's own texts")
    if any(find_spec(module) is None for module in MODULES[ENGLISH]):
        return EncoderChoice(
            own,
            "of the catalogue's own texts; they are English, and pretrained vectors often find more of what queries mean (`pip install "
            "onesearch[english]`, and the same command with --overwrite)",
        )
    requests = facts.validation.requests
    if requests < ENOUGH or recipe.alignment is None:
        return EncoderChoice(english, f"pretrained English ones ({requests:,} validation requests are too few to compare them)")
    found = {config: _recall(market, config, recipe.alignment) for config in (own, english)}
    better = english if found[english] >= found[own] else own
    words = "pretrained English ones" if better is english else "of the catalogue's own texts"
    return EncoderChoice(
        better,
        f"{words} ({CUTOFF} on {requests:,} validation requests after the alignment: {found[english]:.3f} pretrained, {found[own]:.3f} of "
        "the own texts)",
    )


def _recall(market: Market, encoder: TextEncoderConfig, alignment: AlignmentConfig) -> float:
    """Recall of the nearest items on the validation requests, over purchases and clicks, after an encoder's alignment."""
    after = align(market, base_encoder(market, encoder), alignment).report["after"]["recall"]
    counts = {kind: part["requests"] for kind, part in after.items()}
    return sum(counts[kind] * part.get(CUTOFF, 0.0) for kind, part in after.items()) / max(sum(counts.values()), 1)


__all__ = ["ENGLISH", "EncoderChoice", "choose_encoder"]
