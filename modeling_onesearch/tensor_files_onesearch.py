"""Reading and writing safetensors files: a file appears whole or not at all, and its tensors are mapped instead of copied.

Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

VERIFY_BYTES = 64 << 20
"""Files up to this size are compared with their fingerprint whenever they are loaded (our choice: about 1 ms per MiB)."""


READ_TIMEOUT = 60.0
"""Seconds during which a file is read again while writers replace it; our choice."""


class TensorFile(NamedTuple):
    """The content of a safetensors file.

    Args:
        tensors: the tensors by name, mapped from the file.
        metadata: the texts in the file's header.
    """

    tensors: dict[str, torch.Tensor]
    metadata: dict[str, str]


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file under a temporary name, flush it to the disk and rename it.

    A process that dies, or a power cut, leaves the old file or the new one, never half of it. The next writer deletes the temporary file
    with `remove_leftovers`.

    Raises:
        OSError: the folder does not exist, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(dict(tensors), temporary, metadata=dict(metadata))
        temporary.chmod(0o644)  # safetensors lets only the owner read
        _flush(temporary)
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except SafetensorError as error:
        raise OSError(
            f"{path} could not be written ({error}); check that its folder exists and that the disk has room"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Delete the temporary files of writers of `path` that were killed; the caller holds the lock, so no other writer is at work."""
    start = f".{path.name}."
    for entry in os.scandir(path.parent):
        if entry.name.startswith(start) and entry.name.removeprefix(start).isdigit():
            Path(entry.path).unlink(missing_ok=True)


def remove_file(path: Path) -> None:
    """Delete a file, which need not exist, so that it stays deleted after a power cut."""
    path.unlink(missing_ok=True)
    _flush_folder(path.parent)


def _flush(path: Path) -> None:
    """Wait until a file is on the disk."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk; Windows does so by itself."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot flush folders
            raise
    finally:
        os.close(descriptor)


def read_tensors(path: str | os.PathLike, expected_format: str) -> TensorFile:
    """Map the tensors of a file into memory, as one of its writers has left it.

    safetensors opens the file twice, for the header and for the tensors. If another file takes its name in between, both are read again.

    Args:
        path: the file.
        expected_format: the value that the file's metadata must have under `format`.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged or has another format.
    """
    deadline = time.monotonic() + READ_TIMEOUT
    while True:
        before = file_identity(path)
        failure: Exception | None = None
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (SafetensorError, RuntimeError, FileNotFoundError) as error:  # torch raises the second
            failure = error
        if file_identity(path) == before or time.monotonic() > deadline:
            break
    if isinstance(failure, FileNotFoundError):
        raise failure
    if failure is not None:
        raise damaged(path, f"it is not a whole safetensors file: {failure}") from failure
    if metadata.get("format") != expected_format:
        raise ValueError(f"{path} has format {metadata.get('format')!r}, expected {expected_format!r}; rebuild it")
    return TensorFile(tensors, metadata)


def file_identity(path: str | os.PathLike) -> tuple[int, ...] | None:
    """Return numbers that change when another file takes the name `path`; None while there is no such file."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def damaged(path: str | os.PathLike, reason: object) -> ValueError:
    """Return the error for a file that cannot be used."""
    return ValueError(f"{path} is damaged ({reason}); copy it again or rebuild it")


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """Return the metadata of a safetensors file; empty if the file is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except SafetensorError:
        return {}


def replaced_builds(path: Path, most: int = 16) -> list[str]:
    """Return the builds that an index written to `path` replaces, the latest first. Updates of those builds are merged already or void.

    Args:
        path: the index file, which need not exist.
        most: number of builds that are remembered.
    """
    if not path.is_file():
        return []
    metadata = read_metadata(path)
    if "build" not in metadata:
        return []
    return [metadata["build"], *parsed_texts(metadata.get("replaces", "[]"))][:most]


def parsed_texts(text: str) -> list[str]:
    """Parse a JSON list of texts; ValueError if it is anything else."""
    parsed = json.loads(text)
    if not isinstance(parsed, list) or not all(isinstance(entry, str) for entry in parsed):
        raise ValueError(f"{text[:80]!r} is not a list of texts")
    return parsed


def content_fingerprint(tensors: Mapping[str, torch.Tensor], metadata: Sequence[str] = ()) -> str:
    """Return the BLAKE2 hash of all tensors, their names, types and shapes, and of texts, as 32 hexadecimal digits.

    Args:
        tensors: the tensors by name, on the CPU.
        metadata: texts that belong to the content, in a fixed order.
    """
    state = hashlib.blake2b(json.dumps(list(metadata)).encode() if metadata else b"", digest_size=16)
    for name, tensor in sorted(tensors.items()):
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(tensor.numpy().data)
    return state.hexdigest()


def check_fingerprint(
    path: str | os.PathLike, expected: str, file: TensorFile, metadata: Sequence[str], verify: bool | None
) -> None:
    """Compare a file with the fingerprint of its content.

    Args:
        path: the file.
        expected: the fingerprint that the file carries.
        file: what was read from it.
        metadata: the texts that the fingerprint covers; see `content_fingerprint`.
        verify: whether to compare; None does so for files of at most `VERIFY_BYTES`.

    Raises:
        ValueError: they differ.
    """
    if verify is None:
        verify = sum(tensor.nbytes for tensor in file.tensors.values()) <= VERIFY_BYTES
    if verify and content_fingerprint(file.tensors, metadata) != expected:
        raise damaged(path, "its content does not have the fingerprint that it carries")


__all__ = [
    "READ_TIMEOUT",
    "VERIFY_BYTES",
    "TensorFile",
    "check_fingerprint",
    "content_fingerprint",
    "damaged",
    "file_identity",
    "parsed_texts",
    "read_metadata",
    "read_tensors",
    "remove_file",
    "remove_leftovers",
    "replaced_builds",
    "write_tensors",
]
