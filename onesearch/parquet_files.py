"""Read parquet tables. A table that cannot be used raises an error that names its path and the remedy."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def read_own_table(path: str | Path, expected: str, fingerprint: str, remedy: str) -> pa.Table:
    """Read a table that a stage of the pipeline wrote for certain codebooks.

    Args:
        path: parquet file.
        expected: required value of ``format`` in the file's metadata.
        fingerprint: fingerprint of the codebooks to which the table must belong.
        remedy: advice for the error message, for example a command that writes the table again.

    Returns:
        The table without its metadata.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, has another format or belongs to other codebooks.
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
    """Read a table that a user supplies.

    Raises:
        ValueError: the file does not exist or is no readable parquet file.
    """
    try:
        return pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is no readable parquet file ({error}); write it again") from error


__all__ = ["read_given_table", "read_own_table"]
