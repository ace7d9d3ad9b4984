"""Rows of products as items: cells become values, variants and repeated ids join one item."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import rows as row_rules
from ..bad_rows import VALUE, BadRows
from ..fields import BadRow
from ..schema import STATISTICS
from .columns import Columns
from .ids import ItemIds
from .names import product_field
from .paths import PathStyle, path_style, split_paths
from .published import hidden_rows
from .values import as_id, as_list, as_price, as_text, decimal_sign, ids_are_floats, listed

TITLE_LETTERS = 120
"""Length of a title that is cut from a description."""

HIDDEN = "not visible individually"
"""Visibility of variants in Magento, in lower case."""


@dataclass
class Products:
    """The items of a table.

    Args:
        items: rows of the items table, in the order of the file.
        ids: finds the id of an item by any of its ids.
        merged: number of rows that joined another item.
        notes: rules that applied to columns.
    """

    items: list[dict[str, Any]]
    ids: ItemIds
    merged: int = 0
    notes: list[str] = field(default_factory=list)


def read_products(columns: Columns, bad: BadRows) -> Products:
    """Turn the rows of a table into items, by the rules of `onesearch.data.rows`.

    * A row whose id occurred before joins that item if it has no title, or the same title: its attributes and tags are added, and values
      that the item lacks are filled. With another title it is lost.
    * A row of a product that the shop does not show (a draft, an archived or disabled product) is lost, with its variants.
    * A row that a kind (``variation``) or a visibility marks as the variant of another one joins its parent, if the table has it.

    Args:
        columns: the columns and their table.
        bad: receives rows and values that do not fit.
    """
    reader = _Reader(columns, bad)
    for number, (line, row) in enumerate(columns.table.rows, start=1):
        reader.read(number, line, row)
    return reader.close()


class _Reader:
    """Reads rows one after the other, and remembers the items that they make."""

    def __init__(self, columns: Columns, bad: BadRows) -> None:
        self.columns, self.bad, self.name = columns, bad, columns.table.path.name
        self.found: dict[str, dict[str, Any]] = {}
        self.lines: dict[str, int] = {}
        self.ids = ItemIds()
        self.merged = 0
        self.option_names: dict[str, list[Any]] = {}
        self.unknown_options: Counter[str] = Counter()
        self.hidden_rows, self.unseen = hidden_rows(columns), set[str]()  # ids of products that the shop does not show
        self.variants: list[tuple[int, dict[str, Any], dict[str, Any]]] = []
        id_column = columns.first("item_id")
        self.id_column = id_column
        self.was_float = {
            c: ids_are_floats(columns.table.values(c))
            for c in [*columns.of.get("item_id", []), *columns.of.get("other_id", []), *columns.of.get("group", [])]
        }
        prices = [value for column in columns.of.get("price", []) for value in columns.table.values(column)]
        self.decimal = decimal_sign(prices)
        paths = [*columns.of.get("categories", []), *columns.of.get("further_categories", [])]
        self.styles = {column: path_style(columns.table.values(column)) for column in paths}
        self.title_is_cut = (
            columns.first("title") is not None and "120 letters" in columns.reports[columns.first("title") or ""].why
        )

    def read(self, number: int, line: int, row: dict[str, Any]) -> None:
        """Read the row of this number, from this line."""
        item = self._item(number, line, row)
        if self._is_unseen(line, item, row):
            return
        kind = (as_text(row.get(self.columns.first("kind_of_row") or "")) or "").lower()
        if kind == "variation" or item.pop("hidden"):
            self.variants.append((line, item, row))
            return
        self._add(line, item, row)

    def _is_unseen(self, line: int, item: dict[str, Any], row: Mapping[str, Any]) -> bool:
        """Whether the shop does not show the product of a row, which is noted then."""
        item_id = item["item_id"] or ""
        for column, values in self.hidden_rows.items():
            text = as_text(row.get(column))
            if text in values or (text is None and item_id in self.unseen):
                self.unseen.add(item_id)
                self.bad.add(
                    self.name, line, f"the shop does not show the product (column {column!r})", f"{item_id}: {text or ''}"
                )
                return True
        return False

    def _add(self, line: int, item: dict[str, Any], row: Mapping[str, Any]) -> None:
        item_id = item["item_id"]
        if item_id is None:
            self.bad.add(self.name, line, f"the id (column {self.id_column!r}) is empty", item["title"] or "")
        elif item_id not in self.found and item["title"] is None:
            self.bad.add(self.name, line, f"the title (column {self.columns.first('title')!r}) is empty", item_id)
        elif item_id not in self.found:
            self.found[item_id] = item
            self.lines[item_id] = line
            self.ids.add_title(as_id(item["title"]), item_id)
            self._remember(item_id, row)
        elif item["title"] in (None, self.found[item_id]["title"]):
            self._join(self.found[item_id], item)
            self._remember(item_id, row)
        else:
            self.bad.add(self.name, line, "the id occurred before, with another title", f"{item_id}: {item['title']}")

    def _join(self, item: dict[str, Any], other: Mapping[str, Any]) -> None:
        """Add the values of a variant, or of a repeated row, to an item."""
        self.merged += 1
        for name, value in other.items():
            if name == "attributes":
                for kind, values in value.items():
                    own = item["attributes"].setdefault(kind, [])
                    own += [entry for entry in values if entry not in own]
            elif name == "tags":
                item["tags"] += [entry for entry in value if entry not in item["tags"]]
            elif name == "categories" and item["categories"]:
                item["tags"] += [entry for entry in value if entry not in [*item["tags"], *item["categories"]]]
            elif name != "item_id" and item.get(name) in (None, []):
                item[name] = value

    def _remember(self, item_id: str, row: Mapping[str, Any]) -> None:
        for column in (*self.columns.of.get("item_id", []), *self.columns.of.get("other_id", [])):
            for name in listed(row.get(column)) or [row.get(column)]:
                self.ids.add(as_id(name, self.was_float[column]), item_id)

    def close(self) -> Products:
        """Join the variants with their parents, and check all items."""
        for line, item, row in self.variants:
            parent = self._parent(row)
            if parent is None:
                self._add(line, item, row)
            else:
                self._join(self.found[parent], {**item, "title": None})
                self._remember(parent, row)
        items = []
        for item_id, item in self.found.items():
            line = self.lines[item_id]

            def note(error: BadRow, line: int = line) -> None:
                self.bad.add_error(self.name, line, error, VALUE)

            try:
                items.append(row_rules.item_row(item, note))
            except BadRow as error:
                self.bad.add_error(self.name, line, error)
                self.ids.remove(item_id)
        notes = [f"categories: {style}" for style in dict.fromkeys(map(str, self.styles.values()))]
        if self.decimal:
            notes.append(f"prices: the decimal sign is {self.decimal!r}")
        if any(self.was_float.values()):
            notes.append("ids were written as floats: '.0' is left out")
        if self.id_column is None:
            notes.append("no column holds ids: an item's id is the number of its row")
        if self.unknown_options:
            names = ", ".join(f"{name} ({count:,})" for name, count in self.unknown_options.most_common(10))
            notes.append(f"attributes of no known type are left out: {names}")
        return Products(items, self.ids, self.merged, notes)

    def _parent(self, row: Mapping[str, Any]) -> str | None:
        """The item that a variant belongs to."""
        for column in self.columns.of.get("group", []):
            parent = as_id(row.get(column), self.was_float[column])
            found = self.ids.find(parent.removeprefix("id:")) if parent else None
            if found is not None:
                return found
        return None

    def _item(self, number: int, line: int, row: Mapping[str, Any]) -> dict[str, Any]:
        """The values of one row by column of the items table."""
        categories, tags = self._categories(row)
        tags += [tag for column in self.columns.of.get("tags", []) for tag in as_list(row.get(column)) if tag not in tags]
        for column in self.columns.of.get("further_attributes", []):
            tags += [word for word in as_list(row.get(column)) if "=" not in word and ":" not in word and word not in tags]
        title = self._text(row, "title")
        visibility = as_text(next((row[column] for column in row if column.lower() == "visibility"), None)) or ""
        return {
            "item_id": as_id(row.get(self.id_column), self.was_float[self.id_column]) if self.id_column else str(number),
            "title": _cut(title) if title and self.title_is_cut else title,
            "description": self._text(row, "description")
            or self._text(row, "short_description")
            or (title if self.title_is_cut else None),
            "ocr_text": self._text(row, "ocr_text"),
            "brand": self._text(row, "brand"),
            "seller": self._text(row, "seller"),
            "categories": categories,
            "tags": tags,
            "price": self._price(line, row),
            "url": self._text(row, "url"),
            "image": self._first_text(row, "image"),
            "attributes": self._attributes(row),
            "features": self._features(line, row),
            **{name: self._count(row, name) for name in STATISTICS},
            "hidden": visibility.lower() == HIDDEN,
        }

    def _text(self, row: Mapping[str, Any], name: str) -> str | None:
        value = self.columns.cell(row, name)
        entries = listed(value) if isinstance(value, list) else None
        return as_text(value) if entries is None else " ".join(filter(None, map(as_text, entries))) or None

    def _first_text(self, row: Mapping[str, Any], name: str) -> str | None:
        """The first of several addresses in a cell."""
        value = self.columns.cell(row, name)
        text = as_text((listed(value) or [value])[0])
        return re.split(r"[,|;]\s*(?=\S+\.\w{3,4}\b|https?:)|\s+(?=https?:)", text)[0] if text else None

    def _categories(self, row: Mapping[str, Any]) -> tuple[list[str], list[str]]:
        """The deepest path, and names of the other paths."""
        columns = self.columns.of.get("categories", [])
        if len(columns) > 1:
            names = [name for column in columns if (name := as_text(row.get(column)))]
            return list(dict.fromkeys(names)), []
        paths = [path for column in columns for path in self.styles[column].paths(row.get(column))]
        if not paths:
            further = self.columns.of.get("further_categories", [])
            paths = next((found for column in further if (found := self.styles[column].paths(row.get(column)))), [])
        return split_paths(paths)

    def _price(self, line: int, row: Mapping[str, Any]) -> float | None:
        cell = self.columns.cell(row, "price")
        entries = listed(cell) if isinstance(cell, list) else [cell]
        try:
            return as_price((entries or [None])[0], self.decimal)
        except ValueError as error:
            self.bad.add(self.name, line, "the price is no number from 0", error, VALUE)
            return None

    def _attributes(self, row: Mapping[str, Any]) -> dict[str, list[str]]:
        """Values by attribute type: of columns, of options such as Shopify's, and of cells such as ``color=Red,size=M``."""
        found: dict[str, list[str]] = {}
        for name, columns in self.columns.of.items():
            if name.startswith("attributes."):
                for column in columns:
                    found.setdefault(name.removeprefix("attributes."), []).extend(as_list(row.get(column)))
        if "color" in found:
            found["color"] = [color.strip() for value in found["color"] for color in value.split("/") if color.strip()]
        for name, values in self._options(row):
            field_of = product_field(name)
            if field_of is not None and field_of[0].startswith("attributes."):
                found.setdefault(field_of[0].removeprefix("attributes."), []).extend(values)
            elif values and name and values != ["Default Title"]:
                self.unknown_options[name] += 1
        return {kind: list(dict.fromkeys(values)) for kind, values in found.items() if values}

    def _options(self, row: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
        """Names and values of options and of further attributes."""
        found: list[tuple[str, list[str]]] = []
        for name_column, value_column in zip(self.columns.of.get("option_names", []), self.columns.of.get("option_values", [])):
            names, values = listed(row.get(name_column)) or [row.get(name_column)], row.get(value_column)
            if as_text(names[0]):
                self.option_names[name_column] = names
            names = self.option_names.get(name_column, names)  # Shopify names the options in a product's first row alone
            if len(names) > 1 and isinstance(values, list):
                found += [(as_text(name) or "", as_list(value)) for name, value in zip(names, values)]
            else:
                found.append((as_text(names[0]) or "", as_list(values)))
        for column in self.columns.of.get("further_attributes", []):
            for pair in re.split(r"[,;|]\s*(?=[^,;|=:]+[=:])", as_text(row.get(column)) or ""):
                name, sign, value = pair.partition("=") if "=" in pair else pair.partition(":")
                if sign:
                    found.append((name.strip(), as_list(value.strip())))
        return found

    def _features(self, line: int, row: Mapping[str, Any]) -> list[float] | None:
        column = self.columns.first("features")
        entries = listed(row.get(column)) if column else None
        try:
            return [float(entry) for entry in entries] if entries else None
        except (TypeError, ValueError):
            self.bad.add(self.name, line, "features hold something that is no number", entries, VALUE)
            return None

    def _count(self, row: Mapping[str, Any], name: str) -> int | None:
        column = self.columns.first(name)
        text = as_text(row.get(column)) if column else None
        return int(text) if text and text.isdecimal() else None


def _cut(text: str) -> str:
    """The first letters of a text, up to a whole word."""
    if len(text) <= TITLE_LETTERS:
        return text
    return text[:TITLE_LETTERS].rsplit(" ", 1)[0]


__all__ = ["PathStyle", "Products", "read_products"]
