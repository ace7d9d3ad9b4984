"""Files as tables of raw cells, whatever their format: delimited text, JSON, JSON lines, XML, Excel and parquet, also as a zip of one file.

The format is found by the contents, because names of exports lie: an ``.xls`` is often text with tabs.
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from onesearch.extras import require
from onesearch.parquet_files import read_table

from ..bad_rows import BadRows
from .decoding import decode
from .delimited import LOOKED_AT, Known, header_place, read_delimited, unique_names
from .objects import flat, rows_in
from .xml_feeds import read_xml

Line = tuple[int, dict[str, Any]]
"""Number of a line, from 1, and its values by column."""

EXCEL_ERRORS = ("#N/A", "#REF!", "#DIV/0!", "#VALUE!", "#NAME?", "#NULL!", "#NUM!")


@dataclass(frozen=True)
class RawTable:
    """A file as a table.

    Args:
        path: the file.
        form: format in words, for a report.
        columns: names of the columns.
        rows: line number and values by column of each row that is not blank.
    """

    path: Path
    form: str
    columns: list[str]
    rows: list[Line]

    def values(self, column: str) -> list[Any]:
        """Values of one column; None where a row lacks it."""
        return [row.get(column) for _, row in self.rows]


def read_raw(path: str | Path, bad: BadRows, known: Known) -> RawTable:
    """Read a file of any of the formats.

    Args:
        path: ``.csv``, ``.tsv``, ``.txt``, ``.json``, ``.jsonl``, ``.xml``, ``.xlsx`` or ``.parquet``; text that is
            compressed (``.gz``); or a ``.zip`` with one of these files.
        bad: receives the rows that cannot be read.
        known: tells the names of columns that shops use; a header is found by them.

    Raises:
        FileNotFoundError: there is no such file.
        MissingExtraError: the file is an Excel file and openpyxl is not installed.
        ValueError: the file is of none of the formats, or holds no row.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give the path of an exported file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    with path.open("rb") as file:
        magic = file.read(8)
    if magic.startswith(b"PAR1"):
        table = _of_objects(path, "parquet", enumerate(read_table(path).to_pylist(), start=1))
    elif magic[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        member = _only_member(path)
        table = _excel(path, known) if member is None else _unzipped(path, member, bad, known)
    elif magic.startswith(b"\xd0\xcf\x11\xe0"):
        raise ValueError(
            f"{path} is an old Excel file (.xls); open it in a spreadsheet program, and choose File > Save As > Excel Workbook (.xlsx)"
        )
    else:
        table = _text(path, bad, known)
    if not table.rows:
        raise ValueError(f"{path} holds no row; it was read as {table.form}")
    return table


def _text(path: Path, bad: BadRows, known: Known) -> RawTable:
    """The table of a text file: JSON, JSON lines or delimited."""
    data = _bytes(path)
    text, encoding = decode(data)
    start = text.lstrip()[:1]
    if not start:
        raise ValueError(f"{path} is blank")
    if start == "<":
        return _of_objects(path, "XML", enumerate(read_xml(path, data), start=1))
    if start in "[{":
        return _json(path, text, bad, known)
    form, columns, rows = read_delimited(text, path.name, bad, known)
    kept = [(line, row) for line, row in rows if any(cell.strip() for cell in row.values())]
    return RawTable(path, f"{encoding}, {form}", columns, kept)


def _bytes(path: Path) -> bytes:
    """Contents of a file, decompressed if it is gzip."""
    data = path.read_bytes()
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is a damaged gzip file ({error}); export or compress it again") from error


def _json(path: Path, text: str, bad: BadRows, known: Known) -> RawTable:
    """The table of a JSON file: a list of objects, an object that holds such a list or is the only row, or one object per line."""
    try:
        found = json.loads(text)
    except ValueError:
        return _of_objects(path, "JSON lines", _json_lines(path.name, text, bad))
    rows = rows_in(found, known)
    return _of_objects(path, "JSON", _objects(path.name, enumerate(rows or [], start=1), bad))


def _json_lines(origin: str, text: str, bad: BadRows) -> Iterator[Line]:
    parsed = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                parsed.append((number, json.loads(line)))
            except (ValueError, RecursionError) as error:
                bad.add(origin, number, "not valid JSON", error)
    return _objects(origin, iter(parsed), bad)


def _objects(origin: str, values: Iterator[tuple[int, Any]], bad: BadRows) -> Iterator[Line]:
    for number, value in values:
        if isinstance(value, dict):
            yield number, value
        else:
            bad.add(origin, number, "not a JSON object", value)


def _of_objects(path: Path, form: str, rows: Iterator[Line] | enumerate[dict[str, Any]]) -> RawTable:
    """The table of objects, whose nested objects become columns such as ``image.src``."""
    lines: list[Line] = []
    columns: dict[str, None] = {}
    for line, row in rows:
        made = flat(row)
        if any(value not in (None, "", []) for value in made.values()):
            lines.append((line, made))
            columns |= dict.fromkeys(made)
    return RawTable(path, form, list(columns), lines)


def _only_member(path: Path) -> str | None:
    """Name of the only file in a zip file; None for an Excel file, which is a zip file, too.

    Raises:
        ValueError: the file is damaged, or holds no file, or several.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is a damaged Excel or zip file ({error}); export it again") from error
    if "[Content_Types].xml" in names:
        return None
    files = [
        name for name in names if not name.endswith("/") and not name.startswith("__MACOSX/") and Path(name).name[0] != "."
    ]
    if len(files) != 1:
        held = f"{len(files):,} files ({', '.join(files[:3])})" if files else "no file"
        raise ValueError(f"{path} holds {held}; give a zip file with one table, or unpack it and give the table's own path")
    return files[0]


def _unzipped(path: Path, member: str, bad: BadRows, known: Known) -> RawTable:
    """The table of the only file in a zip file."""
    with tempfile.TemporaryDirectory() as folder:
        inner = Path(folder) / Path(member).name
        try:
            with zipfile.ZipFile(path) as archive, archive.open(member) as source, inner.open("wb") as target:
                shutil.copyfileobj(source, target)
        except (RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(f"{path} cannot be unpacked ({error}); unpack it, and give the table's own path") from error
        try:
            table = read_raw(inner, bad, known)
        except ValueError as error:
            raise ValueError(str(error).replace(str(inner), f"{path} ({member})")) from error
    return replace(table, path=path, form=f"zip, {table.form}")


def _excel(path: Path, known: Known) -> RawTable:
    """The table of an Excel file: of the sheet with the most rows, below its header."""
    require("exports", "openpyxl", needed_by=f"reading {path.name}")
    from zipfile import BadZipFile

    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        book = openpyxl.load_workbook(io.BytesIO(path.read_bytes()), read_only=True, data_only=True)
    except (BadZipFile, KeyError, OSError, ValueError, InvalidFileException) as error:
        raise ValueError(f"{path} is no Excel file ({error}); give .xlsx, or export it as CSV") from error
    sheets = {sheet.title: [list(row) for row in sheet.iter_rows(values_only=True)] for sheet in book.worksheets}
    book.close()
    title = max(sheets, key=lambda name: len(sheets[name]))
    numbered = [(number, row) for number, row in enumerate(sheets[title], start=1) if any(_is_filled(cell) for cell in row)]
    place = header_place([row for _, row in islice(numbered, LOOKED_AT)], known)
    if place is None:
        raise ValueError(f"{path} holds no table: no row names the columns")
    header = numbered[place][1] if place >= 0 else []
    width = max((column + 1 for _, row in numbered for column, cell in enumerate(row) if _is_filled(cell)), default=0)
    names = unique_names((header + [None] * width)[:width])
    before = f", {place} row{'s' if place > 1 else ''} before the header" if place > 0 else ", no header" if place else ""
    more = f" (of {len(sheets)})" if len(sheets) > 1 else ""
    rows = [(number, dict(zip(names, _without_errors(row)))) for number, row in numbered[place + 1 :]]
    return RawTable(path, f"Excel, sheet {title!r}{more}{before}", names, rows)


def _is_filled(cell: Any) -> bool:
    return cell is not None and bool(str(cell).strip())


def _without_errors(row: Sequence[Any]) -> list[Any]:
    """Cells with None for Excel's errors, such as #N/A."""
    return [None if cell in EXCEL_ERRORS else cell for cell in row]


__all__ = ["Line", "RawTable", "read_raw"]
