"""Plots of joint trainings: the Semantic IDs of one while they move, and the stability of several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Entries = Sequence[Mapping[str, Any]]
"""Entries of a trainer's log, those of the refreshes among them."""

PLOT_NAME = "moving_sids.png"
"""File of `draw_history` in the folder of a training."""


def draw_history(history: Entries, path: Path) -> None:
    """Draw utilisation, perplexity, churn and collisions over the steps of one training.

    Args:
        history: reports of the refreshes.
        path: PNG file.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """

    def draw(panels: Sequence[Any]) -> None:
        levels = {
            "utilisation_": "share of the codes in use",
            "perplexity_": "perplexity",
            "churn_": "items whose code changed",
        }
        for axes, (prefix, title) in zip(panels, levels.items()):
            for name in sorted({key for report in history for key in report if key.startswith(prefix)}):
                _line(axes, history, "sid_step", name, label=f"level {name[len(prefix) :]}", marker=".")
            axes.set(title=title, xlabel="step")
        for name in ("churn", "collisions"):
            _line(panels[3], history, "sid_step", name, label=name, marker=".")
        panels[3].set(title="whole Semantic IDs", xlabel="step", ylim=(0, 1))

    _draw(draw, path)


def draw_trainings(trainings: Mapping[str, Sequence[Entries]], path: Path) -> None:
    """Draw loss, churn, distinct Semantic IDs and the least used level of several trainings over their steps: whether they are stable.

    Args:
        trainings: name of the variant → log of each of its trainings, one per seed. A variant has one colour.
        path: PNG file.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """

    def draw(panels: Sequence[Any]) -> None:
        for number, (name, logs) in enumerate(trainings.items()):
            for seed, log in enumerate(logs):
                style = {"color": f"C{number % 10}", "alpha": 0.7, "linewidth": 1, "label": None if seed else name}
                _line(panels[0], log, "step", "loss", **style)
                _line(panels[1], log, "sid_step", "churn", **style)
                _line(panels[2], log, "sid_step", "distinct_sids", **style)
                _line(panels[3], [_least_used(entry) for entry in log], "sid_step", "used", **style)
        titles = (
            "loss",
            "items whose Semantic ID changed",
            "distinct Semantic IDs",
            "share of the codes in use, least used level",
        )
        for axes, title in zip(panels, titles):
            axes.set(title=title, xlabel="step")

    _draw(draw, path)


def _least_used(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Step of a refresh and the least utilisation of its levels; nothing of another entry."""
    shares = [float(value) for name, value in entry.items() if name.startswith("utilisation_")]
    return {"sid_step": entry["sid_step"], "used": min(shares)} if shares else {}


def _line(axes: Any, entries: Iterable[Mapping[str, Any]], x: str, y: str, **style: Any) -> None:
    """Draw the entries that have both values."""
    points = [(float(entry[x]), float(entry[y])) for entry in entries if x in entry and y in entry]
    if points:
        axes.plot(*zip(*points), **style)


def _draw(draw: Callable[[Sequence[Any]], None], path: Path) -> None:
    """Let `draw` fill four panels, and write them to a PNG file."""
    from onesearch.extras import require
    from onesearch.files import atomic_file

    require("plots", needed_by=path.name)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6))
    FigureCanvasAgg(figure)
    panels = [figure.add_subplot(2, 2, place) for place in range(1, 5)]
    draw(panels)
    for axes in panels:
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False)
    figure.tight_layout()
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png", metadata={"Software": None})


__all__ = ["PLOT_NAME", "draw_history", "draw_trainings"]
