"""Copies of the tiny run without its later parts, for tests that train or build anew."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from onesearch import RunFolder

UNTRAINED = ("market", "embeddings", "sids")


def copied(source: RunFolder, folder: Path, parts: Sequence[str] = UNTRAINED) -> RunFolder:
    """Some parts of a run in a new folder."""
    run = RunFolder(folder)
    for part in parts:
        shutil.copytree(getattr(source, part), getattr(run, part))
    return run
