"""`recipe: auto`: settings that follow from the counts of a market, each with its reason in words.

The result is a plain recipe. All thresholds are our choice, made on markets that differ (docs/results.md, "Sixteen shops").
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import NamedTuple

from onesearch.data.splits import SHARES, SplitConfig
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.tokenization_sid.embedding.configs import AlignmentConfig, TextEncoderConfig
from onesearch.trainers.dense.dense_config import DenseConfig
from onesearch.trainers.reward.reward_config import RewardConfig
from onesearch.trainers.soft.soft_config import SoftTargetConfig

from .auto_training import auto_training, vocabulary
from .market_facts import MarketFacts
from .recipe import EvaluationConfig, MarketConfig, Recipe

AUTO = "auto"
"""Name that stands for the recipe of `auto_recipe`."""

SMALL_LOG = 10_000
"""Number of answered searches below which a tenth of them, instead of a twentieth, is kept for validation."""

ALIGNABLE = 50
"""Number of answered training searches from which the text encoder is aligned with them."""

REWARDABLE = 100
"""Number of answered training searches from which a reward model is trained."""

TEACHABLE, TAUGHT_PER_ITEM = 5_000, 10
"""Number of answered training searches, and of their clicks and purchases per item, from which the generator also learns from a reward
model: one that saw less teaches the generator its mistakes."""

PROJECTABLE = 1000
"""Number of answered training searches from which the dense term has a projection that learns from them."""

REWARD_STEPS = 300
"""Number of steps that the training of the reward model has at least."""

TEACHER_WEIGHT = 0.8
"""Share of the teacher in the generator's loss (docs/results.md, "Soft targets and regularisation")."""


TEXT_TEACHER_WEIGHT = 0.9
"""The same where the text match is the teacher (docs/results.md, "A catalogue without behaviour")."""

TEXT_TEACHER_PATHS = 4
"""Number of further items of the text match whose codes a step teaches there."""

TEXT_MATCH = "bm25s"
"""Module of the text match, which the extra ``evaluation`` installs."""


class AutoRecipe(NamedTuple):
    """A recipe and the reasons for its values.

    Attributes:
        recipe: the recipe. Its `codes` are None: they are chosen once the vectors of the items are known (`choose_codes`).
        reasons: one sentence for each decision.
    """

    recipe: Recipe
    reasons: list[str]


def auto_split(answered: int) -> SplitConfig | None:
    """The split of a log with so many answered searches; None for a catalogue without any."""
    if not answered:
        return None
    return SplitConfig("time", validation=0.1 if answered < SMALL_LOG else SHARES["validation"], test=SHARES["test"])


def auto_recipe(facts: MarketFacts, name: str, market: MarketConfig | None = None, processes: int | None = None) -> AutoRecipe:
    """Choose all settings of a run by the counts of its market.

    Args:
        facts: counts of the market.
        name: name of the recipe.
        market: source of the market, which becomes part of the recipe.
        processes: number of processes that train together; None takes two for a training of minutes, and one for a shorter one.
    """
    reasons: list[str] = []
    alignment, reward = _alignment(facts, reasons), _reward(facts, reasons)
    soft_targets = _soft_targets(facts, reward, reasons)
    training, processes = auto_training(facts, soft_targets, processes, reasons)
    recipe = Recipe(
        name=name,
        market=market or MarketConfig(),
        encoder=own_encoder(facts),
        alignment=alignment,
        processes=processes,
        training=training,
        dense=_dense(facts, reasons),
        reward=reward,
        search=SearchConfig(num_beams=100, rank_by="item"),
        evaluation=EvaluationConfig(tune_cascade=facts.validation.requests >= 100, sasrec=False, sample=1000),
    )
    return AutoRecipe(recipe, reasons)


def own_encoder(facts: MarketFacts) -> TextEncoderConfig:
    """A static encoder of the catalogue's own texts."""
    is_small = facts.items < 5_000
    return TextEncoderConfig(dimension=64 if is_small else 128, epochs=0, vocab_size=vocabulary(facts, 4_000, 8_000))


def _alignment(facts: MarketFacts, reasons: list[str]) -> AlignmentConfig | None:
    requests = facts.train.requests
    if requests < ALIGNABLE:
        reasons.append(f"text encoder: from the texts alone ({requests:,} answered training searches, fewer than {ALIGNABLE})")
        return None
    reasons.append(f"text encoder: aligned with {requests:,} answered training searches")
    return AlignmentConfig()


def _reward(facts: MarketFacts, reasons: list[str]) -> RewardConfig | None:
    requests = facts.train.requests
    if requests < REWARDABLE:
        reasons.append(f"reward model: none ({requests:,} answered training searches, fewer than {REWARDABLE})")
        return None
    config = RewardConfig()
    epochs = max(config.epochs, min(10, round(REWARD_STEPS * config.batch_size / requests)))
    reasons.append(
        f"reward model: {epochs} passes over the training searches; it is served only if validation shows that it helps"
    )
    return replace(config, epochs=epochs)


def _soft_targets(facts: MarketFacts, reward: RewardConfig | None, reasons: list[str]) -> SoftTargetConfig | None:
    """The reward model as a teacher of the generator; the text match where nearly all queries are made of the catalogue."""
    train = facts.train
    per_item = (train.purchases + train.clicks) / max(facts.items, 1)
    if reward is None and find_spec(TEXT_MATCH) is not None:
        reasons.append("teacher: the text match says which items fit each query that is made of the catalogue")
        return SoftTargetConfig(teacher="none", made_queries=True, weight=TEXT_TEACHER_WEIGHT, paths=TEXT_TEACHER_PATHS)
    if reward is None or train.requests < TEACHABLE or per_item < TAUGHT_PER_ITEM:
        reasons.append(
            f"teacher: none ({train.requests:,} answered training searches with {per_item:.1f} clicks and purchases per item; a "
            f"reward model teaches the generator from {TEACHABLE:,} and {TAUGHT_PER_ITEM} on)"
        )
        return None
    reasons.append(
        f"teacher: a reward model, trained before the generator, says which items it expects after each of {train.requests:,} searches"
    )
    return SoftTargetConfig(weight=TEACHER_WEIGHT, reward=reward)


def _dense(facts: MarketFacts, reasons: list[str]) -> DenseConfig:
    """The dense term, with a projection where there are enough searches to learn it from."""
    requests = facts.train.requests
    if requests < PROJECTABLE:
        reasons.append("dense term: the text vectors of query and items; validation says how much it counts, if it can")
        return DenseConfig(epochs=0)
    reasons.append(
        f"dense term: text vectors, and a projection of the generator's states that learns from {requests:,} searches; "
        "validation says how much it counts"
    )
    return DenseConfig()


__all__ = ["AUTO", "AutoRecipe", "auto_recipe", "auto_split", "own_encoder"]
