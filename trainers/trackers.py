"""Experiment trackers that a training reports to: a missing library is found before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

MODULES = {
    "clearml": "clearml",
    "codecarbon": "codecarbon",
    "comet_ml": "comet_ml",
    "dvclive": "dvclive",
    "flyte": "flytekit",
    "mlflow": "mlflow",
    "neptune": "neptune",
    "swanlab": "swanlab",
    "tensorboard": "tensorboard",
    "trackio": "trackio",
    "wandb": "wandb",
}
"""Name of a tracker in ``report_to`` → the module that it needs."""

SWITCHES = ("none", "all")
"""Values of ``report_to`` that name no tracker: none, or all that are installed."""


def refuse_missing_trackers(report_to: str | Sequence[str] | None) -> None:
    """Raise in one line if a tracker is unknown or its library is not installed.

    Args:
        report_to: field of transformers' training arguments.

    Raises:
        ValueError: a name is unknown, or its library is missing; the message names the remedy.
    """
    names = [report_to] if isinstance(report_to, str) else list(report_to or ())
    for name in names:
        if name in SWITCHES:
            continue
        if name not in MODULES:
            raise ValueError(f"report_to={name!r} is no experiment tracker; allowed are {', '.join((*SWITCHES, *MODULES))}")
        if find_spec(MODULES[name]) is None:
            raise ValueError(f"report_to={name!r} needs {MODULES[name]}: pip install {MODULES[name]}")


__all__ = ["MODULES", "refuse_missing_trackers"]
