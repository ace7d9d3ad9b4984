"""The importer ``export`` of a recipe: a shop's own files."""

from __future__ import annotations

from onesearch.data.market import Market


def import_export(
    source: str,
    *,
    log: tuple[str, ...] = (),
    columns: dict[str, str] | None = None,
    log_columns: dict[str, str] | None = None,
    language: str | None = None,
    session_minutes: int = 30,
    made_queries: bool = True,
) -> Market:
    """Import a shop's export; see `onesearch.data.exports.read_shop`.

    Args:
        source: file of the products.
        log: files of the events; empty for a catalogue alone.
        columns: our name → column of the products' file, for columns that are not recognised.
        log_columns: the same for the log.
        language: language of the texts; None recognises it.
        session_minutes: minutes without an event after which a new session of a user begins.
        made_queries: whether sessions without a query get one that is made of their item.
    """
    from onesearch.data.exports import read_shop

    return read_shop(
        source,
        log or None,
        columns=columns,
        log_columns=log_columns,
        language=language,
        session_minutes=session_minutes,
        made_queries=made_queries,
    ).market


__all__ = ["import_export"]
