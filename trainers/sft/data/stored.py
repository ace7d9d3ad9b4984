"""Examples in Arrow files, which `datasets` maps into memory: each task is tokenised once."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
from datasets import Dataset, concatenate_datasets

from onesearch.files import atomic_file

from ...tasks import TASKS
from .examples import ExampleBuilder

logger = logging.getLogger(__name__)


def stored_examples(builder: ExampleBuilder, task: str, split: str, folder: Path) -> Dataset:
    """Examples of one task from an Arrow file; the file is written first unless it exists.

    The name of the file holds a fingerprint of everything that the examples depend on: task, tables, codes, tokenizer, layout and
    configuration.

    Args:
        builder: makes the examples.
        task: one of `TASKS`.
        split: split of the market's sessions.
        folder: folder of the file.
    """
    path = folder / f"{task}-{split}-{_fingerprint(builder, task, split)[:16]}.arrow"
    if not path.exists():
        rows = 0
        with atomic_file(path) as temporary, pa.ipc.new_stream(str(temporary), builder.schema) as writer:
            for chunk in builder.chunks(task, split):
                writer.write_table(chunk)
                rows += len(chunk)
        logger.info("%s examples of %s (%s)", f"{rows:,}", task, split)
    return Dataset.from_file(str(path))


def mixed_examples(builder: ExampleBuilder, weights: Mapping[str, float], split: str, folder: Path) -> Dataset:
    """Examples of several tasks in one dataset.

    Args:
        builder: makes the examples.
        weights: weight of each task. 1 takes every example once, 2 twice, 0.5 a random half, which stays the same in every epoch.
        split: split of the market's sessions.
        folder: folder of the stored examples.
    """
    parts = []
    random = np.random.default_rng(builder.config.seed)
    for task, weight in weights.items():
        dataset = stored_examples(builder, task, split, folder)
        copies, fraction = divmod(weight, 1)
        parts += [dataset] * int(copies)
        if fraction:
            chosen = random.choice(len(dataset), round(fraction * len(dataset)), replace=False)
            parts.append(dataset.select(np.sort(chosen)))
    return concatenate_datasets(parts)


def _fingerprint(builder: ExampleBuilder, task: str, split: str) -> str:
    """SHA-256 of everything that the examples of a task depend on."""
    files = sorted(builder.tables.glob("*.parquet")) if builder.tables is not None else []
    parts: dict[str, Any] = {
        "task": [task, asdict(TASKS[task]), split],
        "tables": [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files] or uuid4().hex,
        "tokenizer": _sha256(builder.tokenizer.backend_tokenizer.to_str().encode()),
        "layout": asdict(builder.tokenizer.prompt),
        "config": [asdict(builder.config), builder.language],
        "keywords": None if builder.keywords is None else [list(words) for words in builder.keywords],
        "codes": [_sha256(codes.tobytes()) for codes in (builder.views.item_sids, builder.views.query_sids)],
    }
    if builder.made_lists:
        parts["made_lists"] = builder.made_lists
    if builder.requests is not None:
        parts["requests"] = _sha256(builder.requests.tobytes())
    return _sha256(json.dumps(parts, sort_keys=True).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


__all__ = ["mixed_examples", "stored_examples"]
