"""Decode a file of unknown encoding: by its byte order mark, as UTF-8, as UTF-16 without a mark, or by charset-normalizer."""

from __future__ import annotations

import codecs
import re
from importlib.util import find_spec
from typing import NamedTuple

MARKS = (
    (codecs.BOM_UTF8, "utf-8", "UTF-8 with a byte order mark"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
"""Byte order marks, with their encodings and names; UTF-32 comes first, because its mark begins with that of UTF-16."""

CODE_PAGES = [
    "cp1252",
    "cp1250",
    "cp1251",
    "cp1253",
    "cp1254",
    "cp1257",
    "gb18030",
    "big5",
    "cp932",
    "euc_jp",
    "cp949",
    "cp874",
]
"""Encodings of exports that are not Unicode: those of Windows, East Asia and Thailand."""

SAMPLE = 200_000
"""Number of bytes by which an encoding is detected; our choice."""

MOST_BROKEN = 0.01
"""Largest share of lines that are not UTF-8 in a file that counts as UTF-8; our choice."""


class Decoded(NamedTuple):
    """Text of a file, and the name of its encoding for a report."""

    text: str
    encoding: str


def decode(data: bytes) -> Decoded:
    """Decode the bytes of a file.

    1. A byte order mark decides.
    2. Bytes that are UTF-8 are UTF-8. A file with a few lines that are not (at most `MOST_BROKEN`) is UTF-8 too; those lines are read
       as Windows-1252, and the name of the encoding counts them.
    3. Every second byte of Western text in UTF-16 is NUL.
    4. charset-normalizer chooses among `CODE_PAGES`; without it, the file is read as Windows-1252.
    """
    for mark, encoding, name in MARKS:
        if data.startswith(mark):
            if encoding == "utf-8":
                return _utf8(data[len(mark) :], name) or Decoded(
                    _windows(data[len(mark) :]), "Windows-1252 after a mark of UTF-8"
                )
            return Decoded(data.decode(encoding, errors="replace"), name)
    head = data[:SAMPLE]
    if head.count(0) > len(head) // 10:
        encoding = "utf-16-le" if head[1::2].count(0) >= head[0::2].count(0) else "utf-16-be"
        return Decoded(data.decode(encoding, errors="replace"), "UTF-16 without a mark")
    return _utf8(data, "UTF-8") or _by_detector(data)


def _utf8(data: bytes, name: str) -> Decoded | None:
    """The text if it is UTF-8 but for a few lines, else None."""
    try:
        return Decoded(data.decode("utf-8"), name)
    except UnicodeDecodeError:
        pass
    lines = data.splitlines(keepends=True)
    texts, broken, sound = [], 0, 0
    for line in lines:
        try:
            texts.append(line.decode("utf-8"))
            sound += not line.isascii()
        except UnicodeDecodeError:
            texts.append(_windows(line))
            broken += 1
    if not sound or broken > max(1, MOST_BROKEN * len(lines)):
        return None
    return Decoded("".join(texts), f"{name}, except {broken} lines that were read as Windows-1252")


def _windows(data: bytes) -> str:
    """Text in Windows-1252; the five bytes that it leaves open are read as Latin-1."""
    return re.sub("[\x80-\x9f]", lambda found: _open_byte(found.group()), data.decode("latin-1"))


def _open_byte(letter: str) -> str:
    return letter.encode("latin-1").decode("cp1252", errors="ignore") or letter


def _by_detector(data: bytes) -> Decoded:
    """Text in the code page that charset-normalizer finds."""
    if find_spec("charset_normalizer") is None:
        return Decoded(_windows(data), "Windows-1252 (charset-normalizer, which tells code pages apart, is not installed)")
    from charset_normalizer import from_bytes

    lines = [line for line in data.splitlines(keepends=True) if not line.isascii()]
    best = from_bytes(b"".join(lines)[:SAMPLE], cp_isolation=CODE_PAGES, preemptive_behaviour=False).best()
    windows = _windows(data)
    text = windows if best is None else data.decode(best.encoding, errors="replace")
    return Decoded(text, "Windows-1252" if best is None or text == windows else best.encoding)


__all__ = ["Decoded", "decode"]
