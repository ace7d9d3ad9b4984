"""The lists of a run's teacher: found by their fingerprint, or made."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from onesearch.data.requests import request_rows
from onesearch.files import RunFolder
from onesearch.views.session_views import SessionViews

from ..preference.session_scores import recombined
from .lists import TeacherLists, given_lists
from .soft_config import SoftTargetConfig
from .teachers import build_teacher

logger = logging.getLogger(__name__)

FOLDER_NAME = "soft-targets"
"""Folder of the lists, in ``training/`` of a run."""

OF_TRAINING = ("temperature", "weight", "paths", "made_queries")
"""Fields of the config on which the lists do not depend."""


def lists_path(run: RunFolder, config: SoftTargetConfig, fingerprint: str) -> Path:
    """File of the lists with a fingerprint."""
    return run.training / FOLDER_NAME / f"{config.teacher}-{fingerprint[:16]}.parquet"


def make_lists(run: RunFolder, views: SessionViews, config: SoftTargetConfig) -> TeacherLists | None:
    """The lists of all training requests of a run, and of `config.unseen` further ones; a file with them is written unless it exists.

    Training a teacher draws random numbers: seed them anew afterwards.

    Returns:
        The lists; None for the teacher ``none`` and, with a warning, for a market without any training request.

    Raises:
        FileNotFoundError: the file does not exist, and this is one of several processes of torchrun, which would train the
            teacher together.
        ValueError: the teacher has nothing to learn from, or a given file does not fit the market.
    """
    if config.teacher == "none":
        return None
    if not len(request_rows(views.market, "train")):
        logger.warning("soft targets are left out: no training session has both a query and a click or purchase")
        return None
    fingerprint = lists_fingerprint(run, views, config)
    path = lists_path(run, config, fingerprint)
    if not path.is_file():
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise FileNotFoundError(
                f"{path} does not exist: one process makes the teacher's lists before several train. `onesearch run` does so; before "
                "torchrun by hand, call onesearch.trainers.training.prepare_teacher(run, config)"
            )
        lists = _made(run, views, config)
        provenance = {"teacher": config.teacher, "config": asdict(config)}
        lists.save(path, fingerprint, provenance)
        logger.info(
            "soft targets: %s lists of the teacher %s, %.1f items each",
            f"{len(lists):,}",
            config.teacher,
            len(lists.items.values) / max(len(lists), 1),
        )
    return TeacherLists.load(path, fingerprint)


def _made(run: RunFolder, views: SessionViews, config: SoftTargetConfig) -> TeacherLists:
    market = views.market
    if config.teacher == "file":
        session_ids = market.sessions.data.column("session_id").to_pylist()
        return given_lists(str(config.file), session_ids, views.logs.item_ids.tolist(), config.items)
    rows = request_rows(market, "train")
    users, queries = recombined(rows, views.logs.query_rows, round(config.unseen * len(rows)), config.seed)
    return TeacherLists.of_teacher(
        build_teacher(run, views, config), np.concatenate([rows, users]), np.concatenate([rows, queries])
    )


def lists_fingerprint(run: RunFolder, views: SessionViews, config: SoftTargetConfig) -> str:
    """SHA-256 of everything that the lists depend on: tables, embeddings, codes and settings."""
    files = [*sorted(run.market.glob("*.parquet")), *sorted(run.embeddings.glob("*.safetensors"))]
    if config.file is not None:
        files.append(Path(config.file))
    settings: dict[str, Any] = {name: value for name, value in asdict(config).items() if name not in OF_TRAINING}
    parts = {
        "files": [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files],
        "codes": hashlib.sha256(views.item_sids.tobytes()).hexdigest(),
        "config": settings,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


__all__ = ["FOLDER_NAME", "lists_fingerprint", "lists_path", "make_lists"]
