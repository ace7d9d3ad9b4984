"""Losses of an alignment that had no example to learn from, and why: a report of five losses must not hide that three had none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .configs import EXAMPLE_KINDS

WEIGHT_0 = "weight 0"
"""Reason of a loss that the config leaves out."""

_NOTHING_MINED = {
    "q2q": "no two queries of the training sessions were followed by the same items often enough",
    "i2i": "no two items of the training sessions have users in common",
    "q2i": "no query of the training sessions was followed by an item often enough",
    "rank": "no training session with a query has a bought or clicked item beside one with weaker feedback (bought > clicked > shown)",
    "relevance": "the market has no judged item whose query is not asked in a held-out session",
}
"""Reason of each kind without a mined example."""


def losses_left_out(report: Mapping[str, Any]) -> dict[str, str]:
    """Name the losses that an alignment did not train.

    Args:
        report: content of ``alignment.json``; its ``examples`` and ``config`` are read.

    Returns:
        Kind of example → reason, in the order of `EXAMPLE_KINDS`: there was no example, or the loss has weight 0.
    """
    config, reasons = report["config"], {}
    for kind in EXAMPLE_KINDS:
        found = report["examples"][kind]
        if not config[kind]:
            reasons[kind] = WEIGHT_0
        elif not found["mined"]:
            reasons[kind] = _NOTHING_MINED[kind]
        elif not found["kept"]:
            least = config["mining"]["min_cosine"]
            reasons[kind] = (
                f"none of the {found['mined']:,} mined pairs has a cosine of at least {least} under the base encoder"
            )
    return reasons


def left_out_sentence(report: Mapping[str, Any]) -> str | None:
    """Return one sentence about the losses that an alignment did not train, for reports; None if it trained all.

    Args:
        report: content of ``alignment.json``.
    """
    reasons = losses_left_out(report)
    if not reasons:
        return None
    used = [kind for kind in EXAMPLE_KINDS if kind not in reasons]
    parts = [f"the alignment trained {len(used)} of {len(EXAMPLE_KINDS)} losses ({', '.join(used)})"]
    parts += [f"no examples for {kind}: {why}" for kind, why in reasons.items() if why != WEIGHT_0]
    weightless = [kind for kind, why in reasons.items() if why == WEIGHT_0]
    parts += [f"{WEIGHT_0}: {', '.join(weightless)}"] if weightless else []
    return "; ".join(parts)


__all__ = ["WEIGHT_0", "left_out_sentence", "losses_left_out"]
