"""The click model: it draws the list that a session is shown, and gives the probability of a click, a cart and a purchase in each place.

The simulated sessions and the oracle share these functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .config import ResolvedConfig
from .world import Block, World, blocks_of

_CART_SHARE = np.float32(0.5)
"""Weights of the cart logit relative to those of the purchase logit: the cart is chosen less strictly than the purchase."""


@dataclass(frozen=True)
class Shown:
    """Lists shown to the sessions of a block. The arrays have the shape ``(rows, positions)``.

    A block with fewer items than `list_max` has as many positions as items.

    Args:
        columns: column of the block whose item stands at the position.
        examined: probability that the user examines the position; 0 past the end of a list.
        click: logit of a click, without its constant.
        logits: logits of the user's decisions, without their constants.
    """

    columns: np.ndarray
    examined: np.ndarray
    logits: Logits


@dataclass(frozen=True)
class Constants:
    """Constants of the logits, fitted so that the market has the rates that its settings ask for.

    Args:
        click: constant of the click logit, fitted to `clicks`.
        buy: constant of the purchase logit, fitted to `purchase_rate`.
        cart: constant of the cart logit, fitted to `carts`; infinite in a market without carts, where each clicked item can be bought.
    """

    click: float
    buy: float
    cart: float = np.inf


class Ranked(NamedTuple):
    """The best items of each session, best first; both arrays have the shape ``(rows, ranks)``.

    Args:
        columns: columns of the block.
        scores: their scores, noise included; ``-inf`` for an item that has not launched.
    """

    columns: np.ndarray
    scores: np.ndarray


class Logits(NamedTuple):
    """Logits without their constants, all ``(rows, columns)``.

    Args:
        click: of a click on an examined item.
        cart: of putting a clicked item into the cart.
        buy: of buying an item out of the cart or, in a market without carts, a clicked item.
    """

    click: np.ndarray
    cart: np.ndarray
    buy: np.ndarray


def show(world: World, block: Block, rng: np.random.Generator) -> Shown:
    """Draw the shown list of every session of a block: the items with the best noisy scores, cut to the session's length.

    Args:
        world: all latent state.
        block: sessions and items.
        rng: random stream.
    """
    config = world.config
    ranked = draw_ranking(config, block, config.list_max, rng)
    columns = ranked.columns
    examined = draw_examination(config, len(columns), rng)[:, : columns.shape[1]]
    return Shown(columns, np.where(np.isfinite(ranked.scores), examined, 0.0), logits(world, block, columns))


def draw_ranking(config: ResolvedConfig, block: Block, size: int, rng: np.random.Generator) -> Ranked:
    """Add Gumbel noise to the logging policy's scores and rank the items.

    Args:
        config: settings; `noise` scales the noise.
        block: sessions and items.
        size: number of ranks wanted; a block with fewer items gives as many ranks as items.
        rng: random stream.
    """
    noise = -np.log(rng.standard_exponential(block.shown_score.shape, dtype=np.float32) + np.float32(1e-30))
    negative = -(block.shown_score + np.float32(config.noise) * noise)
    size = min(size, negative.shape[1])
    best = np.argpartition(negative, size - 1, axis=1)[:, :size]
    values = np.take_along_axis(negative, best, axis=1)
    order = np.argsort(values, axis=1, kind="stable")
    return Ranked(np.take_along_axis(best, order, axis=1), -np.take_along_axis(values, order, axis=1))


def draw_examination(config: ResolvedConfig, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the length of each list and return the probability that the user examines each position.

    Args:
        config: settings of list lengths and position bias.
        rows: number of lists.
        rng: random stream.

    Returns:
        Probabilities, ``(rows, list_max)``; 0 past the end of a list.
    """
    lengths = rng.integers(config.list_min, config.list_max + 1, rows)
    positions = np.arange(config.list_max)
    return np.where(positions < lengths[:, None], (positions + 1.0) ** -config.position_exponent, 0.0)


def logits(world: World, block: Block, columns: np.ndarray) -> Logits:
    """Weigh query match, taste, log popularity and the fit to the mission's wish into the logits of the user's decisions.

    Args:
        world: all latent state.
        block: sessions and items.
        columns: columns of the block, ``(rows, columns)``.

    Returns:
        Logits of the same shape.
    """
    config = world.config
    taste, match = (np.take_along_axis(values, columns, axis=1) for values in (block.taste, block.match))
    popularity = world.catalogue.log_popularity[block.items][columns]
    click = config.click_match * match + config.click_taste * taste + config.click_popularity * popularity
    buy = config.buy_match * match + config.buy_taste * taste
    if block.fit is not None:
        fit = np.take_along_axis(block.fit, columns, axis=1)
        click += np.float32(config.mission_click) * fit
        buy += np.float32(config.mission_buy) * fit
    click -= block.less_clicked[:, None]
    buy -= block.less_bought[:, None]
    return Logits(click, _CART_SHARE * buy, buy)


def click_chances(shown: Shown, constants: Constants) -> np.ndarray:
    """Probability of a click at each position, ``(rows, positions)``; clicks are independent of each other."""
    return shown.examined * sigmoid(shown.logits.click + constants.click)


def cart_chances(shown: Shown, constants: Constants) -> np.ndarray:
    """Probability that each position is clicked and put into the cart, ``(rows, positions)``."""
    return click_chances(shown, constants) * sigmoid(shown.logits.cart + constants.cart)


def purchase_chances(config: ResolvedConfig, shown: Shown, constants: Constants) -> np.ndarray:
    """Probability of a purchase at each position, ``(rows, positions)``.

    The user buys the first item that convinces, and after each purchase goes on with the probability `purchase_again`.
    """
    convinced = cart_chances(shown, constants) * sigmoid(shown.logits.buy + constants.buy)
    going_on = np.cumprod(1.0 - (1.0 - config.purchase_again) * convinced, axis=1)
    going_on = np.concatenate([np.ones((len(convinced), 1)), going_on[:, :-1]], axis=1)
    return convinced * going_on


def fit_constants(world: World, pilot_sessions: int = 2000) -> Constants:
    """Fit the constants by bisection, so that clicks and carts per search and the share of searches with a purchase are as configured.

    Args:
        world: all latent state.
        pilot_sessions: number of sessions whose lists the means are taken over; raising it makes the rates more exact.
    """
    config = world.config
    rng = config.stream("pilot")
    count = len(world.visits.users)
    sample = np.sort(rng.permutation(count)[:pilot_sessions])
    sample = sample[world.visits.agendas.searched[sample]]
    lists = [show(world, block, rng) for block in blocks_of(world, sample)]

    def mean_of(chances: list[np.ndarray]) -> float:
        return sum(float(part.sum()) for part in chances) / len(sample)

    click = _bisect(lambda value: mean_of([click_chances(part, Constants(value, 0.0)) for part in lists]), config.clicks)
    cart = np.inf
    if config.carts:
        cart = _bisect(
            lambda value: mean_of([cart_chances(part, Constants(click, 0.0, value)) for part in lists]), config.carts
        )
    buy = _bisect(
        lambda value: mean_of([_first_purchases(part, Constants(click, value, cart)) for part in lists]), config.purchase_rate
    )
    return Constants(click, buy, cart)


def _first_purchases(shown: Shown, constants: Constants) -> np.ndarray:
    """Probability that the first purchase is at each position, ``(rows, positions)``."""
    convinced = cart_chances(shown, constants) * sigmoid(shown.logits.buy + constants.buy)
    none_before = np.cumprod(1.0 - convinced, axis=1)
    return convinced * np.concatenate([np.ones((len(convinced), 1)), none_before[:, :-1]], axis=1)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Logistic function."""
    return 1.0 / (1.0 + np.exp(-logits))


def _bisect(increasing: Callable[[float], float], target: float) -> float:
    """Argument in [-25, 25] at which the increasing function reaches `target`."""
    low, high = -25.0, 25.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if increasing(middle) < target else (low, middle)
    return (low + high) / 2
