"""Import Chorus electronics: an Icecat catalogue with human relevance judgements, without users."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..market import Market
from .importing import (
    BadRow,
    BadRows,
    TableBuilder,
    as_identifier,
    assemble,
    convert,
    filled_text,
    identifier,
    known,
    optional_number,
    optional_text,
    read_csv,
    read_jsonl,
    required_files,
    unique,
)

PRODUCTS = "products.jsonl.gz"
RATINGS = "Broad_Query_Set_rated.csv"

ATTRIBUTE_FIELDS: dict[str, tuple[str, ...]] = {
    "entity": ("attr_t_product_type",),
    "color": ("attr_t_product_colour", "attr_t_cable_colour", "attr_t_printing_colours"),
    "material": ("attr_t_material", "attr_t_housing_material", "attr_t_jacket_material"),
    "style": ("attr_t_finish_type", "attr_t_form_factor", "attr_t_shape"),
    "function": ("attr_t_connectivity_technology", "attr_t_print_technology"),
    "location": ("attr_t_country_of_origin",),
    "audience": ("attr_t_recommended_gender", "attr_t_market_positioning"),
    "scene": ("attr_t_recommended_usage", "attr_t_purpose"),
    "model": ("attr_t_oem_code",),
    "series": ("attr_t_product_family",),
}
"""Which Icecat fields fill which attribute type: our choice. Apart from these, supplier and short description are used."""

NO_VALUE = frozenset({"", "y", "n", "n/a", "not available", "not supported", "unspecified", "other"})

CENTS = 100


def import_chorus(folder: str | Path, *, bad_rows: str = "raise", name: str = "chorus-electronics") -> Market:
    """Read ``products.jsonl.gz`` and ``Broad_Query_Set_rated.csv``.

    * ``supplier`` is the brand; the product type, where given, is the only category.
    * ``attributes`` are filled as `ATTRIBUTE_FIELDS` says; ``short_description`` is the single value of ``specifications``, and
      ``info["text_fields"]`` names title, brand and specifications, which is what the published BM25 baseline reads.
    * ``price`` is divided by 100: the source documents no unit, but nearly all its prices end in 94, 95, 44 or 45, that is,
      they are cents.
    * The other ``attr_*`` fields are not imported; ``info["attribute_fields"]`` counts them.

    There are no users and no sessions, so there is nothing to split: this market measures relevance only.

    Args:
        folder: holds both files.
        bad_rows: ``raise``, or ``drop`` to leave bad rows out and count them in ``info["dropped"]``.
        name: name of the market.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: bad rows, with counts per reason and the first lines.
    """
    products_path, ratings_path = required_files(folder, (PRODUCTS, RATINGS))
    bad = BadRows(bad_rows)
    seen: set[str] = set()
    fields: Counter[str] = Counter()
    items = _read_products(products_path, bad, seen, fields)
    relevance = _read_ratings(ratings_path, bad, seen)
    imported = {field for names in ATTRIBUTE_FIELDS.values() for field in names}
    info = {
        "name": name,
        "source": "Chorus electronics: Open Icecat catalogue with the Chorus project's broad query set",
        "language": "en",
        "split": {"method": "none"},
        "text_fields": ["title", "brand", "specifications"],
        "price_unit": "currency unit; the source's integers divided by 100",
        "attribute_fields": {"imported": len(imported & set(fields)), "not_imported": len(set(fields) - imported)},
        "dropped": bad.close(),
    }
    return assemble({"items": items, "relevance": relevance}, info)


def _read_products(path: Path, bad: BadRows, seen: set[str], fields: Counter[str]) -> pa.Table:
    def make(row: Mapping[str, Any]) -> dict[str, Any]:
        fields.update(key for key in row if key.startswith("attr_"))
        item_id = unique(identifier(row, "id"), seen, "id")
        item = _item(item_id, row)
        seen.add(item_id)
        return item

    return TableBuilder("items").extend(convert(path, read_jsonl(path, bad), make, bad)).table()


def _item(item_id: str, row: Mapping[str, Any]) -> dict[str, Any]:
    brand, description, price = (
        optional_text(row, "supplier"),
        optional_text(row, "short_description"),
        optional_number(row, "price"),
    )
    attributes = {kind: _values(row, names) for kind, names in ATTRIBUTE_FIELDS.items()}
    attributes["brand"] = [brand] if brand else []
    attributes["specifications"] = [description] if description else []
    return {
        "item_id": item_id,
        "title": filled_text(row, "title"),
        "brand": brand,
        "categories": attributes["entity"][:1],
        "price": None if price is None else price / CENTS,
        "attributes": attributes,
    }


def _values(row: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    """Distinct values of the named fields; a field may hold several, separated by commas.

    Bare numbers and "not available" are no values.
    """
    parts = [part.strip() for name in names for part in (optional_text(row, name) or "").split(",")]
    return list(dict.fromkeys(part for part in parts if part.lower() not in NO_VALUE and not part.isdigit()))


def _read_ratings(path: Path, bad: BadRows, items: set[str]) -> pa.Table:
    def make(row: Mapping[str, Any]) -> dict[str, Any]:
        item_id = as_identifier(row["docid"], "docid")
        known([item_id], items, "docid", PRODUCTS)
        if row["rating"] not in ("0", "1", "2", "3"):
            raise BadRow("rating must be 0, 1, 2 or 3", repr(row["rating"]))
        return {"query": filled_text(row, "query"), "item_id": item_id, "grade": int(row["rating"])}

    return (
        TableBuilder("relevance")
        .extend(convert(path, read_csv(path, required=("query", "docid", "rating")), make, bad))
        .table()
    )
