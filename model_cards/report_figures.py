"""The drawings of the report page, as SVG texts. The same input gives the same text."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from onesearch.evaluation.reports import Report

from .calibration import CalibrationGroup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

INK, SOFT, ACCENT, SECOND = "#1c2024", "#8a9199", "#0f766e", "#c2410c"
"""Colours of the drawings."""

STYLE: dict[RcKeyType, Any] = {
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "onesearch",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": SOFT,
    "xtick.color": INK,
    "ytick.color": INK,
}
"""Settings of matplotlib; text stays text, so that a browser draws every script."""


def draw_arms(report: Report, metric: str = "HR@10", kind: str = "purchase") -> str:
    """One line per retriever: the metric with its interval, the best at the top."""
    rows = []
    for name, found in report.retrievers.items():
        estimate = found["targets"].get(kind, {}).get("item", {}).get(metric)
        if estimate:
            rows.append((name, estimate["value"], estimate["low"], estimate["high"], found["invalid_sid_rate"] is not None))
    rows.sort(key=lambda row: row[1])

    def draw(axes: Axes) -> None:
        for place, (_, value, low, high, is_own) in enumerate(rows):
            axes.plot([low, high], [place, place], color=ACCENT if is_own else SOFT, linewidth=2)
            axes.plot(value, place, "o", color=ACCENT if is_own else SOFT, markerfacecolor=ACCENT if is_own else "white")
            axes.annotate(f"{value:.3f}", (high, place), (6, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_yticks(range(len(rows)), [row[0] for row in rows])
        axes.set_xlabel(f"{kind} {metric}")
        axes.set_xlim(left=0)
        axes.grid(axis="x", color="#e5e7eb", linewidth=0.7)

    return _drawn(draw, (8.6, 0.7 + 0.34 * max(len(rows), 1)))


def draw_training(log: Sequence[Mapping[str, Any]]) -> str:
    """Losses and validation quality over the steps of all stages; empty if nothing was logged."""
    stages = list(dict.fromkeys(str(entry.get("stage", "")) for entry in log))
    begins: dict[str, float] = {}
    end = 0.0
    for stage in stages:
        begins[stage] = end
        end += max((entry.get("step", 0) for entry in log if str(entry.get("stage", "")) == stage), default=0)
    if not end:
        return ""

    def points(name: str) -> tuple[list[float], list[float]]:
        chosen = [entry for entry in log if name in entry]
        return [begins[str(entry.get("stage", ""))] + entry["step"] for entry in chosen], [entry[name] for entry in chosen]

    def draw(axes: Axes) -> None:
        axes.plot(*points("loss"), color=SOFT, label="training loss")
        axes.plot(*points("eval_loss"), "o-", color=INK, markersize=3.5, label="validation loss")
        axes.set(xlabel="step", ylabel="loss")
        quality = next((name for entry in log for name in entry if name.startswith("eval_hr@")), None)
        if quality:
            right = axes.twinx()
            right.plot(
                *points(quality), "s-", color=ACCENT, markersize=3.5, label=f"validation {quality.removeprefix('eval_')}"
            )
            right.set_ylabel(quality.removeprefix("eval_"), color=ACCENT)
            right.set_ylim(bottom=0)
            right.legend(frameon=False, loc="upper right", bbox_to_anchor=(1, -0.16))
        for stage, begin in begins.items():
            if begin:
                axes.axvline(begin, color=SOFT, linewidth=0.8, linestyle=":")
            axes.annotate(
                stage, (begin, 1.0), (4, 2), xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=9
            )
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, -0.16), ncols=2)

    return _drawn(draw, (8.6, 3.6))


def draw_calibration(groups: Sequence[CalibrationGroup]) -> str:
    """Observed share over predicted probability, both on logarithmic axes."""

    def draw(axes: Axes) -> None:
        shown = [group for group in groups if group.high > 0 and group.predicted > 0]
        least = max(min(min(group.predicted for group in shown), min(group.high for group in shown)) / 3, 1e-7)
        axes.plot([least, 1], [least, 1], color=SOFT, linewidth=1, linestyle=":")
        for group in shown:
            axes.plot([group.predicted] * 2, [max(group.low, least), group.high], color=ACCENT, linewidth=1.5, alpha=0.6)
        seen = [group for group in shown if group.observed > 0]
        axes.plot([group.predicted for group in seen], [group.observed for group in seen], "o-", color=ACCENT, markersize=5)
        axes.set(xscale="log", yscale="log", xlim=(least, 1), ylim=(least, 1))
        axes.set(xlabel="probability that the generator gives", ylabel="share that was bought")
        axes.set_aspect("equal")

    return _drawn(draw, (4.6, 4.4))


def _drawn(draw: Callable[[Axes], None], size: tuple[float, float]) -> str:
    """Draw on one pair of axes and return the SVG."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure: Figure = Figure(figsize=size)
        draw(figure.add_subplot())
        text = io.StringIO()
        figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    return text.getvalue()


__all__ = ["draw_arms", "draw_calibration", "draw_training"]
