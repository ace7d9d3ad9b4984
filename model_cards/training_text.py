"""The part of a card about training: data, model and stages, read from the recipe, the weights and the log of a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from safetensors import safe_open

from onesearch.data.market import Market
from onesearch.data.splits import describe
from onesearch.files import RunFolder, read_json

from .metadata import read_recipe

SHOWN_ARGUMENTS = (
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "lr_scheduler_type",
    "weight_decay",
    "sid_softmax",
    "seed",
)
"""Arguments of the trainer that the card shows, where the recipe or the stage sets them."""


def training_text(run: RunFolder, market: Market) -> str:
    """Markdown about the data, the model and the stages of a run."""
    recipe = read_recipe(run)
    lines = [_data_line(market), _model_line(run.checkpoint, recipe)]
    table = _stage_table(recipe, _last_entries(run))
    if recipe.get("reward") is not None:
        lines.append(
            "* Reward model: three towers over the user's whole history, trained on the training split; folder `reward/`."
        )
    return "\n".join(lines) + (f"\n\n{table}" if table else "")


def _data_line(market: Market) -> str:
    rows = market.info.get("rows", {})
    counts = ", ".join(f"{rows[name]:,} {name}" for name in ("items", "users", "sessions") if name in rows)
    rule = market.info.get("split")
    split = f" Split: {describe(rule)}." if rule else ""
    return f'* Data: market "{market.info.get("name", "")}"{f", {counts}" if counts else ""}.{split}'


def _model_line(checkpoint: Path, recipe: dict[str, Any]) -> str:
    config = read_json(checkpoint / "config.json")
    kind = "encoder-decoder (BART)" if config.get("is_encoder_decoder") else "decoder-only (Qwen3)"
    origin = recipe.get("training", {}).get("model", {}).get("checkpoint")
    start = (
        f"started from {Path(origin).name if Path(origin).exists() else origin}" if origin else "trained from random weights"
    )
    lora = ", with low-rank adapters that are merged" if recipe.get("training", {}).get("lora") else ""
    return f"* Model: {kind}, {count_parameters(checkpoint):,} parameters, {start}{lora}."


def count_parameters(checkpoint: Path) -> int:
    """Number of parameters in the weights of a checkpoint; only the headers of the files are read."""
    total = 0
    for path in sorted(checkpoint.glob("model*.safetensors")):
        with safe_open(path, "np") as file:
            total += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())
    return total


def _last_entries(run: RunFolder) -> dict[str, dict[str, Any]]:
    """Stage → the last entry of its log, which holds the number of steps and the time."""
    path = run.training / "log.json"
    log = read_json(path) if path.is_file() else []
    return {entry["stage"]: entry for entry in log if "train_runtime" in entry and "stage" in entry}


def _stage_table(recipe: dict[str, Any], log: dict[str, dict[str, Any]]) -> str:
    """A row for each stage; empty without a recipe."""
    training = recipe.get("training", {})
    stages = training.get("stages") or ()
    lines = ["| stage | tasks (weight) | steps | seconds | settings |", "|---|---|---|---|---|"] if stages else []
    for stage in stages:
        tasks = ", ".join(f"{name} ({weight:g})" for name, weight in (stage.get("tasks") or {}).items())
        values = {**(training.get("arguments") or {}), **(stage.get("arguments") or {})}
        shown = ", ".join(f"{name} {values[name]}" for name in SHOWN_ARGUMENTS if name in values)
        entry = log.get(stage["name"], {})
        steps = f"{entry['step']:,}" if "step" in entry else "–"
        seconds = f"{entry['train_runtime']:.0f}" if "train_runtime" in entry else "–"
        lines.append(f"| {stage['name']} | {tasks} | {steps} | {seconds} | {shown} |")
    return "\n".join(lines)


__all__ = ["count_parameters", "training_text"]
