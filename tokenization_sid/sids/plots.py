"""The diagnostics as one page, with four panels: use of codes, bucket sizes, a map of the catalogue, and its largest branches."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onesearch.extras import require
from onesearch.files import atomic_file

from ..tokenization_sid import sid_token
from .prefixes import prefix_ids

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import ColorType, RcKeyType

PAGE_NAMES = ("diagnostics.png", "diagnostics.svg")
"""Files of the page."""

MAP_ITEMS = 4000
"""Upper bound of the items on the map, sampled with seed 0."""

BRANCHES, TWIGS = 6, 3
"""Number of level-0 codes in the tree, the largest first, and number of level-1 codes under each."""

BARS = 20
"""Upper bound of the bars of bucket sizes; the last one stands for all larger buckets."""

_TITLE = 70
"""Characters of a title that are shown."""

_OTHERS = "#d0d0d0"
"""Colour of items outside of the largest branches."""

_FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Zen Hei", "Microsoft YaHei", "PingFang SC")
"""Fonts that are used if they are installed. For a script without a font, the PNG shows boxes, and a browser draws the SVG with its own."""


def plots_available() -> bool:
    """Whether matplotlib (extra ``plots``) is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_page(
    folder: Path, codes: np.ndarray, codebook_sizes: Sequence[int], vectors: np.ndarray, titles: Sequence[str]
) -> None:
    """Write ``diagnostics.png`` and ``diagnostics.svg``; the same input gives the same bytes.

    Args:
        folder: folder of the files.
        codes: (items, levels).
        codebook_sizes: codebook size of each level.
        vectors: (items, dimension) vectors that were encoded.
        titles: (items,) titles.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require("plots", needed_by="draw_page")
    import matplotlib
    from matplotlib.figure import Figure

    with warnings.catch_warnings(), matplotlib.rc_context(_style()):
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure = Figure(figsize=(13, 9))
        areas = figure.subplot_mosaic([["usage", "buckets"], ["map", "tree"]], width_ratios=[1, 1.15])
        figure.subplots_adjust(left=0.05, right=0.99, bottom=0.03, top=0.96, wspace=0.12, hspace=0.2)
        _draw_usage(areas["usage"], codes, codebook_sizes)
        _draw_buckets(areas["buckets"], codes, codebook_sizes)
        colours = _colours(codes[:, 0])
        _draw_map(areas["map"], codes, vectors, colours)
        _draw_tree(areas["tree"], codes, codebook_sizes, vectors, titles, colours)
        _save(figure, folder)


def typical_rows(vectors: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Rows whose vectors are closest to the mean of them all, the closest first.

    Args:
        vectors: (items, dimension).
        rows: (n,) rows to choose from.
        count: upper bound of the result.

    Returns:
        (min(n, count),) of `rows`; equally close ones keep their order.
    """
    members = vectors[rows].astype(np.float32)
    distances = ((members - members.mean(axis=0)) ** 2).sum(axis=1)
    return rows[np.argsort(distances, kind="stable")[:count]]


def _style() -> dict[RcKeyType, Any]:
    """Settings of matplotlib that give the same bytes on every run. Text of the SVG stays text, so that a browser draws every script."""
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    fonts = [name for name in _FONTS if name in installed]
    return {"font.family": fonts, "font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "onesearch", "axes.titlesize": 10}


def _draw_usage(axes: Axes, codes: np.ndarray, codebook_sizes: Sequence[int]) -> None:
    """Per level one curve: number of items of a code relative to even use, over the share of the codebook, the largest code first."""
    for level, size in enumerate(codebook_sizes):
        counts = np.sort(np.bincount(codes[:, level], minlength=size))[::-1]
        used = int((counts > 0).sum())
        axes.plot(
            (np.arange(used) + 1) / size,
            counts[:used] / len(codes) * size,
            label=f"level {level}: {used:,} of {size:,} used",
        )
    axes.axhline(1, color="grey", linewidth=0.6, linestyle=":")
    axes.set(
        title="Use of the codes per level", xlabel="share of the codebook, largest code first", ylabel="items, times even use"
    )
    axes.set_yscale("log")
    axes.legend(frameon=False)


def _draw_buckets(axes: Axes, codes: np.ndarray, codebook_sizes: Sequence[int]) -> None:
    """One bar per bucket size: number of SIDs with that many items."""
    from matplotlib.ticker import MaxNLocator

    sizes = np.bincount(prefix_ids(codes, codebook_sizes)[-1])
    number = np.bincount(sizes)[1:]
    shown = min(len(number), BARS)
    heights = [*number[: shown - 1].tolist(), int(number[shown - 1 :].sum())]
    bars = axes.bar(range(1, shown + 1), heights, color="#4c72b0")
    axes.bar_label(bars, labels=[f"{height:,}" if height else "" for height in heights], fontsize=7)
    more = f" (last bar: {shown} or more)" if len(number) > shown else ""
    single = heights[0] if shown > 1 else int(number[0])
    axes.set(
        title=f"{len(sizes):,} SIDs, {single / len(codes):.1%} of the items alone in theirs, largest bucket {sizes.max():,}",
        xlabel=f"items in a SID{more}",
        ylabel="SIDs",
    )
    axes.set_yscale("log")
    locator = axes.xaxis.get_major_locator()
    if isinstance(locator, MaxNLocator):
        locator.set_params(integer=True)


def _colours(first: np.ndarray) -> dict[int, ColorType]:
    """Colours of the largest level-0 codes, from those of the items (items,)."""
    import matplotlib

    counts = np.bincount(first)
    largest = np.argsort(-counts, kind="stable")[:BRANCHES]
    palette = matplotlib.colormaps["tab10"]
    return {int(code): palette(place) for place, code in enumerate(largest) if counts[code]}


def _draw_map(axes: Axes, codes: np.ndarray, vectors: np.ndarray, colours: dict[int, ColorType]) -> None:
    """Scatter of a sample of the items in their first two principal components."""
    rows = np.arange(len(codes))
    if len(rows) > MAP_ITEMS:
        rows = np.sort(np.random.default_rng(0).choice(len(rows), MAP_ITEMS, replace=False))
    centred = vectors[rows] - vectors[rows].mean(axis=0)
    variances, directions = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    directions = directions[:, ::-1][:, :2]
    places = centred @ (directions * np.sign(directions.sum(axis=0) + 1e-12))
    places = np.pad(places, ((0, 0), (0, max(0, 2 - places.shape[1]))))
    shades = [colours.get(code, _OTHERS) for code in codes[rows, 0].tolist()]
    axes.scatter(places[:, 0], places[:, 1], c=shades, s=5, linewidths=0, rasterized=True)
    share = variances[::-1][:2].sum() / max(variances.sum(), 1e-12)
    axes.set(title=f"Items by their largest level-0 codes (two components, {share:.0%} of the variance)", xticks=[], yticks=[])


class _Line(NamedTuple):
    """A line of the tree; depth 0 stands for a level-0 code, depth 1 for a level-1 code under it."""

    text: str
    colour: ColorType
    depth: int


def _draw_tree(
    axes: Axes,
    codes: np.ndarray,
    codebook_sizes: Sequence[int],
    vectors: np.ndarray,
    titles: Sequence[str],
    colours: dict[int, ColorType],
) -> None:
    """Text of the largest level-0 codes and, under each, of its largest level-1 codes, with their most typical title."""
    lines: list[_Line] = []
    for code, colour in colours.items():
        rows = np.flatnonzero(codes[:, 0] == code)
        lines.append(_Line(_description(sid_token(0, code), rows, vectors, titles), colour, 0))
        if len(codebook_sizes) == 1:
            continue
        counts = np.bincount(codes[rows, 1])
        for twig in np.argsort(-counts, kind="stable")[:TWIGS].tolist():
            if counts[twig]:
                under = rows[codes[rows, 1] == twig]
                lines.append(_Line(_description(sid_token(1, twig), under, vectors, titles), "black", 1))
    for place, (text, colour, depth) in enumerate(lines):
        weight = "normal" if depth else "bold"
        axes.text(
            0.04 * depth, 1 - (place + 0.5) / len(lines), text, color=colour, fontsize=7.5, fontweight=weight, va="center"
        )
    axes.set(title="Largest branches: items, title closest to the centre", xlim=(0, 1), ylim=(0, 1))
    axes.set_axis_off()


def _description(token: str, rows: np.ndarray, vectors: np.ndarray, titles: Sequence[str]) -> str:
    """Token of a code, the number of its items (`rows`) and their most typical title."""
    title = " ".join(str(titles[typical_rows(vectors, rows, 1)[0]]).split()).replace("$", r"\$")
    return f"{token}  {len(rows):,}  {title[:_TITLE]}{'…' if len(title) > _TITLE else ''}"


def _save(figure: Figure, folder: Path) -> None:
    """Write all files of the page, without date and version."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    for name, metadata in zip(PAGE_NAMES, ({"Software": None}, {"Date": None})):
        with atomic_file(folder / name) as temporary:
            figure.savefig(temporary, dpi=110, metadata=metadata)


__all__ = ["PAGE_NAMES", "draw_page", "plots_available", "typical_rows"]
