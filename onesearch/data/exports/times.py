"""Times of a log as milliseconds: numbers of seconds, milliseconds and finer, dates of Excel, ISO and local formats.

A column has one form, which is found once. A cell that does not fit it is tried by itself.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .values import NO_VALUE

UNITS = (
    (1e17, 1, 1_000_000, "nanoseconds"),
    (1e14, 1, 1_000, "microseconds"),
    (1e11, 1, 1, "milliseconds"),
    (1e8, 1_000, 1, "seconds"),
)
"""Smallest number, factor and divisor that make milliseconds, and name; all of them count from 1970."""

EXCEL_DAYS = (20_000.0, 80_000.0)
"""Numbers of days since the end of 1899 that stand for the years 1954 to 2119."""

EXCEL_EPOCH = 25_569
"""Days from Excel's epoch to 1970."""

DAY = 86_400_000
"""Milliseconds of a day."""

SAMPLE = 2_000
"""Number of cells by which the form is found; our choice."""

_NUMERIC = re.compile(r"[+-]?\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?")
_NUMBERED_DATE = re.compile(r"(\d{1,4})[./-](\d{1,2})[./-](\d{1,4})(?!\d)")


class Times(NamedTuple):
    """Times of a column.

    Attributes:
        moments: milliseconds since 1970, or the number itself of an order; None for a cell that is empty or no time.
        form: form in words, for a report.
        is_clock: False if the numbers are an order without a unit, so that no gap between events is known.
    """

    moments: list[int | None]
    form: str
    is_clock: bool


def read_times(values: Sequence[Any], day_first: bool | None = None) -> Times:
    """Read the times of a column.

    * Numbers: by size they are seconds, milliseconds, microseconds or nanoseconds since 1970; ``20240131`` and ``20240131235959`` are
      dates; numbers with a fraction between 20,000 and 80,000 are days of Excel; smaller numbers are an order.
    * Text: ISO 8601, local formats, and all that dateutil reads. Times without a zone are taken as they are. Whether the day or the month
      comes first is told by the first date with a part above 12.

    Args:
        values: cells of the column.
        day_first: order of day and month where no date tells; None decides by the sign: the month comes first before ``/``, and the day
            before other signs.
    """
    filled = [value for value in values if not _is_empty(value)]
    sample = filled[:: max(1, len(filled) // SAMPLE)]
    numbers = sum(_as_number(value) is not None for value in sample)
    if sample and numbers >= 0.9 * len(sample):
        return _from_numbers(values, [number for value in sample if (number := _as_number(value)) is not None])
    return _from_texts(values, sample, day_first)


def _is_empty(value: Any) -> bool:
    return (
        value is None
        or (isinstance(value, float) and value != value)
        or (isinstance(value, str) and value.strip().lower() in NO_VALUE)
    )


def _as_number(value: Any) -> float | None:
    if isinstance(value, bool | np.bool_):
        return None
    if isinstance(value, int | float | np.number):
        return float(value)
    if isinstance(value, str) and _NUMERIC.fullmatch(value.strip()):
        return float(value.strip().replace(",", "."))
    return None


def _from_numbers(values: Sequence[Any], sample: Sequence[float]) -> Times:
    middle = float(np.median(sample))
    if all(number.is_integer() and _compact(int(number)) is not None for number in sample):
        return Times(
            [None if (number := _as_number(value)) is None else _compact(int(number)) for value in values],
            "dates of digits",
            True,
        )
    for least, factor, divisor, name in UNITS:
        if abs(middle) >= least:
            return Times(_scaled(values, factor, divisor), f"{name} since 1970", True)
    if EXCEL_DAYS[0] < middle < EXCEL_DAYS[1] and any(not number.is_integer() for number in sample):
        days = [_as_number(value) for value in values]
        return Times([None if day is None else round((day - EXCEL_EPOCH) * DAY) for day in days], "days of Excel", True)
    if all(number.is_integer() for number in sample):
        return Times(_scaled(values, 1, 1), "numbers that give the order", False)
    numbers = [_as_number(value) for value in values]
    distinct = sorted({number for number in numbers if number is not None and number == number})
    rank = {number: place for place, number in enumerate(distinct)}
    return Times([None if number is None else rank.get(number) for number in numbers], "numbers that give the order", False)


def _scaled(values: Sequence[Any], factor: int, divisor: int) -> list[int | None]:
    """Numbers times `factor` by `divisor`; whole numbers without rounding errors."""
    found: list[int | None] = []
    for value in values:
        if isinstance(value, int | np.integer) and not isinstance(value, bool):
            found.append(int(value) * factor // divisor)
        elif isinstance(value, str) and value.strip().isdecimal():
            found.append(int(value.strip()) * factor // divisor)
        else:
            number = _as_number(value)
            found.append(None if number is None or not math.isfinite(number) else int(number * factor // divisor))
    return found


def _compact(number: int) -> int | None:
    """Milliseconds of a date that is written as digits, such as 20240131, 202401312359 or 20240131235959."""
    digits = str(number)
    forms = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
    if len(digits) not in forms or not digits.startswith(("19", "20")):
        return None
    try:
        return _milliseconds(datetime.datetime.strptime(digits, forms[len(digits)]))
    except ValueError:
        return None


def _milliseconds(moment: datetime.datetime) -> int:
    """Milliseconds since 1970; a time without a zone is taken as it is."""
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)
    return (zoned - datetime.datetime.fromtimestamp(0, datetime.UTC)) // datetime.timedelta(milliseconds=1)


def _from_texts(values: Sequence[Any], sample: Sequence[Any], day_first: bool | None) -> Times:
    """Times of texts and of date objects."""
    order, why = _day_first([value for value in sample if isinstance(value, str)], day_first)
    known: dict[Any, int | None] = {}
    moments: list[int | None] = []
    for value in values:
        if _is_empty(value):
            moments.append(None)
            continue
        if value not in known:
            known[value] = _moment(value, order)
        moments.append(known[value])
    return Times(moments, f"dates{why}", True)


def _day_first(texts: Sequence[str], given: bool | None) -> tuple[bool, str]:
    """Whether the day comes before the month, and the reason in words."""
    dates = [found for text in texts if (found := _NUMBERED_DATE.match(text.strip())) and len(found.group(1)) < 3]
    if not dates:
        return bool(given), ""
    if any(int(date.group(1)) > 12 for date in dates):
        return True, ", the day first"
    if any(int(date.group(2)) > 12 for date in dates):
        return False, ", the month first"
    sign = re.sub(r"\d", "", dates[0].group())[0]
    order = given if given is not None else sign != "/"
    return order, f", {'the day' if order else 'the month'} first (no date tells; it is usual before {sign!r})"


def _moment(value: Any, day_first: bool) -> int | None:
    """Milliseconds of one cell; None if it is no time."""
    if isinstance(value, datetime.datetime):
        return _milliseconds(value)
    if isinstance(value, datetime.date):
        return _milliseconds(datetime.datetime(value.year, value.month, value.day))
    text = re.sub(r"[年月]", "-", re.sub(r"[日号]", " ", re.sub(r"[時时点]|(?<=\d)分(?=\d)", ":", str(value)))).replace(
        "秒", ""
    )
    text = re.sub(r"(\d:\d\d?)[分:]?\s*$", r"\1", text).strip().removesuffix(" UTC").removesuffix(" Uhr")
    text = re.sub(r"^(\d{1,2}/\w{3}/\d{4}):", r"\1 ", text)
    try:
        return _milliseconds(datetime.datetime.fromisoformat(text))
    except ValueError:
        pass
    from dateutil import parser

    try:
        return _milliseconds(parser.parse(text, dayfirst=day_first and not re.match(r"\d{4}", text)))
    except (ValueError, OverflowError, TypeError):
        return None


__all__ = ["Times", "read_times"]
