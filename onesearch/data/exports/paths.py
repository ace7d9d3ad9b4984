"""Category paths in the spellings of shops: ``A > B > C``, ``A/B/C``, ``A|B``, lists, and several paths in one cell."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .values import as_text, listed

STRONG = (">", "»", "›", "→", "::", "\\")
"""Signs that stand between the levels of a path and hardly anywhere else."""

WEAK = ("/", "|")
"""Signs that stand between levels where no strong sign occurs in the column."""

ROOTS = frozenset({"default category", "root", "root catalog", "home", "all", "startseite", "accueil"})
"""Names at the top of a path that say nothing, in lower case; they are left out of longer paths."""

Path = tuple[str, ...]


@dataclass(frozen=True)
class PathStyle:
    """How the cells of a column spell their paths.

    Args:
        sign: sign between the levels; "" if every path is one name.
        between: signs between several paths in a cell.
    """

    sign: str
    between: str

    def __str__(self) -> str:
        words = f"levels separated by {self.sign!r}" if self.sign else "one level"
        return f"{words}, several paths separated by {' or '.join(map(repr, self.between))}" if self.between else words

    def paths(self, value: Any) -> list[Path]:
        """All paths in a cell; [] for an empty one. A list whose entries hold no sign is one path from coarse to fine."""
        entries = listed(value)
        if entries is not None:
            nested = [entry for entry in entries if listed(entry) is not None]
            if nested:
                return [path for entry in nested for path in self.paths(entry)]
            texts = [text for entry in entries if (text := as_text(entry))]
            if not self.sign or not any(self.sign in text for text in texts):
                return [_without_root(tuple(texts))] if texts else []
            return _distinct(self._path(text) for text in texts)
        text = as_text(value)
        if text is None:
            return []
        cells = re.split("|".join(map(re.escape, self.between)), text) if self.between else [text]
        return _distinct(self._path(cell) for cell in cells)

    def _path(self, text: str) -> Path:
        names = text.split(self.sign) if self.sign else [text]
        return _without_root(tuple(name for part in names if (name := " ".join(part.split()).strip(",;"))))


def _without_root(path: Path) -> Path:
    return path[1:] if len(path) > 1 and path[0].lower() in ROOTS else path


def _distinct(paths: Iterable[Path]) -> list[Path]:
    return list(dict.fromkeys(path for path in paths if path))


def path_style(values: Sequence[Any]) -> PathStyle:
    """Find how a column spells its paths.

    1. The levels are separated by the strong sign that occurs in the most cells, else by a weak one.
    2. Line breaks, ``;`` and ``|`` separate several paths, unless they separate the levels. A comma does only if the names after it begin
       other paths of the column: "Food, Beverages > Tea" is one path, "Shoes, Sale > Shoes" is two.

    Args:
        values: cells of the column.
    """
    texts = [text for value in values for entry in (listed(value) or [value]) if (text := as_text(entry))]
    counts = {sign: sum(sign in text for text in texts) for sign in (*STRONG, *WEAK)}
    sign = max(STRONG, key=counts.__getitem__)
    if not counts[sign]:
        sign = max(WEAK, key=counts.__getitem__)
    if not counts[sign]:
        sign = ""
    between = "".join(mark for mark in ";|" if mark != sign and any(mark in text for text in texts))
    cells = [part for text in texts for part in (re.split(f"[{re.escape(between)}]", text) if between else [text])]
    return PathStyle(sign, between + ("," if _comma_separates(cells, sign) else ""))


def _comma_separates(cells: Sequence[str], sign: str) -> bool:
    """Whether at least half of the names after a comma begin a path elsewhere in the column."""
    with_comma = [cell for cell in cells if "," in cell]
    if not with_comma:
        return False
    roots = Counter(_root(part, sign) for cell in cells for part in dict.fromkeys(cell.split(",")[:1]))
    pieces = [_root(piece, sign) for cell in with_comma for piece in cell.split(",")[1:]]
    if not sign:
        every = Counter(piece.strip() for cell in cells for piece in dict.fromkeys(cell.split(",")))
        return sum(every[piece] > 1 for piece in pieces) > 0.8 * len(pieces) and len(every) < len(set(cells))
    return 2 * sum(piece in roots for piece in pieces) >= len(pieces)


def _root(piece: str, sign: str) -> str:
    return piece.split(sign)[0].strip() if sign else piece.strip()


def split_paths(paths: Sequence[Path]) -> tuple[list[str], list[str]]:
    """Return the deepest path (of equally deep ones the first), and the names of the others that it lacks."""
    if not paths:
        return [], []
    deepest = max(paths, key=len)
    others = dict.fromkeys(name for path in paths for name in path if name not in deepest)
    return list(deepest), list(others)


__all__ = ["Path", "PathStyle", "path_style", "split_paths"]
