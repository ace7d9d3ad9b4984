"""Curves of a preference training, drawn from its log; matplotlib is the extra ``plots``."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onesearch.extras import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Panel = tuple[str, str, tuple[str, ...]]
"""Title, label of the vertical axis, and entries of the log of a panel."""

PANELS: tuple[Panel, ...] = (
    ("Log-likelihood", "log p", ("logps/chosen", "logps/rejected")),
    ("Margins of the implicit rewards", "β (ρ chosen − ρ rejected)", ("rewards/margins",)),
    ("KL from the reference", "nats over the candidates", ("kl",)),
    ("Reward of the policy's own top ten", "reward model's score", ("eval_reward@10",)),
    ("Relevance of the policy's own top ten", "cosine of query and item", ("eval_relevance@10",)),
    ("Hit rate on validation requests, generator alone", "share", ("eval_hr@10", "eval_mrr@10")),
)
"""Panels of a stage of DPO."""

FILE_NAME = "preference"
"""Name of the plots' files, without its ending."""


def plots_available() -> bool:
    """Whether matplotlib (extra ``plots``) is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw_training(folder: Path, log: Sequence[Mapping[str, Any]], panels: Sequence[Panel] = PANELS) -> None:
    """Write ``preference.png`` and ``preference.svg``, with six panels.

    Args:
        folder: folder of the files.
        log: entries of the trainer's log; each has its ``step``.
        panels: what the panels show.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require("plots", needed_by="draw_training")
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "onesearch", "axes.titlesize": 10}):
        figure = Figure(figsize=(13, 7), layout="constrained")
        for area, (title, label, names) in zip(figure.subplots(2, 3).flat, panels):
            _draw(area, log, names)
            area.set(title=title, xlabel="step", ylabel=label)
        for ending, metadata in (("png", None), ("svg", {"Date": None})):
            figure.savefig(folder / f"{FILE_NAME}.{ending}", dpi=110, metadata=metadata)


def _draw(area: Axes, log: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """One curve for each entry of the log, and one for the same entry on the validation lists if there is one."""
    for name in names:
        for shown in (name, f"eval_{name}"):
            points = [(entry["step"], float(entry[shown])) for entry in log if shown in entry]
            if points:
                steps, values = zip(*points)
                area.plot(steps, values, marker="." if len(points) < 30 else None, label=shown.replace("eval_", "validation "))
    if area.lines:
        area.legend(frameon=False)


__all__ = ["FILE_NAME", "PANELS", "Panel", "draw_training", "plots_available"]
