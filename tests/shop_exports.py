"""Exports as shops write them, for tests: a German shop in Excel's CSV, and the same small shop in every format."""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import json
import random
from pathlib import Path
from typing import Any

import pandas as pd

NOUNS = {
    "Schuhe": ("Wanderschuh", "Laufschuh", "Halbschuh"),
    "Jacken": ("Regenjacke", "Winterjacke", "Daunenjacke"),
    "Lampen": ("Laterne", "Stirnlampe", "Tischlampe"),
    "Küche": ("Trinkflasche", "Bratpfanne", "Kochtopf"),
}
COLORS = ("rot", "blau", "grün", "schwarz", "weiß")
BRANDS = ("Norvik", "Lumora", "Bergheld", "Müller & Söhne")

SMALL = [
    {"id": "00017", "name": "red running shoe", "price": 89.5, "category": ["Shoes", "Running"], "color": "red", "stock": 3},
    {"id": "00018", "name": "blue rain coat", "price": 1299.0, "category": ["Coats", "Rain"], "color": "blue", "stock": 0},
    {"id": "00019", "name": "green hat, woollen", "price": 12.0, "category": ["Hats"], "color": None, "stock": 1},
]
"""A small shop."""

SMALL_LOG = [
    {"time": 1714550000, "user": "u1", "query": "shoe", "item": "00017", "kind": "view"},
    {"time": 1714550010, "user": "u1", "query": "shoe", "item": "00017", "kind": "click"},
    {"time": 1714550300, "user": "u1", "query": None, "item": "00017", "kind": "purchase"},
    {"time": 1714560000, "user": "u2", "query": "rain coat", "item": "00018", "kind": "click"},
]
"""Its log."""


def write_german_shop(folder: Path, seed: int = 0) -> tuple[Path, Path]:
    """300 products and 2,000 events as a German Excel writes them: semicolons, decimal commas, a mark of UTF-8, a line before the header.

    The log is in Windows-1252, and its ids have lost their leading zeros. Three rows of products cannot be used, and the events of item
    77777, which the shop does not sell.
    """
    draw = random.Random(seed)
    lines = ["Artikelexport vom 03.05.2024;;;;;;;;"]
    lines.append("Artikelnummer;Bezeichnung;Beschreibung;Marke;Warengruppe;Preis;Farbe;Lagerbestand;Bild-URL")
    products = []
    for number in range(300):
        group = draw.choice(list(NOUNS))
        noun, color, brand = draw.choice(NOUNS[group]), draw.choice(COLORS), draw.choice(BRANDS)
        item_id = f"{number:05d}"
        products.append((item_id, noun, color))
        whole = f"{5 + 7 * number:,}".replace(",", ".")
        text = f'"<p>Schöner {noun} in {color}.<br>Aus ""gutem"" Stoff &amp; Faden</p>"'
        path = f"Alles > {group} > {noun}"
        image = f"https://shop.example/img/{item_id}.jpg"
        lines.append(
            f"{item_id};{brand} {noun} {color};{text};{brand};{path};{whole},90 €;{color};{draw.randint(0, 9)};{image}"
        )
    lines.insert(10, "00003;Doppelt mit anderem Titel;;;;;;;")
    lines.insert(20, ";Ohne Nummer;;;;1,00;;;")
    lines.insert(30, "99999;zu;wenig")
    (folder / "artikel.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    events = ["Zeitpunkt;Kunde;Suchbegriff;Artikel;Aktion"]
    moment = 1714700000
    for _ in range(500):
        moment += draw.randint(60, 3000)
        user = f"k{draw.randint(1, 60)}" if draw.random() > 0.1 else ""
        item_id, noun, color = draw.choice(products)
        query, short = draw.choice((f"{noun} {color}", noun.lower())), str(int(item_id))
        rows = [(0, query, "", "Suche"), (5, query, short, "Ansicht"), (9, query, short, "Klick")]
        rows.append((60, "", item_id, "Kauf") if draw.random() < 0.7 else (70, query, "77777", "Klick"))
        for later, asked, item, kind in rows:
            when = datetime.datetime.fromtimestamp(moment + later, datetime.UTC)
            events.append(f"{when:%d.%m.%Y %H:%M:%S};{user};{asked};{item};{kind}")
    (folder / "ereignisse.csv").write_bytes("\r\n".join(events).encode("cp1252"))
    return folder / "artikel.csv", folder / "ereignisse.csv"


def _cells(rows: list[dict[str, Any]], separator: str, decimal: str) -> str:
    """Delimited text."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator)
    writer.writerow(rows[0])
    for row in rows:
        cells = [" > ".join(cell) if isinstance(cell, list) else cell for cell in row.values()]
        writer.writerow(
            [str(cell).replace(".", decimal) if isinstance(cell, float) else "" if cell is None else cell for cell in cells]
        )
    return out.getvalue()


def write_small(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows in the format that the name of the file says."""
    name = path.name
    if name.endswith(".xlsx"):
        flat = [{key: "/".join(value) if isinstance(value, list) else value for key, value in row.items()} for row in rows]
        pd.DataFrame(flat).to_excel(path, index=False)
    elif name.endswith(".parquet"):
        pd.DataFrame(rows).to_parquet(path)
    elif name.endswith(".jsonl"):
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    elif name.endswith(".json"):
        path.write_text(json.dumps({"count": len(rows), "products": rows}), encoding="utf-8")
    elif name.endswith(".csv.gz"):
        path.write_bytes(gzip.compress(_cells(rows, ",", ".").encode()))
    else:
        separator, decimal = {".csv": (";", ","), ".tsv": ("\t", "."), ".txt": ("|", ".")}[path.suffix]
        encoding = {".csv": "utf-8-sig", ".tsv": "utf-16", ".txt": "utf-16-le"}[path.suffix]
        path.write_bytes(_cells(rows, separator, decimal).encode(encoding))
    return path
