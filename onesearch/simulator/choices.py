"""How lists are shown, and how users click and buy. The sessions and the oracle share these functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .config import SimulatorConfig
from .world import Block, World, blocks_of


@dataclass(frozen=True)
class Shown:
    """Lists shown to the sessions of a block; all (rows, list_max).

    Args:
        columns: columns of the block, by position.
        examined: probability that the position is examined; 0 past the end of a list.
        click, buy: logits of a click and of a purchase without their constants.
    """

    columns: np.ndarray
    examined: np.ndarray
    click: np.ndarray
    buy: np.ndarray


@dataclass(frozen=True)
class Constants:
    """Constants of the click and the purchase logit, fitted to `clicks` and `purchase_rate`."""

    click: float
    buy: float


def show(world: World, block: Block, rng: np.random.Generator) -> Shown:
    """Draw one list per session: the best items by score plus Gumbel noise, as many as the session's length."""
    config = world.config
    columns, scores = draw_ranking(config, block, config.list_max, rng)
    popularity = world.catalogue.log_popularity[block.items][columns]
    taste, match = (np.take_along_axis(values, columns, axis=1) for values in (block.taste, block.match))
    examined = draw_examination(config, len(columns), rng)[:, : columns.shape[1]]
    return Shown(columns, np.where(np.isfinite(scores), examined, 0.0), *logits(config, match, taste, popularity))


def draw_ranking(config: SimulatorConfig, block: Block, size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Columns with the `size` best scores plus Gumbel noise, best first, and these scores, (rows, min(size, columns)) each."""
    noise = -np.log(rng.standard_exponential(block.shown_score.shape, dtype=np.float32) + np.float32(1e-30))
    negative = -(block.shown_score + np.float32(config.noise) * noise)
    size = min(size, negative.shape[1])
    best = np.argpartition(negative, size - 1, axis=1)[:, :size]
    values = np.take_along_axis(negative, best, axis=1)
    order = np.argsort(values, axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1), -np.take_along_axis(values, order, axis=1)


def draw_examination(config: SimulatorConfig, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Probability that each position is examined, 0 past the drawn length of each list, (rows, list_max)."""
    lengths = rng.integers(config.list_min, config.list_max + 1, rows)
    positions = np.arange(config.list_max)
    return np.where(positions < lengths[:, None], (positions + 1.0) ** -config.position_exponent, 0.0)


def logits(
    config: SimulatorConfig, match: np.ndarray, taste: np.ndarray, popularity: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a click and of a purchase without their constants."""
    click = config.click_match * match + config.click_taste * taste + config.click_popularity * popularity
    return click, config.buy_match * match + config.buy_taste * taste


def click_chances(shown: Shown, constants: Constants) -> np.ndarray:
    """Probability of a click at each position; clicks are independent of each other, (rows, list_max)."""
    return shown.examined * sigmoid(shown.click + constants.click)


def purchase_chances(shown: Shown, constants: Constants) -> np.ndarray:
    """Probability that the one purchase, of the first clicked item that convinces, is at each position, (rows, list_max)."""
    convinced = click_chances(shown, constants) * sigmoid(shown.buy + constants.buy)
    none_before = np.cumprod(1.0 - convinced, axis=1)
    none_before = np.concatenate([np.ones((len(convinced), 1)), none_before[:, :-1]], axis=1)
    return convinced * none_before


def fit_constants(world: World, pilot_sessions: int = 2000) -> Constants:
    """Fit both constants by bisection on lists shown to a sample of the sessions."""
    rng = world.config.stream("pilot")
    count = len(world.visits.users)
    sample = np.sort(rng.permutation(count)[:pilot_sessions])
    lists = [show(world, block, rng) for block in blocks_of(world, sample)]

    def mean_of(chances: list[np.ndarray]) -> float:
        return sum(float(part.sum()) for part in chances) / len(sample)

    click = _bisect(lambda value: mean_of([click_chances(part, Constants(value, 0.0)) for part in lists]), world.config.clicks)
    buy = _bisect(
        lambda value: mean_of([purchase_chances(part, Constants(click, value)) for part in lists]), world.config.purchase_rate
    )
    return Constants(click, buy)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Logistic function."""
    return 1.0 / (1.0 + np.exp(-logits))


def _bisect(increasing: Callable[[float], float], target: float) -> float:
    low, high = -25.0, 25.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if increasing(middle) < target else (low, middle)
    return (low + high) / 2
