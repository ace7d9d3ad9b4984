"""Cells as texts, ids, prices and lists. What belongs to a whole column, such as its decimal sign, is found once for the column."""

from __future__ import annotations

import datetime
import html
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from html.parser import HTMLParser
from typing import Any

import numpy as np

NO_VALUE = frozenset(
    {
        "",
        "null",
        "none",
        "nan",
        "n/a",
        "na",
        "nil",
        "undefined",
        "\\n",
        "-",
        "--",
        "(not set)",
        "(none)",
        "<na>",
        "nat",
        "unknown",
        "#n/a",
    }
)
"""Words that stand for an empty cell, in lower case."""

_ATTRIBUTES = r"(?:\s+[\w:-]+(?:\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'<>]+))?)*"
_TAG = re.compile(
    r"</?(?:p|br|div|span|b|i|u|a|ul|ol|li|h[1-6]|strong|em|table|tr|td|th|tbody|thead|img|font|small|sup|sub|hr|style|script|meta|section|"
    rf"article|figure|iframe|video|center|blockquote|label|button|input|form|body|html|head|link|svg|path){_ATTRIBUTES}\s*/?>|<!--",
    re.IGNORECASE,
)
_BLOCKS = frozenset("p br div ul ol li h1 h2 h3 h4 h5 h6 table tr td th hr section article figure blockquote".split())
_SILENT = frozenset({"script", "style", "head", "svg"})


class _Text(HTMLParser):
    """Collects the text of HTML; block elements separate words."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Separate words at a block, and leave out the contents of scripts."""
        self._silent += tag in _SILENT
        self.parts.append(" " if tag in _BLOCKS else "")

    def handle_endtag(self, tag: str) -> None:
        """End a block or a script."""
        self._silent = max(0, self._silent - (tag in _SILENT))
        self.parts.append(" " if tag in _BLOCKS else "")

    def handle_data(self, data: str) -> None:
        """Keep text outside of scripts."""
        if not self._silent:
            self.parts.append(data)


def without_html(text: str) -> str:
    """Return the text of a cell without tags, with entities as letters. ``size < 40`` and ``a<b`` are no tags."""
    if _TAG.search(text):
        parser = _Text()
        parser.feed(text)
        parser.close()
        text = "".join(parser.parts)
    return html.unescape(text) if "&" in text else text


def as_text(value: Any) -> str | None:
    """Return a cell as text with single blanks, without HTML; None for an empty cell.

    Letters have one form (NFC), and the ``\\n`` of WooCommerce is a blank. Whole floats lose their ``.0``, because tables made with
    pandas turn whole numbers beside empty cells into floats. A list is joined by commas. NUL and lone surrogates, which no
    table can hold, are left out.
    """
    if value is None or (isinstance(value, float | np.floating) and not math.isfinite(value)):
        return None
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    if isinstance(value, list | tuple | np.ndarray):
        value = ", ".join(filter(None, map(as_text, value)))
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    return _clean(str(value))


@lru_cache(maxsize=100_000)
def _clean(text: str) -> str | None:
    """A text as `as_text` returns it; cells of a log occur again and again."""
    text = text.encode("utf-8", errors="ignore").decode("utf-8").replace("\0", "")
    text = unicodedata.normalize("NFC", " ".join(without_html(text).replace("\\n", " ").split()))
    return None if text.lower() in NO_VALUE else text


def ids_are_floats(values: Iterable[Any]) -> bool:
    """Whether a column of ids was written as floats: every filled cell is a whole number that ends in ``.0``."""
    filled = [value.strip() for value in values if isinstance(value, str) and value.strip()]
    return bool(filled) and all(re.fullmatch(r"\d+\.0+", value) for value in filled)


def as_id(value: Any, was_float: bool = False) -> str | None:
    """Return a cell as an id, which holds no white space; None for an empty cell.

    Args:
        value: the cell; leading zeros of a text stay.
        was_float: the column was written as floats (see `ids_are_floats`), so that ``.0`` is left out.
    """
    text = as_text(value)
    if text is None:
        return None
    if was_float:
        text = re.sub(r"\.0+$", "", text)
    return "_".join(text.split())


_NUMBER = re.compile(r"\d[\d.,'’\u00a0\u202f\u2009 ]*(?:[.,]\d+)?|[.,]\d+")
_GROUPS = re.compile(r"\d{1,3}(?:(?P<sign>[.,'])\d{3})(?:(?P=sign)\d{3})*")
_INDIAN = re.compile(r"\d{1,2}(?:,\d{2})+,\d{3}")


def decimal_sign(values: Iterable[Any]) -> str | None:
    """Return the decimal sign that the cells of a column prove, ``.`` or ``,``; None if no cell proves one.

    A cell proves a sign if it comes last of two different ones, or stands alone before other than three digits.
    """
    votes = Counter(sign for value in values if isinstance(value, str) for sign in [_proven(value)] if sign)
    return votes.most_common(1)[0][0] if votes else None


def _proven(text: str) -> str | None:
    number = _first_number(text)
    signs = [letter for letter in number or "" if letter in ".,"]
    if not number or not signs:
        return None
    if len(set(signs)) == 2 and signs.count(signs[-1]) == 1:
        return signs[-1]
    if len(signs) == 1 and not _GROUPS.fullmatch(number.replace("'", "")):
        return signs[0]
    if len(signs) == 1 and number.startswith("0"):
        return signs[0]
    return None


def _first_number(text: str) -> str | None:
    """The first number of a text, without blanks and without signs at its end; ``'`` separates thousands."""
    found = _NUMBER.search(text)
    return re.sub(r"[\u00a0\u202f\u2009 ]", "", found.group()).replace("’", "'").rstrip(".,'") if found else None


def as_price(value: Any, decimal: str | None = None) -> float | None:
    """Return a cell as a price: the first number in it, for example the lower one of ``12,90 – 15,90 €``.

    Args:
        value: a number, or text with a currency, a decimal sign and thousands signs (``1.299,90``, ``1 299,00``, ``1'299.–``,
            ``1,23,456``).
        decimal: decimal sign of the column. It decides about a single sign before three digits, which separates thousands otherwise.

    Returns:
        The price; None for an empty cell.

    Raises:
        ValueError: the cell holds no number, or a negative one.
    """
    if isinstance(value, int | float | Decimal | np.number) and not isinstance(value, bool):
        if math.isnan(value):
            return None
        return _positive(float(value), value)
    text = as_text(value)
    if text is None:
        return None
    number = _first_number(text)
    if number is None:
        raise ValueError(f"{text!r} holds no number")
    place = text.find(number[0])
    if place > 0 and text[:place].rstrip("€$£¥ ").endswith(("-", "−")):
        raise ValueError(f"{text!r} is negative")
    return _positive(_as_float(number, decimal), text)


def _positive(number: float, shown: Any) -> float:
    if number < 0 or not math.isfinite(number):
        raise ValueError(f"{shown!r} is no price")
    return number


def _as_float(number: str, decimal: str | None) -> float:
    """Value of a number with signs."""
    signs = [letter for letter in number if letter in ".,"]
    if len(set(signs)) == 2:
        sign = signs[-1]
    elif len(signs) == 1 and (signs[0] == decimal or not _GROUPS.fullmatch(number.replace("'", "")) or number.startswith("0")):
        sign = signs[0]
    else:
        sign = ""
    whole, _, fraction = number.rpartition(sign) if sign else (number, "", "")
    return float(f"{re.sub(r'[^0-9]', '', _digits(whole)) or '0'}.{re.sub(r'[^0-9]', '', _digits(fraction)) or '0'}")


def _digits(text: str) -> str:
    """Digits of any script as those of ASCII."""
    return "".join(str(int(letter)) if letter.isdecimal() else letter for letter in text)


def as_list(value: Any) -> list[str]:
    """Return the entries of a cell that holds a list: a list, a JSON or Python list as text, or text with ``,``, ``;`` or ``|``.

    A comma separates only before a blank or where a cell has several words without one (``red,blue``), not within numbers (``37,5``).
    """
    entries = listed(value)
    if entries is None:
        text = as_text(value)
        if text is None:
            return []
        sign = next((sign for sign in "|;" if sign in text), None)
        entries = text.split(sign) if sign else re.split(r",\s+|(?<!\d),|,(?!\d)", text)
    return [text for entry in entries if (text := as_text(entry))]


def listed(value: Any) -> list[Any] | None:
    """Return the entries of a list, or of text that spells one (``["a", "b"]``, ``['a', 'b']``); None for anything else."""
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, np.ndarray):
        return value.tolist()
    if not isinstance(value, str) or not re.fullmatch(r"\s*\[.*\]\s*", value, re.DOTALL):
        return None
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        quoted = re.findall(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", value)
        inner = value.strip()[1:-1]
        found = [single or double for single, double in quoted] if quoted else re.split(r"[,\s]+", inner.strip())
    return found if isinstance(found, list) else None


def is_time(value: Any) -> bool:
    """Whether a cell is already a date or a time."""
    return isinstance(value, datetime.date | np.datetime64)


__all__ = [
    "NO_VALUE", "as_id", "as_list", "as_price", "as_text", "decimal_sign", "ids_are_floats", "is_time", "listed", "without_html",
]  # fmt: skip
