"""Adaptive rewards (OneSearch, arXiv 2509.03236, PARS): the worth of a query–item pair, from its level and the statistics of its item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SMOOTHING = 10
"""Added to every count before its logarithm (the paper's constant)."""

MARGINS = ("printed", "code")
"""Published forms of the weight of a pair; see `pair_weight`."""

COLD = ("paper", "mean")
"""Treatments of items without statistics; see `RewardFormula.cold`."""


@dataclass(frozen=True)
class RewardFormula:
    """Settings of the adaptive reward.

    Args:
        weights: λ of the six interaction levels, from level 1 to level 6 (paper: 2, 1.5, 1, 0.5, 0.2, 0).
        cold: treatment of items that were never shown. ``paper`` applies the formula to zero counts, which gives such an item 0.5 λ: more
            than most measured items have. ``mean`` gives it the mean factor of the measured items of the same call, so that an item
            outranks others by its level only (our choice).
        margin: form of the weight of a pair of a chosen and a rejected item: ``printed`` is the paper's 1 / (r_chosen − r_rejected);
            ``code`` is that of the authors' code, (max(r_chosen, 1) − r_rejected) ** −exponent + 1.
        exponent: exponent of ``code`` (1.5 in the authors' code).
        largest: upper bound of a weight. The printed form has a pole where both rewards are equal and is negative where the statistics
            outrun the levels; both become this bound. Our choice: the paper gives none.

    Raises:
        ValueError: a value is not allowed.
    """

    weights: tuple[float, ...] = (2.0, 1.5, 1.0, 0.5, 0.2, 0.0)
    cold: str = "paper"
    margin: str = "printed"
    exponent: float = 1.5
    largest: float = 5.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple(self.weights))
        if len(self.weights) != 6 or min(self.weights) < 0:
            raise ValueError(f"weights={self.weights}: six numbers of at least 0 are needed, for levels 1 to 6")
        if self.cold not in COLD:
            raise ValueError(f"cold={self.cold!r}: allowed are {', '.join(COLD)}")
        if self.margin not in MARGINS:
            raise ValueError(f"margin={self.margin!r}: allowed are {', '.join(MARGINS)}")
        if not self.exponent > 0 or not self.largest > 0:
            raise ValueError(f"exponent={self.exponent} and largest={self.largest} must be above 0")


def ctr_and_cvr(shown: np.ndarray, clicked: np.ndarray, ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The paper's smoothed rates.

    Cnt = log((shown + 10)(clicked + 10)(ordered + 10)), Ctr = log(clicked + 10) / Cnt, Cvr = log(ordered + 10) / log(clicked + 10).

    Args:
        shown: impressions of each item, at least 0, any shape.
        clicked: clicks, same shape.
        ordered: purchases, same shape.

    Raises:
        ValueError: a count is negative.
    """
    logs = []
    for name, counts in (("shown", shown), ("clicked", clicked), ("ordered", ordered)):
        values = np.asarray(counts, dtype=np.float64)
        if (values < 0).any():
            raise ValueError(f"{name} holds {values.min()}; counts must be at least 0")
        logs.append(np.log(values + SMOOTHING))
    return logs[1] / sum(logs), logs[2] / logs[1]


def adaptive_reward(
    levels: np.ndarray, shown: np.ndarray, clicked: np.ndarray, ordered: np.ndarray, formula: RewardFormula | None = None
) -> np.ndarray:
    """Reward r(q, i) = 2 λ Ctr Cvr / (Ctr + Cvr) of query–item pairs.

    Args:
        levels: interaction level of each pair, 1 to 6, any shape.
        shown: impressions of each pair's item, same shape.
        clicked: clicks, same shape.
        ordered: purchases, same shape.
        formula: settings; None takes the paper's.

    Returns:
        Rewards, float64, same shape.

    Raises:
        ValueError: a level is not between 1 and 6, or a count is negative.
    """
    formula = formula or RewardFormula()
    levels = np.asarray(levels)
    if levels.size and not (levels.min() >= 1 and levels.max() <= 6):
        raise ValueError(f"levels hold {levels.min()} to {levels.max()}; allowed are 1 to 6")
    ctr, cvr = ctr_and_cvr(shown, clicked, ordered)
    factor = 2 * ctr * cvr / (ctr + cvr)
    cold = np.asarray(shown) == 0
    if formula.cold == "mean" and cold.any() and not cold.all():
        factor = np.where(cold, factor[~cold].mean(), factor)
    return np.asarray(formula.weights)[levels - 1] * factor


def pair_weight(chosen: np.ndarray, rejected: np.ndarray, formula: RewardFormula | None = None) -> np.ndarray:
    """Weight rw_Δ of a pair in the list-wise preference loss: the closer the two rewards, the larger.

    Args:
        chosen: reward of the chosen item, any shape.
        rejected: reward of the rejected item, same shape or broadcast to it.
        formula: settings; None takes the paper's.

    Returns:
        Weights above 0 and at most `formula.largest`, float64.
    """
    formula = formula or RewardFormula()
    chosen, rejected = np.asarray(chosen, dtype=np.float64), np.asarray(rejected, dtype=np.float64)
    if formula.margin == "printed":
        gap, exponent, constant = chosen - rejected, 1.0, 0.0
    else:
        gap, exponent, constant = np.maximum(chosen, 1.0) - rejected, formula.exponent, 1.0
    safe = np.where(gap > 0, gap, 1.0)
    weights = np.where(gap > 0, safe**-exponent + constant, formula.largest)
    return np.minimum(weights, formula.largest)


__all__ = ["COLD", "MARGINS", "RewardFormula", "adaptive_reward", "ctr_and_cvr", "pair_weight"]
