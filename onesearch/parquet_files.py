"""Write and read parquet tables. Every file carries a seal, so that a changed byte raises an error and is never read as data.

The seal is the hash of all other bytes of the file. It stands between the last page and the footer, where readers of parquet files look at
nothing: they find the pages by the footer, and the footer from the end. Pages carry checksums too, for readers that know no seal. Tables of
other tools have no seal and are read by their page checksums alone.

A table that cannot be used raises an error that names its path and the remedy.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq


def write_table(table: pa.Table, path: str | Path, row_group_size: int | None = None) -> None:
    """Write a table with a seal, and a checksum per page.

    Args:
        table: table to write.
        path: parquet file to write; see `onesearch.files.atomic_file` for one that appears whole or not at all.
        row_group_size: largest number of rows per row group; None takes pyarrow's default.
    """
    pq.write_table(table, path, row_group_size=row_group_size, write_page_checksum=True)
    _seal(path)


@contextmanager
def table_writer(path: str | Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Yield a writer that writes a table chunk by chunk, with a checksum per page; the file gets its seal when the block ends.

    Args:
        path: parquet file to write.
        schema: schema of the table.
    """
    with pq.ParquetWriter(path, schema, write_page_checksum=True) as writer:
        yield writer
    _seal(path)


def read_table(path: str | Path, remedy: str = "write it again", memory_map: bool = False) -> pa.Table:
    """Read a table and verify its seal and the checksums of its pages, if the file has any.

    Args:
        path: parquet file.
        remedy: advice for the error message.
        memory_map: map the file instead of reading it into buffers, which takes less memory.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or no parquet file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; {remedy}")
    if _is_broken(path):
        raise ValueError(f"{path} is damaged (its bytes do not have the hash that it carries); {remedy}")
    try:
        with pq.ParquetFile(path, memory_map=memory_map, page_checksum_verification=True) as file:
            table = file.read()
        table.schema.to_string(show_schema_metadata=False)  # decodes every name
        return table
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged or no parquet file ({error}); {remedy}") from error


def declared_size(path: str | Path) -> tuple[int, int]:
    """Rows and uncompressed bytes of a parquet file by its own counts, without reading the table.

    Raises:
        OSError: the file cannot be read.
        pyarrow.ArrowException: the file is damaged or no parquet file.
    """
    metadata = pq.read_metadata(path)
    return metadata.num_rows, sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))


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
    table = read_table(path, remedy)
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
        return read_table(path)
    except FileNotFoundError as error:
        raise ValueError(f"{path} is no readable parquet file (it does not exist); give the path of one") from error


def _seal(path: str | Path) -> None:
    """Put the seal of a finished file between its last page and its footer."""
    with open(path, "r+b") as file:
        start = _footer_start(file)
        if start is None:
            raise ValueError(f"{path} is no parquet file: it does not end with a footer")
        file.seek(start)
        footer = file.read()
        content = _hash(file, start, footer)
        file.seek(start)
        file.write(SEAL + content + footer)


def _is_broken(path: Path) -> bool:
    """Whether a file has a seal that differs from the hash of its bytes."""
    with open(path, "rb") as file:
        footer_start = _footer_start(file)
        if footer_start is None or footer_start < _SEAL_BYTES:
            return False
        start = footer_start - _SEAL_BYTES
        file.seek(start)
        seal, footer = file.read(_SEAL_BYTES), file.read()
        return seal.startswith(SEAL) and seal != SEAL + _hash(file, start, footer)


def _footer_start(file: BinaryIO) -> int | None:
    """Place of the first byte of the footer, which ends with its length (4 bytes) and ``PAR1``; None if there is none."""
    size = file.seek(0, os.SEEK_END)
    if size < 12:
        return None
    file.seek(size - 8)
    end = file.read()
    start = size - 8 - int.from_bytes(end[:4], "little")
    return start if end[4:] == b"PAR1" and start >= 4 else None


def _hash(file: BinaryIO, stop: int, footer: bytes) -> bytes:
    """BLAKE2 hash of the first `stop` bytes of a file and of its footer."""
    state = hashlib.blake2b(digest_size=16)
    file.seek(0)
    for start in range(0, stop, _BLOCK):
        state.update(file.read(min(_BLOCK, stop - start)))
    state.update(footer)
    return state.digest()


SEAL = b"onesearch-seal-1"
"""Beginning of a seal; the hash follows."""

_SEAL_BYTES = len(SEAL) + 16
"""Length of a seal."""

_BLOCK = 1 << 20
"""Number of bytes that are hashed at a time."""

__all__ = ["read_given_table", "read_own_table", "read_table", "table_writer", "write_table"]
