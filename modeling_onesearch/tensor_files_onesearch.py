"""Reading and writing safetensors files: a file appears whole or not at all, and its tensors are mapped instead of copied.

Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file


class TensorFile(NamedTuple):
    """The content of a safetensors file.

    Args:
        tensors: the tensors by name, mapped from the file.
        metadata: the texts in the file's header.
    """

    tensors: dict[str, torch.Tensor]
    metadata: dict[str, str]


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file under a temporary name, then rename it, so that a process that dies never leaves half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(dict(tensors), temporary, metadata=dict(metadata))
        temporary.chmod(0o644)  # safetensors lets only the owner read
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_tensors(path: str | os.PathLike, expected_format: str) -> TensorFile:
    """Map the tensors of a file into memory.

    Args:
        path: the file.
        expected_format: the value that the file's metadata must have under `format`.

    Raises:
        ValueError: the file is damaged or has another format.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or is not a safetensors file ({error}); copy it again or rebuild it") from error
    if metadata.get("format") != expected_format:
        raise ValueError(f"{path} has format {metadata.get('format')!r}, expected {expected_format!r}; rebuild it")
    return TensorFile(tensors, metadata)


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
    return [metadata.get("build", ""), *json.loads(metadata.get("replaces", "[]"))][:most]


def content_fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the BLAKE2 hash of all tensors, their names, types and shapes, as 32 hexadecimal digits."""
    state = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(tensor.numpy().data)
    return state.hexdigest()


__all__ = ["TensorFile", "content_fingerprint", "read_metadata", "read_tensors", "replaced_builds", "write_tensors"]
