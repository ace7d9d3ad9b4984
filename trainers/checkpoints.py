"""The trainer's checkpoint that a stopped training goes on from. If the process was killed while saving, the last one is incomplete."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

logger = logging.getLogger(__name__)

WEIGHTS = ("*.safetensors", "*.bin", "pytorch_model_fsdp_*")
"""Patterns of the files and folders that hold weights."""


def is_complete(checkpoint: Path) -> bool:
    """Whether a trainer's checkpoint was written to its end: the trainer's state is the last of its files."""
    try:
        state = json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return False
    return "global_step" in state and any(any(checkpoint.glob(pattern)) for pattern in WEIGHTS)


def last_complete_checkpoint(folder: str | Path) -> str | None:
    """Path of the newest complete ``checkpoint-<step>`` in a training's folder, or None. Newer incomplete ones are named in a warning."""
    found = {}
    for path in Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        step = path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-")
        if path.is_dir() and step.isdigit():
            found[int(step)] = path
    for _, path in sorted(found.items(), reverse=True):
        if is_complete(path):
            return str(path)
        logger.warning("%s is half-written (the training was stopped while saving it); trying the checkpoint before it", path)
    return None


def mark_incomplete(checkpoint: Path) -> None:
    """Mark a checkpoint as incomplete before it is overwritten."""
    (checkpoint / TRAINER_STATE_NAME).unlink(missing_ok=True)


__all__ = ["is_complete", "last_complete_checkpoint", "mark_incomplete"]
