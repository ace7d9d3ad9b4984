"""The columns of a table of products: names first, contents where a name misleads or says nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from ..choices import ATTRIBUTE_TYPES
from ..schema import STATISTICS, TABLES
from .columns import SAMPLE, Columns, choose_columns, is_image, is_number, is_url, share
from .names import attribute_field, category_level, product_field
from .paths import STRONG, WEAK
from .published import check_published
from .raw_files import RawTable
from .report import ColumnReport
from .values import as_id, as_price, as_text, ids_are_floats, listed

ROW_KINDS = frozenset(
    {"simple", "variable", "variation", "grouped", "external", "configurable", "bundle", "virtual", "downloadable", "product"}
)
"""Kinds of rows in exports of WooCommerce and Magento; their column is called like Shopify's column of categories, ``type``."""

RANKED = ("title", "description", "short_description", "brand", "seller", "price", "url", "image", "ocr_text")
"""Fields that are read from the first filled cell of their columns."""

FIELDS = (
    *(name for name in TABLES["items"] if name != "attributes"),
    *(f"attributes.{kind}" for kind in ATTRIBUTE_TYPES),
    "group",
    "published",
)
"""Fields that a user can name."""

MOSTLY = 0.8
"""Share of the cells that must fit; our choice."""

FILLED = 0.01
"""Share of the rows that a column of attributes must fill to be read by the end of its name; our choice."""

FLAGS = frozenset({"y", "n", "yes", "no", "true", "false"})

NAMED = 0.3
"""Share of the titles that must name their seller for sellers to be brands; our choice."""

BOOKKEEPING = frozenset(
    "stock quantity qty inventory availability visibility created_at updated_at modified position featured condition "
    "gtin ean upc barcode isbn tax_class tax_status weight_unit shipping currency rating review_count reviews lagerbestand bestand "
    "verfugbar mwst steuer 库存".split()
)
"""Names of columns that say nothing about the item itself."""


def product_columns(table: RawTable, override: Mapping[str, str] | None, log_ids: Collection[str]) -> Columns:
    """Find the field of each column.

    Args:
        table: rows of products.
        override: field → column, as the user says it.
        log_ids: ids in the log; the id of an item is the column that holds most of them. Empty without a log.

    Raises:
        ValueError: `override` names what does not exist, or no column can be the title.
    """
    columns = choose_columns(table, _field, override, FIELDS)
    _find_attributes(columns)
    _correct_by_contents(columns)
    _find_by_contents(columns)
    _choose_id(columns, log_ids)
    if not columns.of.get("title"):
        _find_title(columns)
    _find_brand(columns)
    for name in RANKED:
        columns.rank(name)
    for name in ("group", "features", *STATISTICS):
        columns.keep_one(name)
    _keep_categories(columns)
    check_published(columns)
    return columns


def _field(name: str) -> tuple[str, int] | None:
    """Field of a column by its name; levels of categories keep their number as the rank."""
    level = category_level(name)
    return ("categories", 100 + level) if level is not None else product_field(name)


def _find_attributes(columns: Columns) -> None:
    """Read columns of attributes whose names end in a known one, such as ``attr_t_product_colour``."""
    for column, report in list(columns.reports.items()):
        field = attribute_field(column) if report.why == "unknown name" else None
        if field is None or (field == "categories" and columns.of.get("categories")):
            continue
        texts = columns.texts(column)
        if len(texts) >= FILLED * min(len(columns.table.rows), SAMPLE) and share(texts, _is_word) > MOSTLY:
            columns.add(field, column, "by the end of its name")


def _is_word(text: str) -> bool:
    """Whether a text may be the value of an attribute: short, with letters, and neither yes nor no."""
    return len(text) <= 40 and any(letter.isalpha() for letter in text) and text.lower() not in FLAGS


def _find_brand(columns: Columns) -> None:
    """Read the sellers as brands where no column holds brands and the titles name the sellers."""
    seller, title = columns.first("seller"), columns.first("title")
    if columns.of.get("brand") or seller is None or title is None or columns.reports[seller].why == "you named it":
        return
    names, titles = ([as_text(value) for value in columns.table.values(column)] for column in (seller, title))
    pairs = [(name.lower(), text.lower()) for name, text in zip(names, titles) if name and text]
    named = sum(name in text for name, text in pairs)
    if len({name for name, _ in pairs}) > 1 and named > NAMED * len(pairs):
        columns.leave_out(seller, "")
        columns.add("brand", seller, "the titles name its values")


def _correct_by_contents(columns: Columns) -> None:
    """Give columns whose contents contradict their names another field, or leave them out."""
    for column, report in list(columns.reports.items()):
        name, texts = report.field, columns.texts(column)
        if name is None or report.why == "you named it":
            continue
        if name == "categories" and share(texts, lambda text: text.lower().split(",")[0].strip() in ROW_KINDS) > MOSTLY:
            columns.leave_out(column, "")
            columns.add("kind_of_row", column, "its values are kinds of rows")
        elif name == "categories" and share(texts, is_number) > MOSTLY:
            columns.leave_out(column, "")
            columns.add("category_ids", column, "its values are numbers of categories")
        elif name == "price" and share(texts, _is_price) < 0.5:
            columns.leave_out(column, "its values are no prices")
        elif name in ("url", "image") and share(texts, lambda text: is_url(text) or is_image(text) or " " not in text) < 0.5:
            columns.leave_out(column, "its values are no addresses")
        elif name == "title" and share(texts, is_number) > MOSTLY:
            columns.leave_out(column, "its values are numbers")
        elif name == "features" and not any(_is_vector(value) for value in columns.table.values(column)):
            columns.leave_out(column, "its values are no lists of numbers")
        elif name in STATISTICS and share(texts, lambda text: is_number(text) or text[:1].isdigit() or "," in text) < MOSTLY:
            columns.leave_out(column, "its values are no numbers")


def _is_vector(value: Any) -> bool:
    entries = listed(value)
    return bool(entries) and all(isinstance(entry, int | float) or is_number(str(entry)) for entry in entries or ())


def _is_price(text: str) -> bool:
    try:
        return as_price(text) is not None
    except ValueError:
        return False


def _find_by_contents(columns: Columns) -> None:
    """Find addresses, pictures, paths and prices among the columns of unknown names."""
    for column, report in list(columns.reports.items()):
        texts = columns.texts(column)
        if report.field is not None or report.why != "unknown name" or not texts:
            continue
        if share(texts, lambda text: is_url(text) and is_image(text)) > MOSTLY and not columns.of.get("image"):
            columns.add("image", column, "its values are addresses of pictures")
        elif share(texts, lambda text: is_url(text) and not is_image(text)) > MOSTLY and not columns.of.get("url"):
            columns.add("url", column, "its values are web addresses")
        elif share(texts, lambda text: " > " in text) > MOSTLY and not columns.of.get("categories"):
            columns.add("categories", column, "its values are paths")
        elif share(
            texts, lambda text: _is_price(text) and any(sign in text for sign in "€$£¥₹円元")
        ) > MOSTLY and not columns.of.get("price"):
            columns.add("price", column, "its values are prices")


def _choose_id(columns: Columns, log_ids: Collection[str]) -> None:
    """Keep one column as the id of an item and the others as further ids, by which events may name it.

    1. A column that the user named.
    2. A column whose rows continue a product: rows with an id that occurred before and without a title are variants (Shopify's handle).
    3. The column that holds the most ids of the log; of equal ones, the best name whose values are nearly unique.
    4. Without any such name, the first column whose values are unique and hold no blanks; without that, the number of the row.
    """
    candidates = columns.of.get("item_id", [])
    of_variants = [column for column in candidates if any(isinstance(cell, list) for cell in columns.table.values(column))]
    columns.of["item_id"] = candidates = [column for column in candidates if column not in of_variants]
    for column in of_variants:
        columns.add("other_id", column, "ids of variants, by which the log may name items")
    if not candidates and (group := columns.first("group")) is not None and _is_unique(columns.table.values(group)):
        columns.of["group"].remove(group)
        columns.add("item_id", group, "the only ids")
        return
    if not candidates:
        unique = [
            column
            for column, report in columns.reports.items()
            if report.field is None and _is_unique(columns.table.values(column))
        ]
        if unique:
            columns.add("item_id", unique[0], "its values are unique and hold no blanks")
        return
    if columns.reports[candidates[0]].why == "you named it":
        best, why = candidates[0], "you named it"
    else:
        best, why = _best_id(columns, candidates, log_ids)
    others = [column for column in candidates if column != best]
    columns.of["item_id"] = []
    columns.add("item_id", best, why)
    for column in others:
        columns.add("other_id", column, f"a second id, by which the log may name items; the id is {best!r}")


def _best_id(columns: Columns, candidates: list[str], log_ids: Collection[str]) -> tuple[str, str]:
    title = columns.first("title")
    titles = columns.table.values(title) if title else []
    distinct: dict[str, set[str]] = {}
    for column in candidates:
        values = columns.table.values(column)
        was_float = ids_are_floats(values)
        ids = [as_id(value, was_float) for value in values]
        distinct[column] = {found for found in ids if found}
        filled = sum(found is not None for found in ids)
        repeated = len(distinct[column]) < filled
        untitled = [row for row, value in enumerate(titles) if not str(value or "").strip()]
        if repeated and untitled and sum(ids[row] is not None for row in untitled) > MOSTLY * len(untitled):
            return column, "by its name; rows without a title are variants of the row before with the same value"
    if log_ids:
        found = {column: len(distinct[column] & set(log_ids)) for column in candidates}
        best = max(candidates, key=found.__getitem__)
        if found[best]:
            return best, f"by its name; {found[best]:,} of {len(log_ids):,} ids in the log are in it"
    most = max(len(values) for values in distinct.values())
    return next(column for column in candidates if len(distinct[column]) >= 0.95 * most), "by its name"


def _is_unique(values: list[Any]) -> bool:
    texts = [str(value).strip() for value in values if value is not None]
    return len(texts) == len(values) == len(set(texts)) and all(
        text and len(text) <= 64 and not set(text) & set(" \t") for text in texts
    )


def _find_title(columns: Columns) -> None:
    """Take the most telling text as the title: the description, or the column of the longest texts below 200 letters."""
    description = columns.first("description") or columns.first("short_description")
    if description is not None:
        columns.leave_out(description, "")
        columns.add("title", description, "there is no title, so its first 120 letters are the title")
        return
    lengths = {}
    for column, report in columns.reports.items():
        texts = columns.texts(column)
        if (
            report.field is None
            and texts
            and share(texts, lambda text: any(letter.isalpha() for letter in text) and not is_url(text)) > MOSTLY
        ):
            lengths[column] = sum(map(len, texts)) / len(texts) * len(set(texts)) / len(texts)
    fitting = {column: length for column, length in lengths.items() if length < 200}
    if not fitting:
        names = ", ".join(map(repr, columns.table.columns))
        raise ValueError(
            f"{columns.table.path.name}: no column can be the title; name it with columns={{'title': …}}; columns are {names}"
        )
    columns.add("title", max(fitting, key=fitting.__getitem__), "its texts are the longest and differ the most")


def _keep_categories(columns: Columns) -> None:
    """Keep a column of paths, or the columns of single levels from coarse to fine."""
    found = columns.of.get("categories", [])
    if not found and columns.of.get("category_ids"):
        column = columns.of.pop("category_ids")[0]
        columns.add("categories", column, "numbers of categories, because no column names them")
        return
    for column in columns.of.pop("category_ids", []):
        columns.leave_out(column, "numbers of categories; their names are in another column")
    if len(found) < 2 or any(columns.reports[column].why == "you named it" for column in found):
        return
    levels = {column: level for column in found if (level := category_level(column)) is not None}
    paths = [column for column in found if _holds_paths(columns, column)]
    if len(levels) > 1 and not any(_holds_paths(columns, column, STRONG) for column in levels):
        paths = []
        columns.of["categories"] = sorted(levels, key=levels.__getitem__)
    elif paths:
        columns.of["categories"] = paths[:1]
        columns.of["further_categories"] = [column for column in found if column != paths[0]]
    else:
        columns.of["categories"] = sorted(found, key=lambda column: len(set(columns.texts(column))))
    for column in found:
        if column not in columns.of["categories"]:
            columns.reports[column] = (
                ColumnReport(column, "categories", f"by its name, where {paths[0]!r} is empty")
                if paths
                else ColumnReport(column, None, "other columns hold the levels of the categories")
            )


def _holds_paths(columns: Columns, column: str, signs: Collection[str] = (*STRONG, *WEAK)) -> bool:
    """Whether cells are lists, or many of them hold one of the signs between levels."""
    if any(isinstance(cell, list) for cell in columns.table.values(column)):
        return True
    return share(columns.texts(column), lambda text: any(sign in text for sign in signs)) > 0.3


def explain_left_out(columns: Columns) -> None:
    """Say of columns with unknown names why they are left out and how to keep them."""
    for column, report in list(columns.reports.items()):
        if report.field is None and report.why == "unknown name":
            known = column.lower().replace(" ", "_") in BOOKKEEPING
            why = (
                "says nothing by which items are found"
                if known
                else "no field has this name, and its values are of no known form"
            )
            columns.leave_out(column, why)


__all__ = ["FIELDS", "explain_left_out", "product_columns"]
