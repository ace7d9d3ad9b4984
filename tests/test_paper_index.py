"""docs/paper_index.md names only what exists: files, and the functions and classes in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS = [line for line in (ROOT / "docs/paper_index.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
PATH = re.compile(r"`((?:[a-z_]+/)+[\w.-]+\.(?:py|yaml))`")
NAMED = re.compile(r"`([A-Za-z_.]+)`(?:(?:, | and )`([A-Za-z_.]+)`)?(?:(?:, | and )`([A-Za-z_.]+)`)? in `([a-z_/]+\.py)`")


def test_the_files_exist():
    named = {path for row in ROWS for path in PATH.findall(row)}
    assert len(named) > 50 and not [path for path in named if not (ROOT / path).is_file()]


def test_the_names_are_in_their_files():
    missing = []
    for *names, path in (found.groups() for row in ROWS for found in NAMED.finditer(row)):
        text = (ROOT / path).read_text(encoding="utf-8")
        missing += [f"{name} in {path}" for name in names if name and not re.search(rf"\b{name.split('.')[-1]}\b", text)]
    assert len(NAMED.findall("\n".join(ROWS))) > 40 and not missing


def test_every_row_says_where_or_that_it_is_not_built():
    rows = [row.split(" | ") for row in ROWS if not row.startswith("| mechanism")]
    assert len(rows) > 70 and {len(cells) for cells in rows} == {5}
    silent = [
        cells[0] for cells in rows if cells[1] == "–" and not re.search(r"not (built|offered)|no (traffic|scheduler)", cells[4])
    ]
    assert not silent
