"""Files for importer tests: small ones in a published shape, and the published ones if they are present."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from onesearch.data.checking import check_market
from onesearch.data.market import Market

REAL = Path(os.environ.get("ONESEARCH_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def real(name: str) -> Path:
    if not (REAL / name).is_dir():
        pytest.skip(f"{name} is missing; set ONESEARCH_DATA to the folder that holds it")
    return REAL / name


def write_jsonl(path: Path, rows: list[dict[str, Any] | str]) -> Path:
    """Write rows as JSON, and text unchanged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    data = ("\n".join(lines) + "\n").encode("utf-8")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def sound(market: Market, folder: Path) -> Market:
    """The market, after a check that finds no problem in it."""
    assert check_market(market.save(folder / "market", overwrite=True)) == []
    return market
