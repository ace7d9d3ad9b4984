"""Which checkpoint a stopped training goes on from: a kill may have left the last one half-written."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

logger = logging.getLogger(__name__)


def is_complete(checkpoint: Path) -> bool:
    """Whether a trainer's checkpoint was written to its end: its state is the last of its files."""
    try:
        state = json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return False
    weights = ("*.safetensors", "*.bin", "pytorch_model_fsdp_*")
    return "global_step" in state and any(any(checkpoint.glob(pattern)) for pattern in weights)


def last_complete_checkpoint(folder: str | Path) -> str | None:
    """The newest whole ``checkpoint-<step>`` of a training's folder, None if there is none. Half-written ones are named in a warning."""
    found = {}
    for path in Path(folder).glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        step = path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-")
        if path.is_dir() and step.isdigit():
            found[int(step)] = path
    for _, path in sorted(found.items(), reverse=True):
        if is_complete(path):
            return str(path)
        logger.warning("%s is half-written (the training was stopped while saving it); going back to the one before", path)
    return None


def unfinish(checkpoint: Path) -> None:
    """Mark a checkpoint that is about to be written over as half-written."""
    (checkpoint / TRAINER_STATE_NAME).unlink(missing_ok=True)
