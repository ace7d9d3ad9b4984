"""Write and read parquet tables. Every page carries a checksum, so that a changed byte raises an error and is never read as data.

A table that cannot be used raises an error that names its path and the remedy.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def write_table(table: pa.Table, path: str | Path, row_group_size: int | None = None) -> None:
    """Write a table with a checksum per page.

    Args:
        table: table to write.
        path: parquet file to write; see `onesearch.files.atomic_file` for one that appears whole or not at all.
        row_group_size: largest number of rows per row group; None takes pyarrow's default.
    """
    pq.write_table(table, path, row_group_size=row_group_size, write_page_checksum=True)


def table_writer(path: str | Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Return a writer that writes a table chunk by chunk, with a checksum per page; use it in a ``with`` block.

    Args:
        path: parquet file to write.
        schema: schema of the table.
    """
    return pq.ParquetWriter(path, schema, write_page_checksum=True)


def read_table(path: str | Path, remedy: str = "write it again", memory_map: bool = False) -> pa.Table:
    """Read a table and verify the checksums of its pages, if the file has any.

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


__all__ = ["read_given_table", "read_own_table", "read_table", "table_writer", "write_table"]
