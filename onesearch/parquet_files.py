"""Parquet tables that belong to codebooks: read whole, or refused with the path and what to do about it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def read_own_table(path: str | Path, expected: str, fingerprint: str, remedy: str) -> pa.Table:
    """A table that a stage wrote, without its metadata.

    Args:
        expected: ``format`` in its metadata.
        fingerprint: of the codebooks that it must belong to.
        remedy: what helps where it is missing, damaged, foreign or of other codebooks.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, has another format or belongs to other codebooks.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; {remedy}")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}); {remedy}") from error
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if metadata.get("format") != expected:
        raise ValueError(f"{path} has format {metadata.get('format')!r}, expected {expected!r}; {remedy}")
    found = metadata.get("fingerprint", "none")
    if found != fingerprint:
        raise ValueError(f"{path} belongs to codebooks {found[:12]}…, not {fingerprint[:12]}…; {remedy}")
    return table.replace_schema_metadata(None)


def read_given_table(path: str | Path) -> pa.Table:
    """A table that somebody else wrote; ValueError if it is no parquet file."""
    try:
        return pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is no readable parquet file ({error}); write it again") from error


__all__ = ["read_given_table", "read_own_table"]
