"""The folder ``sids/`` of a run as one thing: its parts appear together, and are read only if they belong together.

A build writes all parts to ``.sids.new`` beside the folder and then exchanges the two, so that a build that is killed leaves the old parts
or the new ones, never some of each. Readers compare the fingerprints of the codebooks that the parts name.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError, safe_open

from onesearch.files import RunFolder, exchange, flush_folder, locked, read_json, write_json

from ..item_facts import ITEM_FACTS_NAME
from ..keywords.keyword_files import KEYWORDS_NAME
from ..keywords.recogniser import FOLDER as RECOGNISER_FOLDER
from ..quantizers.base import CODEBOOKS_NAME

ITEM_INDEX_NAME = "sid_index.safetensors"
"""Name of the item index, which the pipeline writes and `onesearch.modeling_onesearch` reads."""

COMPARED = (CODEBOOKS_NAME, KEYWORDS_NAME, "item_codes.safetensors", "query_codes.safetensors", ITEM_INDEX_NAME)
"""Parts that name the fingerprint of their codebooks."""

BUILT_FROM_NAME = "built_from.json"
"""File that says which embeddings the SIDs were built from."""

PARTS = frozenset(
    (
        *COMPARED,
        BUILT_FROM_NAME,
        RECOGNISER_FOLDER,
        "sid_index_updates.safetensors",
        "diagnostics.json",
        "diagnostics.png",
        "diagnostics.svg",
    ),
)
"""Files and folders that a build makes or voids. It keeps everything else in the folder, for instance ``appended/``."""


def new_folder(run: RunFolder) -> Path:
    """Folder in which a build collects the parts of a run's ``sids/`` before they appear."""
    target = run.sids.resolve()
    return target.with_name(f".{target.name}.new")


@contextmanager
def replaced_sids(run: RunFolder) -> Iterator[Path]:
    """Yield an empty folder for new parts. When the block ends, it takes the place of ``sids/``; when the block raises, it is deleted.

    Whatever a build does not make, such as ``appended/``, is copied from the old folder. Builds and appends of one run exclude each other.
    What a killed build left behind is removed first.

    Args:
        run: run whose SIDs are built.

    Raises:
        TimeoutError: another process has been building or appending for `onesearch.files.LOCK_TIMEOUT` seconds.
    """
    target, folder = run.sids.resolve(), new_folder(run)
    with locked(run.append_lock, f"building the SIDs of {run.root}"):
        _restore(target)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            yield folder
            _keep_others(target, folder)
            flush_folder(folder)
            _exchange(folder, target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def check_parts(run: RunFolder) -> str | None:
    """Compare the fingerprints of all parts of ``sids/`` that are there; only their metadata are read.

    A damaged part is passed over here: whoever reads it raises an error that names it.

    Args:
        run: run with SIDs.

    Returns:
        The fingerprint of the codebooks; None if no part names one.

    Raises:
        ValueError: two parts belong to different codebooks.
    """
    found = {name: value for name in COMPARED if (value := _fingerprint(run.sids / name)) is not None}
    if len(set(found.values())) > 1:
        shown = ", ".join(f"{name} belongs to codebooks {value[:12]}…" for name, value in found.items())
        raise ValueError(
            f"{run.sids} mixes the parts of several builds ({shown}): their codes mean different things; build the SIDs again with "
            f"`onesearch sids build {run.root}`"
        )
    return next(iter(found.values()), None)


def check_checkpoint(run: RunFolder) -> None:
    """Compare the codebooks of a run's ``checkpoint/`` with those of its ``sids/``, if it has both.

    Args:
        run: folder of a run.

    Raises:
        ValueError: the parts of ``sids/`` belong to different codebooks, or the checkpoint was trained on other codebooks.
    """
    if not run.sids.is_dir():
        return
    built = check_parts(run)
    trained = _fingerprint(run.checkpoint / ITEM_INDEX_NAME)
    if built is not None and trained is not None and built != trained:
        raise ValueError(
            f"{run.checkpoint} was trained on other codebooks ({trained[:12]}…) than {run.sids} now holds ({built[:12]}…): the SIDs were "
            f"built again after the training; train again with `onesearch train {run.root}`, or copy the checkpoint out of the run to use "
            "it alone"
        )


def write_source(run: RunFolder, folder: Path) -> None:
    """Note in `folder` which embeddings of the run its SIDs are built from."""
    write_json(folder / BUILT_FROM_NAME, {"embeddings": _embeddings_fingerprint(run)})


def check_source(run: RunFolder) -> None:
    """Compare the run's embeddings and their encoder with those that its SIDs were built from.

    Args:
        run: run with embeddings and SIDs.

    Raises:
        ValueError: the embeddings were made again, by another encoder or for other texts.
    """
    path = run.sids / BUILT_FROM_NAME
    if path.is_file() and run.embeddings.is_dir() and read_json(path)["embeddings"] != _embeddings_fingerprint(run):
        raise ValueError(
            f"the encoder, the texts or the settings of {run.embeddings} have changed since the SIDs were built: new codes would not fit "
            f"the codebooks; build the SIDs again with `onesearch sids build {run.root}`"
        )


def _embeddings_fingerprint(run: RunFolder) -> str:
    """SHA-256 of the settings and numbers of rows in ``embeddings.json``, of the facts of items, and of all files of the encoder."""
    state = hashlib.sha256()
    files = [path for path in run.encoder.rglob("*") if path.is_file()] if run.encoder.is_dir() else []
    facts = [path for path in [run.embeddings / ITEM_FACTS_NAME] if path.is_file()]
    for path in [run.embeddings / "embeddings.json", *facts, *sorted(files)]:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        state.update(f"{path.relative_to(run.embeddings).as_posix()} {content}\n".encode())
    return state.hexdigest()


def _fingerprint(path: Path) -> str | None:
    """Fingerprint of the codebooks that a part names; None if the part does not exist or is damaged."""
    if not path.is_file():
        return None
    try:
        if path.suffix == ".parquet":
            value = (pq.read_schema(path).metadata or {}).get(b"fingerprint")
            return value.decode() if value is not None else None
        with safe_open(path, framework="np") as file:
            return (file.metadata() or {}).get("fingerprint")
    except (SafetensorError, pa.ArrowException, OSError, UnicodeDecodeError):
        return None


def _keep_others(target: Path, folder: Path) -> None:
    """Copy what a build does not make from the old folder; hidden files are what killed writers left."""
    if not target.is_dir():
        return
    for path in target.iterdir():
        if path.name in PARTS or path.name.startswith("."):
            continue
        if path.is_dir():
            shutil.copytree(path, folder / path.name)
        else:
            shutil.copy2(path, folder / path.name)


def _exchange(folder: Path, target: Path) -> None:
    """Let `folder` take the place of `target` in one step; the old content lies in `folder` afterwards."""
    if not target.exists():
        os.replace(folder, target)
        return
    if exchange(folder, target):
        return
    old = _old_folder(target)  # two steps where the system has no exchange; `_restore` mends a stop between them
    os.replace(target, old)
    os.replace(folder, target)
    shutil.rmtree(old)


def _old_folder(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _restore(target: Path) -> None:
    """Finish or undo an exchange in two steps that was stopped between them."""
    old = _old_folder(target)
    if old.is_dir() and not target.exists():
        os.replace(old, target)
    shutil.rmtree(old, ignore_errors=True)


__all__ = [
    "ITEM_INDEX_NAME",
    "check_checkpoint",
    "check_parts",
    "check_source",
    "new_folder",
    "replaced_sids",
    "write_source",
]
