"""Which rows of products the shop shows to nobody: drafts, archived and disabled ones."""

from __future__ import annotations

from .columns import Columns
from .names import plain
from .report import ColumnReport
from .values import as_text

SHOWN = frozenset(
    "1 true yes y on active published publish enabled visible live shown search catalog catalogsearch online aktiv veroffentlicht "
    "veroeffentlicht ja sichtbar actif publie oui activo publicado si attivo pubblicato ativo sim 上架 已上架 在售 是 公開 公開中 "
    "販売中 판매중".split()
)
"""Values of products that are shown, as `_state` writes them."""

HIDDEN = frozenset(
    "0 -1 false no n off inactive draft archived disabled hidden unpublished deleted trash private pending unlisted entwurf inaktiv "
    "archiviert nein versteckt brouillon inactif archive non borrador inactivo archivado inattivo bozza nonpubblicato rascunho "
    "inativo 下架 已下架 停售 否 非公開 販売終了 판매중지".split()
)
"""Values of products that are not shown."""

MAGENTO = frozenset({"1", "2"})
"""Values of Magento's ``status`` and ``product_online``: enabled and disabled."""


def check_published(columns: Columns) -> None:
    """Leave columns of the field ``published`` out whose values say something else, or by which no row would be left."""
    for column in list(columns.of.get("published", [])):
        values = _values(columns, column)
        hidden = hidden_values(values)
        if hidden is None:
            columns.leave_out(column, "its values do not say whether the shop shows a product")
        elif len(hidden) == len(values):
            columns.leave_out(column, "no row would be left: by this column the shop shows none")
        elif hidden:
            why = "rows that the shop does not show are left out; published=- keeps them"
            columns.reports[column] = ColumnReport(column, "published", why)
        else:
            columns.leave_out(column, "the shop shows every row")


def hidden_rows(columns: Columns) -> dict[str, frozenset[str]]:
    """Column of the field ``published`` → its values that say that a product is not shown."""
    return {column: hidden_values(_values(columns, column)) or frozenset() for column in columns.of.get("published", [])}


def hidden_values(values: set[str]) -> frozenset[str] | None:
    """Those values of a column that say that a product is not shown; None if the column says something else.

    Example:
        >>> sorted(hidden_values({"active", "Draft", "archived"}))
        ['Draft', 'archived']
        >>> hidden_values({"in stock", "sold out"}) is None
        True
    """
    states = {value: _state(value) for value in values}
    if set(states.values()) <= MAGENTO:
        return frozenset(value for value, state in states.items() if state == "2")
    if any(state not in SHOWN | HIDDEN for state in states.values()):
        return None
    return frozenset(value for value, state in states.items() if state in HIDDEN)


def _values(columns: Columns, column: str) -> set[str]:
    """The distinct cells of a column as text."""
    return {text for value in columns.table.values(column) if (text := as_text(value)) is not None}


def _state(value: str) -> str:
    """A value as the lists write it: a number without decimals, else letters in lower case without accents."""
    try:
        return str(int(float(value)))
    except (ValueError, OverflowError):
        return plain(value)


__all__ = ["check_published", "hidden_rows", "hidden_values"]
