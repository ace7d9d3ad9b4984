"""Safetensors files of the pipeline: written whole, and compared with the fingerprint of their content when they are read.

The metadata of each file hold its ``format`` and, as ``content``, the fingerprint of its tensors and of all other metadata. So a changed
byte is refused; it never changes codes or vectors silently.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from onesearch.files import atomic_file

CONTENT = "content"
"""Key of the fingerprint in the metadata."""

BLOCK = 16_384
"""Number of rows that `check_rows` reads at a time."""

READ_TIMEOUT = 60.0
"""Seconds during which a file is read again while writers replace it; our choice."""

UNREADABLE = (SafetensorError, TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError)
"""Errors that safetensors raises for damaged files: a changed header may name any type or shape."""


class TensorFile(NamedTuple):
    """Metadata and tensors of a safetensors file."""

    metadata: dict[str, str]
    tensors: dict[str, np.ndarray]


def write_tensors(path: str | Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write a file, whole or not at all, with the fingerprint of its content.

    Args:
        path: safetensors file.
        tensors: arrays by name.
        metadata: texts by name; ``format`` among them.
    """
    arrays = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    parts = {name: [tensor] for name, tensor in arrays.items()}
    content = _fingerprint({name: _described(tensor) for name, tensor in arrays.items()}, parts, metadata)
    with atomic_file(path) as temporary:
        save_file(arrays, temporary, metadata={**metadata, CONTENT: content})


def read_tensors(path: str | Path, expected: str, remedy: str) -> TensorFile:
    """Read a file that `write_tensors` wrote.

    safetensors opens a file twice, for the header and for the tensors. If another file takes its name in between, both are read again.

    Args:
        path: safetensors file.
        expected: value that ``format`` must have in its metadata.
        remedy: advice for the error message.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged or has another format.
    """
    path = Path(path)
    deadline = time.monotonic() + READ_TIMEOUT
    while True:
        before = _identity(path)
        failure: Exception | None = None
        try:
            with safe_open(path, framework="np") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (*UNREADABLE, FileNotFoundError) as error:
            failure = error
        if _identity(path) == before or time.monotonic() > deadline:
            break
    if before is None or isinstance(failure, FileNotFoundError):
        raise FileNotFoundError(f"{path} does not exist; {remedy}")
    if failure is not None:
        raise ValueError(f"{path} is damaged ({failure}); {remedy}") from failure
    check_format(path, metadata, expected, remedy)
    descriptions = {name: _described(tensor) for name, tensor in tensors.items()}
    _compare(path, metadata, _fingerprint(descriptions, {name: [tensor] for name, tensor in tensors.items()}, metadata), remedy)
    return TensorFile(metadata, tensors)


def check_rows(path: Path, name: str, expected: str, remedy: str) -> None:
    """Compare a file that `write_tensors` wrote with the fingerprint of its content; its one tensor is read in blocks of rows.

    Args:
        path: safetensors file.
        name: name of its tensor, (rows, …).
        expected: value that ``format`` must have in its metadata.
        remedy: advice for the error message.

    Raises:
        ValueError: the file is damaged or has another format.
    """
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            check_format(path, metadata, expected, remedy)
            rows = file.get_slice(name)
            shape = tuple(rows.get_shape())
            if not shape[0]:  # there is nothing to slice
                read_tensors(path, expected, remedy)
                return
            blocks = (rows[start : min(start + BLOCK, shape[0])] for start in range(0, shape[0], BLOCK))
            found = _fingerprint({name: f"{rows[0:1].dtype} {shape}"}, {name: blocks}, metadata)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); {remedy}") from error
    _compare(path, metadata, found, remedy)


def check_format(path: Path, metadata: Mapping[str, str], expected: str, remedy: str) -> None:
    """Refuse a file whose metadata have another ``format`` than `expected` with a ValueError."""
    if metadata.get("format") != expected:
        raise ValueError(f"{path} has format {metadata.get('format')!r}, expected {expected!r}; {remedy}")


def _described(tensor: np.ndarray) -> str:
    """Type and shape of a tensor, as its fingerprint holds them."""
    return f"{tensor.dtype} {tensor.shape}"


def _fingerprint(
    descriptions: Mapping[str, str], parts: Mapping[str, Iterable[np.ndarray]], metadata: Mapping[str, str]
) -> str:
    """BLAKE2 hash of tensors and metadata, as 32 hexadecimal digits.

    Args:
        descriptions: type and shape of each tensor.
        parts: consecutive rows of each tensor.
        metadata: metadata of the file; the fingerprint itself is left out.
    """
    texts = sorted((key, value) for key, value in metadata.items() if key != CONTENT)
    state = hashlib.blake2b(json.dumps(texts).encode(), digest_size=16)
    for name in sorted(descriptions):
        state.update(json.dumps([name, descriptions[name]]).encode())
        for part in parts[name]:
            state.update(part.tobytes())
    return state.hexdigest()


def _compare(path: Path, metadata: Mapping[str, str], found: str, remedy: str) -> None:
    """Refuse a file whose content has another fingerprint than its metadata say with a ValueError."""
    if metadata.get(CONTENT) != found:
        raise ValueError(f"{path} is damaged (its content does not have the fingerprint that it carries); {remedy}")


def _identity(path: Path) -> tuple[int, ...] | None:
    """Numbers that change when another file takes the name `path`; None while there is no such file."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


__all__ = ["TensorFile", "check_rows", "read_tensors", "write_tensors"]
