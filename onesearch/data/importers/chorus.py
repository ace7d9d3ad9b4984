"""Import Chorus electronics: an Icecat catalogue with human relevance judgements, without users and sessions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from .. import fields
from ..bad_rows import BadRows
from ..fields import BadRow, Note, Row
from ..market import Market
from .csv_files import read_csv
from .importing import assemble, build_table, convert, convert_jsonl, required_files

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
    "model": ("attr_t_oem_code", "attr_t_processor_model"),
    "series": ("attr_t_product_family", "attr_t_processor_family"),
}
"""Icecat fields that fill each attribute type. The mapping is our choice; supplier and short description are imported besides."""

TAG_FIELDS = ("attr_t_cable_standard", "attr_t_internal_memory_type", "attr_t_battery_technology", "attr_t_connector_1")
"""Icecat fields with short technical names, such as "Cat6" and "DDR4", which fill ``tags``; our choice."""

NO_VALUE = frozenset({"", "y", "n", "n/a", "not available", "not supported", "unspecified", "other"})
"""Texts that are no attribute value."""

CENTS = 100
"""Divisor that turns published prices into currency units."""


def import_chorus(folder: str | Path, *, bad_rows: str = "raise", name: str = "chorus-electronics") -> Market:
    """Read ``products.jsonl.gz`` and ``Broad_Query_Set_rated.csv``.

    * ``supplier`` is the brand. The product type is the only category; an item without one has no category.
    * `ATTRIBUTE_FIELDS` lists the fields that fill ``attributes``, and `TAG_FIELDS` those that fill ``tags``. ``short_description`` is
      the description, and the only value of ``specifications``.
    * ``info["text_fields"]`` names title, brand and specifications: the published BM25 baseline reads these.
    * ``price`` is divided by 100. The source documents no unit; nearly all prices end in 94, 95, 44 or 45, which suggests cents.
    * The other ``attr_*`` fields are not imported; ``info["attribute_fields"]`` counts them.

    The market has no users and no sessions, so it measures relevance only and its split is ``none``.

    Args:
        folder: holds both files.
        bad_rows: ``raise`` an error that names bad rows, or ``drop`` them and count them in ``info["dropped"]``.
        name: name of the market.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: bad rows, with counts per reason and the first lines.
    """
    products_path, ratings_path = required_files(folder, (PRODUCTS, RATINGS))
    bad = BadRows(bad_rows)
    item_ids: set[str] = set()
    attribute_fields: Counter[str] = Counter()
    items = _read_products(products_path, bad, item_ids, attribute_fields)
    relevance = _read_ratings(ratings_path, bad, item_ids)
    imported = {*TAG_FIELDS, *(field for names in ATTRIBUTE_FIELDS.values() for field in names)}
    info = {
        "name": name,
        "source": "Chorus electronics: Open Icecat catalogue with the Chorus project's broad query set",
        "language": "en",
        "split": {"method": "none"},
        "text_fields": ["title", "brand", "specifications"],
        "price_unit": "currency unit; the source's integers divided by 100",
        "attribute_fields": {
            "imported": len(imported & set(attribute_fields)),
            "not_imported": len(set(attribute_fields) - imported),
        },
        "dropped": bad.close(),
    }
    return assemble({"items": items, "relevance": relevance}, info)


def _read_products(path: Path, bad: BadRows, item_ids: set[str], attribute_fields: Counter[str]) -> pa.Table:
    """The items table; adds to the item ids and counts the ``attr_*`` fields."""

    def make(row: Row, note: Note) -> dict[str, Any]:
        attribute_fields.update(key for key in row if key.startswith("attr_"))
        item_id = fields.unique(fields.identifier(row, "id"), item_ids, "id")
        item = _item(item_id, row, note)
        item_ids.add(item_id)
        return item

    return build_table("items", convert_jsonl(path, make, bad))


def _item(item_id: str, row: Row, note: Note) -> dict[str, Any]:
    """A row of the items table from a product."""
    brand = fields.or_none(fields.optional_text, row, "supplier", note)
    description = fields.or_none(fields.optional_text, row, "short_description", note)
    price = fields.or_none(fields.optional_number, row, "price", note)
    attributes = {kind: _values(row, names, note) for kind, names in ATTRIBUTE_FIELDS.items()}
    attributes["brand"] = [brand] if brand else []
    attributes["specifications"] = [description] if description else []
    return {
        "item_id": item_id,
        "title": fields.filled_text(row, "title"),
        "description": description,
        "brand": brand,
        "categories": attributes["entity"][:1],
        "tags": _values(row, TAG_FIELDS, note),
        "price": None if price is None else price / CENTS,
        "attributes": attributes,
    }


def _values(row: Row, names: tuple[str, ...], note: Note) -> list[str]:
    """Distinct values of the named fields, which hold them separated by commas; without numbers and the texts of `NO_VALUE`."""
    texts = [fields.or_none(fields.optional_text, row, name, note) for name in names]
    joined = ",".join(text or "" for text in texts)
    parts = [part.strip() for part in joined.split(",")]
    return list(dict.fromkeys(part for part in parts if part.lower() not in NO_VALUE and not part.isdigit()))


def _read_ratings(path: Path, bad: BadRows, item_ids: set[str]) -> pa.Table:
    """The relevance table."""

    def make(row: Row, note: Note) -> dict[str, Any]:
        item_id = fields.as_identifier(row["docid"], "docid")
        fields.known([item_id], item_ids, "docid", PRODUCTS)
        if row["rating"] not in ("0", "1", "2", "3"):
            raise BadRow("rating must be 0, 1, 2 or 3", repr(row["rating"]))
        return {"query": fields.filled_text(row, "query"), "item_id": item_id, "grade": int(row["rating"])}

    rows = read_csv(path, bad, required=("query", "docid", "rating"))
    return build_table("relevance", convert(path, rows, make, bad))
