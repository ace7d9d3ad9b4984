"""`recipe: auto`: settings that follow from the counts of a market, each with its reason in words.

The result is a plain recipe. All thresholds are our choice, made on markets that differ (docs/results.md, "Sixteen shops").
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from onesearch.data.splits import SHARES, SplitConfig
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.tokenization_sid.embedding.configs import AlignmentConfig, TextEncoderConfig
from onesearch.tokenization_sid.templates import PromptLayout
from onesearch.trainers.configs import ExampleConfig, ModelConfig, StageConfig, TrainingConfig
from onesearch.trainers.reward.reward_config import RewardConfig

from .market_facts import MarketFacts
from .preconditions import epoch_examples
from .recipe import EvaluationConfig, MarketConfig, Recipe

AUTO = "auto"
"""Name that stands for the recipe of `auto_recipe`."""

SMALL_LOG = 10_000
"""Number of answered searches below which a tenth of them, instead of a twentieth, is kept for validation."""

ENOUGH = 30
"""Number of validation requests from which evaluations during the training choose its best weights."""

ALIGNABLE = 50
"""Number of answered training searches from which the text encoder is aligned with them."""

REWARDABLE = 100
"""Number of answered training searches from which a reward model is trained."""

PER_ITEM = 20
"""Number of clicks and purchases per item below which words and facets of the items are trained beside them."""

PASSES_PER_ITEM, PASSES_PER_TARGET = 100, 2.5
"""Examples that the model sees in all: so many for each item, and for each click and purchase."""

FEWEST_PASSES, MOST_PASSES = 30_000, 140_000
"""Bounds of these examples. From 5,000 items on, the upper one grows with the catalogue; the lower one is at most 1,000 per item."""

TWO_PROCESSES = 200_000
"""Number of examples that the model sees in all from which two processes train together; for fewer, starting them does not pay."""

REWARD_STEPS = 300
"""Number of steps that the training of the reward model has at least."""


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
    training, processes = _training(facts, processes, reasons)
    recipe = Recipe(
        name=name,
        market=market or MarketConfig(),
        encoder=_encoder(facts),
        alignment=_alignment(facts, reasons),
        processes=processes,
        training=training,
        reward=_reward(facts, reasons),
        search=SearchConfig(num_beams=100, rank_by="item"),
        evaluation=EvaluationConfig(tune_cascade=facts.validation.requests >= 100, sasrec=False, sample=1000),
    )
    return AutoRecipe(recipe, reasons)


def _encoder(facts: MarketFacts) -> TextEncoderConfig:
    """A static encoder of the catalogue's own texts."""
    is_small = facts.items < 5_000
    return TextEncoderConfig(dimension=64 if is_small else 128, epochs=0, vocab_size=_vocabulary(facts, 4_000, 8_000))


def _vocabulary(facts: MarketFacts, small: int, large: int) -> int:
    """Scripts without blanks have thousands of letters, each of which needs a token."""
    return large if facts.items >= 10_000 or facts.unspaced > 0.2 else small


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


def _training(facts: MarketFacts, processes: int | None, reasons: list[str]) -> tuple[TrainingConfig, int]:
    """Model, prompt, tasks, and number of steps; and the number of processes."""
    copies = 2 if facts.train.requests else 4
    stage = StageConfig("personalised", _tasks(facts, reasons))
    examples = epoch_examples(stage, facts, copies)
    passes = _passes(facts)
    epochs = max(1.0, round(passes / max(examples, 1), 1))
    processes = processes or (2 if epochs * examples >= TWO_PROCESSES else 1)
    batch = 32 if epochs * examples < 60_000 else 64 if epochs * examples < 400_000 else 128
    arguments = {
        "num_train_epochs": epochs,
        "per_device_train_batch_size": max(1, batch // processes),
        "learning_rate": 0.002,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "weight_decay": 0.05,
        "logging_steps": 100,
        "save_total_limit": 1,
        **_evaluations(facts, reasons),
    }
    reasons.append(
        f"training: {examples:,} examples, {epochs:g} passes over them in batches of {batch}, on {processes} processor cores"
    )
    is_small = facts.items < 5_000
    width = ModelConfig(
        text_vocab_size=_vocabulary(facts, 2_000 if is_small else 4_000, 8_000), ffn_dim=256 if is_small else 512
    )
    reasons.append(f"model: width {width.d_model}, {width.encoder_layers} + {width.decoder_layers} layers, from random weights")
    return (
        TrainingConfig(
            model=width,
            prompt=_prompt(facts, reasons),
            examples=ExampleConfig(copies=copies),
            stages=(stage,),
            arguments=arguments,
            validation_requests=300,
            patience=4 if facts.validation.requests >= ENOUGH else None,
            threads=1,
        ),
        processes,
    )


def _tasks(facts: MarketFacts, reasons: list[str]) -> dict[str, float]:
    """Clicks and purchases as far as there are any, and queries made of the catalogue where they are few."""
    tasks: dict[str, float] = {}
    if facts.train.purchases:
        tasks["purchases"] = 1.0
    if facts.train.clicks:
        tasks["clicks"] = 1.0
    targets = facts.train.purchases + facts.train.clicks
    tasks["item-text-to-sid"] = 1.0
    learned = (
        f"{facts.train.purchases:,} purchases and {facts.train.clicks:,} clicks" if targets else "no click and no purchase"
    )
    if targets < PER_ITEM * facts.items:
        tasks["item-words"] = 1.0
        if facts.with_facets:
            tasks["item-facets"] = 1.0
        reasons.append(f"targets: {learned}, and queries made of the items' own words, category, brand and attributes")
    else:
        reasons.append(f"targets: {learned}")
    return tasks


def _passes(facts: MarketFacts) -> float:
    targets = facts.train.purchases + facts.train.clicks
    most = max(MOST_PASSES, MOST_PASSES / 5_000 * facts.items)
    least = min(FEWEST_PASSES, 1_000 * facts.items)
    return min(max(PASSES_PER_ITEM * facts.items + PASSES_PER_TARGET * targets, least), most)


def _evaluations(facts: MarketFacts, reasons: list[str]) -> dict[str, object]:
    """Evaluations at every eighth of the training, where enough requests make them worth their time."""
    requests = facts.validation.requests
    if requests < ENOUGH:
        reasons.append(f"best weights: the last ones ({requests:,} validation requests are too few to choose by)")
        return {"eval_strategy": "no", "save_strategy": "epoch"}
    reasons.append(
        f"best weights: those with the highest HR@10 and MRR@10 on {min(requests, 300):,} validation requests, measured eight times"
    )
    return {"eval_strategy": "steps", "eval_steps": 0.125, "save_strategy": "steps", "save_steps": 0.125}


def _prompt(facts: MarketFacts, reasons: list[str]) -> PromptLayout:
    """The latest items of the user, where users have any."""
    train = facts.train
    with_history = train.requests > 0 and train.with_history >= 0.2 * train.requests
    if with_history:
        share = train.with_history / train.requests
        reasons.append(
            f"prompt: the query and the user's last 10 items ({100 * share:.0f} % of the training searches have a history)"
        )
    else:
        reasons.append("prompt: the query alone (few training searches, or none, have a history)")
    return PromptLayout(
        items=10 if with_history else 0,
        queries=0,
        sid=False,
        user=False,
        long_view_tokens=0,
        profile=False,
        default_history=False,
    )


__all__ = ["AUTO", "AutoRecipe", "auto_recipe", "auto_split"]
