"""The training of `recipe: auto`: model, prompt, targets and number of steps by the counts of a market, each with its reason in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onesearch.devices import count_gpus
from onesearch.tokenization_sid.templates import PromptLayout
from onesearch.trainers.configs import ExampleConfig, ModelConfig, StageConfig, TrainingConfig
from onesearch.trainers.soft.soft_config import SoftTargetConfig

from .market_facts import SHORT_HISTORY, MarketFacts
from .preconditions import epoch_examples

ENOUGH = 30
"""Number of validation requests from which evaluations during the training choose its best weights."""

PER_ITEM = 20
"""Number of clicks and purchases per item below which words and facets of the items are trained beside them."""

PASSES_PER_ITEM, PASSES_PER_TARGET = 100, 2.5
"""Examples that the model sees in all: so many for each item, and for each click and purchase."""

FEWEST_PASSES, MOST_PASSES = 30_000, 140_000
"""Bounds of these examples. From 5,000 items on, the upper one grows with the catalogue; the lower one is at most 1,000 per item."""

TWO_PROCESSES = 200_000
"""Number of examples that the model sees in all from which two processes train together on a processor; for fewer, starting them does not
pay."""

LONG_HISTORY = 50
"""Number of latest items of a user that a prompt shows as vectors, each of which takes one place."""

LONG = 0.4
"""Share of the training searches that must have more than `SHORT_HISTORY` items so that prompts show histories as vectors: shorter ones
gained nothing by them, and models without vectors can be exported."""

PERSONAL = 0.2
"""Share of the training searches that must have a history so that prompts show one."""


def auto_training(
    facts: MarketFacts, soft_targets: SoftTargetConfig | None, processes: int | None, reasons: list[str]
) -> tuple[TrainingConfig, int]:
    """Model, prompt, tasks, and number of steps; and the number of processes.

    Args:
        facts: counts of the market.
        soft_targets: teacher over items, if there is one.
        processes: number of processes that train together; None chooses it.
        reasons: receives a sentence for each decision.
    """
    copies = 2 if facts.train.requests else 4
    stage = StageConfig("personalised", _tasks(facts, reasons))
    examples = epoch_examples(stage, facts, copies)
    passes = _passes(facts)
    epochs = max(1.0, round(passes / max(examples, 1), 1))
    gpus = count_gpus()
    processes = processes or (2 if epochs * examples >= TWO_PROCESSES and not gpus else 1)
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
        f"training: {examples:,} examples, {epochs:g} passes over them in batches of {batch}, on {_place(processes, gpus)}"
    )
    is_small = facts.items < 5_000
    width = ModelConfig(
        text_vocab_size=vocabulary(facts, 2_000 if is_small else 4_000, 8_000), ffn_dim=256 if is_small else 512
    )
    reasons.append(f"model: width {width.d_model}, {width.encoder_layers} + {width.decoder_layers} layers, from random weights")
    return (
        TrainingConfig(
            model=width,
            prompt=_prompt(facts, reasons),
            examples=ExampleConfig(copies=copies),
            stages=(stage,),
            arguments=arguments,
            soft_targets=soft_targets,
            validation_requests=300,
            patience=4 if facts.validation.requests >= ENOUGH else None,
            threads=1,
        ),
        processes,
    )


def _place(processes: int, gpus: int) -> str:
    """Words for the GPUs or the processor cores that the processes train on."""
    if gpus:
        return "one GPU" if processes == 1 else f"{processes} GPUs"
    return "one processor core" if processes == 1 else f"{processes} processor cores"


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
    """The query, and the latest items of the user where users have any: as vectors where histories are long."""
    train = facts.train
    layout = PromptLayout(items=0, queries=0, sid=False, user=False, long_view_tokens=0, profile=False, default_history=False)
    if not train.requests or train.with_history < PERSONAL * train.requests:
        reasons.append("prompt: the query alone (few training searches, or none, have a history)")
        return layout
    share = 100 * train.with_history / train.requests
    if train.with_long_history < LONG * train.requests:
        reasons.append(
            f"prompt: the query and the user's last {SHORT_HISTORY} items ({share:.0f} % of the training searches have a history)"
        )
        return replace(layout, items=SHORT_HISTORY)
    long = 100 * train.with_long_history / train.requests
    summed = f", and the mean of their {_listed(facts.repeating)}" if facts.repeating else ""
    reasons.append(
        f"prompt: the query and the user's last {LONG_HISTORY} items, one vector each{summed} ({long:.0f} % of the training searches have "
        f"a history of more than {SHORT_HISTORY} items)"
    )
    return replace(layout, items=LONG_HISTORY, item_form="vector", item_summaries=facts.repeating)


def _listed(names: Sequence[str]) -> str:
    """Names in words: "brand, color and price"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def vocabulary(facts: MarketFacts, small: int, large: int) -> int:
    """Number of tokens. Scripts without blanks have thousands of letters, each of which needs one."""
    return large if facts.items >= 10_000 or facts.unspaced > 0.2 else small


__all__ = ["ENOUGH", "auto_training", "vocabulary"]
