"""The files that a shop exports, each written as another system would write them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from .shop import Event, Product, ShopSpec, make_events, make_products


class Files(NamedTuple):
    """Paths of an export; `log` is None for items only."""

    products: Path
    log: Path | None


def write_shop(spec: ShopSpec, folder: Path) -> Files:
    """Write the products of a shop, and its log if it has one."""
    folder.mkdir(parents=True, exist_ok=True)
    products = make_products(spec)
    events = make_events(spec, products)
    write_products, write_log = WRITERS[spec.files]
    return Files(write_products(spec, products, folder), write_log(events, folder) if events else None)


def _plain_products(spec: ShopSpec, products: Sequence[Product], folder: Path) -> Path:
    """Comma-separated, with the names that every shop has."""
    rows = []
    for product in products:
        row = {"id": product.item_id, "title": product.title, "brand": product.brand, "price": f"{product.price:.2f}"}
        row["category"] = " > ".join(product.path) if spec.categories else ""
        row["tags"] = f"{product.trait}, {product.material}" if spec.tags else ""
        row["description"] = product.description if spec.descriptions else ""
        row["color"] = product.colour if spec.variants > 1 else ""
        rows.append({name: value for name, value in row.items() if any((spec.categories or name != "category", value))})
    return _csv(folder / "products.csv", rows)


def _plain_log(events: Sequence[Event], folder: Path) -> Path:
    """One row per event, with seconds."""
    rows = [
        {
            "timestamp": event.time,
            "user_id": event.user,
            "event_type": event.kind,
            "query": event.query,
            "product_id": event.item_id,
        }
        for event in events
    ]
    return _csv(folder / "events.csv", rows)


def _order_log(events: Sequence[Event], folder: Path) -> Path:
    """One row per bought product, as accounting keeps it: nobody knows what was searched for."""
    days = [(datetime.fromtimestamp(event.time, UTC), event) for event in events if event.kind == "purchase"]
    rows = [
        {"Order date": f"{day:%Y-%m-%d %H:%M}", "Customer": event.user, "SKU": event.item_id, "Qty": 1} for day, event in days
    ]
    return _csv(folder / "orders.csv", rows)


def _german_products(spec: ShopSpec, products: Sequence[Product], folder: Path) -> Path:
    """Semicolons, a byte order mark, decimal commas with a currency, German headers, columns that say nothing."""
    rows = [
        {
            "Artikelnummer": product.item_id,
            "Bezeichnung": product.title,
            "Marke": product.brand,
            "Kategorie": " / ".join(product.path),
            "Preis": f"{product.price:,.2f} €".replace(",", "_").replace(".", ",").replace("_", "."),
            "Bestand": "3",
            "": "",
        }
        for product in products
    ]
    return _csv(folder / "artikel.csv", rows, ";", "utf-8-sig")


def _webshop_products(spec: ShopSpec, products: Sequence[Product], folder: Path) -> Path:
    """HTML in the descriptions, empty rows, a product twice, one without a title."""
    rows = [
        {
            "sku": product.item_id,
            "name": product.title,
            "body_html": f"<p>{product.description}</p><ul><li>{product.material}</li></ul>",
            "vendor": product.brand,
            "product_type": product.path[-1] if spec.categories else "",
            "tags": f"{product.trait}|{product.material}|{product.colour}",
            "price": f"${product.price:.2f}",
            "image_url": f"https://img.example/{product.item_id}.jpg",
        }
        for product in products
    ]
    rows.insert(3, dict(rows[0]))
    rows.insert(5, {**rows[1], "sku": "no-title", "name": " "})
    rows.append(dict.fromkeys(rows[0], ""))
    return _csv(folder / "products_export.csv", rows)


def _pandas_log(events: Sequence[Event], folder: Path) -> Path:
    """Ids that pandas made floats, ISO times, names of an analytics tool, and views of products that the shop no longer has."""
    rows = [
        {
            "": number,
            "event_time": datetime.fromtimestamp(event.time, UTC).isoformat(),
            "visitorid": event.user,
            "event": {"search": "search", "click": "view_item", "purchase": "purchase"}[event.kind],
            "search_term": event.query,
            "itemid": f"{event.item_id}.0" if event.item_id else "",
        }
        for number, event in enumerate(events)
    ]
    rows.insert(10, {**rows[1], "": len(rows), "itemid": "999999.0"})
    return _csv(folder / "log.csv.gz", rows)


def _report_products(spec: ShopSpec, products: Sequence[Product], folder: Path) -> Path:
    """UTF-16, tabs, and a line before the header."""
    rows = [
        {"Item_ID": product.item_id, "Product Name": product.title, "Brand": product.brand, "Price": f"{product.price:.2f}"}
        for product in products
    ]
    if spec.categories:
        rows = [{**row, "Category": " | ".join(product.path)} for row, product in zip(rows, products)]
    text = _delimited(rows, "\t")
    path = folder / "report.tsv"
    path.write_bytes(("Products, exported 2024-01-31\n" + text).encode("utf-16"))
    return path


def _json_products(spec: ShopSpec, products: Sequence[Product], folder: Path) -> Path:
    """One JSON object per line, with lists."""
    rows = [
        {
            "product_id": product.item_id,
            "name": product.title,
            "brand": {"name": product.brand},
            "categories": list(product.path) if spec.categories else [],
            "price": product.price,
            "color": product.colour if spec.variants > 1 else None,
        }
        for product in products
    ]
    path = folder / "products.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def _json_log(events: Sequence[Event], folder: Path) -> Path:
    """One JSON object per line, with milliseconds."""
    rows = [
        {
            "ts": event.time * 1000,
            "user": event.user or None,
            "type": event.kind,
            "query": event.query,
            "item": event.item_id or None,
        }
        for event in events
    ]
    path = folder / "events.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


def _parquet_products(spec: ShopSpec, products: Sequence[Product], folder: Path) -> Path:
    """A parquet table."""
    table = pa.table(
        {
            "id": [int(product.item_id) for product in products],
            "title": [product.title for product in products],
            "brand": [product.brand for product in products],
            "category": [">".join(product.path) for product in products],
            "price": [product.price for product in products],
        }
    )
    pq.write_table(table, folder / "products.parquet")
    return folder / "products.parquet"


def _delimited(rows: Sequence[dict], delimiter: str) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(
        text, list(dict.fromkeys(name for row in rows for name in row)), delimiter=delimiter, lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _csv(path: Path, rows: Sequence[dict], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    content = _delimited(rows, delimiter).encode(encoding)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


WRITERS: dict[str, tuple[Callable[..., Path], Callable[..., Path]]] = {
    "plain": (_plain_products, _plain_log),
    "german": (_german_products, _plain_log),
    "webshop": (_webshop_products, _pandas_log),
    "report": (_report_products, _plain_log),
    "json": (_json_products, _json_log),
    "parquet": (_parquet_products, _json_log),
    "orders": (_plain_products, _order_log),
}
"""Name → functions that write the products and the log of a shop."""

__all__ = ["WRITERS", "Files", "write_shop"]
