"""Read a shop's export: one call from files to a market and a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..arrow_tables import as_dataset, table_from_rows
from ..bad_rows import BadRows
from ..languages import detect_language, first_subtag
from ..made_queries import with_made_queries
from ..market import Market
from ..request_checks import check_requests
from ..requests import SPLITS, request_rows, split_sessions
from ..schema import TABLES
from ..splits import SplitConfig
from ..text import DEFAULT_TEXT_FIELDS
from .columns import NONE, Columns
from .event_columns import log_columns as find_log_columns
from .judgements import judged_note, relevance_rows
from .logs import Log, read_logs
from .names import log_field, plain, product_field
from .product_columns import explain_left_out, product_columns
from .products import Products, read_products
from .raw_files import RawTable, read_raw
from .report import FileReport, ShopReport
from .values import as_id, ids_are_floats

DESCRIPTION_LETTERS = 300
"""Letters of a description that become part of an item's text; our choice."""


@dataclass(frozen=True)
class Shop:
    """A shop as a market.

    Args:
        market: items, users and sessions.
        report: what was understood and what was left out.
    """

    market: Market
    report: ShopReport


def read_shop(
    products: str | Path,
    log: str | Path | Sequence[str | Path] | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    log_columns: Mapping[str, str] | None = None,
    language: str | None = None,
    session_minutes: int = 30,
    made_queries: bool = True,
) -> Shop:
    """Read the products and the log that a shop exports, and say what was understood.

    Format, encoding, separator, header, columns, prices, times and category paths are found by names and contents; docs/market.md lists the
    rules. A row that cannot be used is left out and counted in the report by reason, with an example. Nothing else is asked.

    Args:
        products: file of products: delimited text, JSON, JSON lines, XML, Excel or parquet; text may be compressed (``.gz``).
        log: file of events (one per row) or of sessions (one per row), in any of these formats, or several such files: searches, clicks
            and orders, for example, which are joined by user and time. A file of a query, an item and a grade holds judgements: they
            measure the search, and from 1,000 judged queries on they are learned from. None: a catalogue without sessions.
        columns: field → column of the products, for columns that are found wrongly, for example ``{"item_id": "sku", "title": "name"}``. A
            field may be any of its usual names (``id``, ``name``), or an attribute (``attributes.color``, ``color``).
        log_columns: field → column of the log: ``time``, ``user_id``, ``session_id``, ``query``, ``item_id``, ``kind`` and others. Of
            several files it concerns those that have such a column.
        language: language of the texts, for example ``de`` or ``zh-CN``. None: it is detected and reported.
        session_minutes: events of a user with the same query are one session while no two of them are further apart. Raising it makes fewer
            and longer sessions.
        made_queries: gives sessions without a query one that is made of their item's category, brand, attributes and tags, so that they are
            learned from; see `with_made_queries`. False: they are part of users' histories alone.

    Raises:
        FileNotFoundError: a file does not exist.
        MissingExtraError: a file is an Excel file and the extra ``exports`` is not installed.
        ValueError: a file is of none of the formats, no column can be the title, no item is left, one of several files of the log holds no
            times, or an argument does not fit.

    Example:
        >>> shop = read_shop("products.csv", "events.csv")  # doctest: +SKIP
        >>> print(shop.report.to_table())  # doctest: +SKIP
        >>> shop.market.save("runs/mine/market")  # doctest: +SKIP
    """
    if session_minutes < 1:
        raise ValueError(f"session_minutes={session_minutes}: it must be 1 or more")
    asked = first_subtag(language)
    paths = [] if log is None else [log] if isinstance(log, str | Path) else list(log)
    bad, log_bads = BadRows("drop"), [BadRows("drop") for _ in paths]
    raw_logs = [read_raw(path, own, lambda name: log_field(name) is not None) for path, own in zip(paths, log_bads)]
    overrides = _by_file(raw_logs, log_columns or {})
    raw = read_raw(products, bad, lambda name: product_field(name) is not None)
    chosen = product_columns(raw, columns, _log_ids(raw_logs, overrides))
    explain_left_out(chosen)
    items = read_products(chosen, bad)
    report = ShopReport(_products_report(raw, chosen, items, bad))
    if not items.items:
        raise ValueError(f"{products} holds no item that can be used:\n{report.to_table()}")
    found = None
    if raw_logs:
        found, report.logs = _read_logs(raw_logs, overrides, items, log_bads, session_minutes)
    market = _market(Path(products), items, found, _language(asked, items, found, report))
    if made_queries and found is not None:
        market, sentence = with_made_queries(market)
        report.notes += [sentence] if sentence else []
    _choose_split(market, found, report)
    if found is not None and found.judged:
        market = _with_judgements(market, found, report)
    if found is not None:
        report.notes += found.notes
    market.info["dropped"] = dict(sum((Counter(own.counts) for own in (bad, *log_bads)), Counter[str]()))
    return Shop(market, report)


def _by_file(raw_logs: Sequence[RawTable], override: Mapping[str, str]) -> list[dict[str, str]]:
    """The user's columns of each file of the log. A column that no file has goes to the first, which refuses it."""
    found: list[dict[str, str]] = [{} for _ in raw_logs]
    for name, column in override.items():
        having = [place for place, raw in enumerate(raw_logs) if column == NONE or plain(column) in map(plain, raw.columns)]
        for place in having or range(min(len(found), 1)):
            found[place][name] = column
    return found


def _log_ids(raw_logs: Sequence[RawTable], overrides: Sequence[Mapping[str, str]]) -> set[str]:
    """Ids of items in the log, without the catalogue's help."""
    found: set[str] = set()
    for raw, override in zip(raw_logs, overrides):
        for column in find_log_columns(raw, override, None).columns.of.get("item_id", []):
            values = raw.values(column)
            was_float = ids_are_floats(values)
            found |= {text for value in values if not isinstance(value, list) and (text := as_id(value, was_float))}
    return found


def _read_logs(
    raws: Sequence[RawTable],
    overrides: Sequence[Mapping[str, str]],
    items: Products,
    bads: Sequence[BadRows],
    session_minutes: int,
) -> tuple[Log, list[FileReport]]:
    """The sessions of a log, and the reports of its files."""
    titles = [item["title"] for item in items.items]
    chosen = [find_log_columns(raw, override, items.ids.names(), titles) for raw, override in zip(raws, overrides)]
    for columns in chosen:
        explain_left_out(columns.columns)
    found = read_logs(chosen, items.ids, bads, session_minutes)
    reports = []
    for raw, columns, file, bad in zip(raws, chosen, found.files, bads):
        form = f"{raw.form}; one row per {columns.form.rstrip('s')}"
        report = FileReport(raw.path.name, form, 0, file.kept, file.merged, columns.columns.report(), notes=file.notes)
        report.add_losses(bad)
        report.rows = file.kept + file.merged + report.lost
        reports.append(report)
    return found, reports


def _products_report(raw: RawTable, chosen: Columns, items: Products, bad: BadRows) -> FileReport:
    if any(column.field is None for column in chosen.report()):
        items.notes.append(
            "a column that is left out can be kept, for example with columns={'attributes.material': 'its name'}"
        )
    report = FileReport(raw.path.name, raw.form, 0, len(items.items), items.merged, chosen.report(), notes=items.notes)
    report.add_losses(bad)
    report.rows = report.kept + report.merged + report.lost
    return report


def _language(asked: str | None, items: Products, log: Log | None, report: ShopReport) -> str:
    """The language of the market; a detected one is reported."""
    if asked is not None:
        report.notes.append(f"language {asked}, as you say")
        return asked
    titles = [item["title"] for item in items.items]
    queries = [session["query"] for session in log.sessions] if log else []
    language, reason = detect_language([*titles, *dict.fromkeys(query for query in queries if query)])
    report.notes.append(f"language {language}: {reason}")
    return language


def _market(products: Path, items: Products, log: Log | None, language: str) -> Market:
    """The market, with the text fields that hold something."""
    fields = list(DEFAULT_TEXT_FIELDS)
    fields += [name for name in ("tags", "description") if any(item[name] for item in items.items)]
    rows = {"items": items.items, "users": log.users if log else [], "sessions": log.sessions if log else [], "relevance": []}
    info: dict[str, Any] = {
        "name": products.resolve().stem.split(".")[0],
        "source": f"export of a shop: {products.name}",
        "language": language,
        "split": {"method": "none"},
        "text_fields": fields,
        "text_limits": {"description": DESCRIPTION_LETTERS},
    }
    return Market(**{name: as_dataset(table_from_rows(name, rows[name])) for name in TABLES}, info=info)


def _with_judgements(market: Market, log: Log, report: ShopReport) -> Market:
    """The market with judged pairs: of the test's queries where the pairs are learned from, else of all."""
    queries = None
    if log.learned:
        held_out = split_sessions(market) == SPLITS.index("test")
        queries = {row["query"] for row, is_held in zip(market.sessions, held_out) if is_held}
        market.info["clicks"] = "items that were judged relevant"
    report.notes.append(judged_note(log.judged, None if queries is None else len(queries)))
    rows = relevance_rows(log.judged, queries)
    return replace(market, relevance=as_dataset(table_from_rows("relevance", rows)))


def _choose_split(market: Market, log: Log | None, report: ShopReport) -> None:
    """Split by time, or at random without times; a log that is too thin for a test is all training."""
    if log is None:
        report.notes.append("no log: a catalogue without sessions")
        return
    if not log.sessions and log.judged:
        return
    if not log.sessions:
        report.notes.append("no row of the log can be used, for the reasons above: a catalogue without sessions")
        return
    methods = [SplitConfig("time" if log.has_time else "random")]
    methods += [SplitConfig(methods[0].method, validation=0.2, test=0.3), SplitConfig("none")]
    for config in methods:
        market.info["split"] = config.info()
        if not list(check_requests(market)):
            break
    requests = sum(len(request_rows(market, split)) for split in SPLITS)
    users = len({session["user_id"] for session in log.sessions})
    report.notes.append(
        f"{len(log.sessions):,} sessions of {users:,} users; {requests:,} of them are requests (a query with a click or a purchase); "
        f"split: {market.info['split']}"
    )


__all__ = ["Shop", "read_shop"]
