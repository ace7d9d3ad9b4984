"""The oracle: the best score that any model could reach, which ranks items by their true probability of a click or a purchase.

The probability averages over the lists that the session might have been shown. The noise of the other items is drawn (Monte Carlo);
an item's own noise, its click and its purchase are integrated exactly (Rao-Blackwell), so few draws suffice.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .click_model import Constants, draw_examination, draw_ranking, logits, sigmoid
from .sessions import Log
from .world import Block, World, blocks_of

CUTOFFS = (5, 10, 50)
KINDS = ("purchase", "click")
LISTED = "listed"
"""The event that an item is in the list at all."""

_MEANING = (
    "Hit rate on test requests of ranking all items by their true chance to be bought (clicked), given the user's taste, "
    "what the query stands for, the whole wish of its mission and which items are launched, averaged over the lists that might be shown. "
    "A request is hit if one of its items is in the top K."
)


def score_oracle(world: World, constants: Constants, log: Log) -> dict[str, Any]:
    """Compute hit rates of the oracle on a seeded sample of the test requests.

    Args:
        world: all latent state.
        constants: constants of the click and the purchase logit.
        log: outcome of all sessions; only the searches of the test split are scored.

    Returns:
        ``{"purchase": {"HR@5": …, "HR@10": …, "HR@50": …}, "click": {…}, "requests": n, "click_requests": n, "draws": n,
        "meaning": …}``.
    """
    config = world.config
    test = np.arange(world.visits.before_test, config.sessions)
    test = test[world.visits.agendas.searched[test]]
    bought = test[log.purchased[test].any(axis=1)]
    clicked = test[log.clicked[test].any(axis=1)]
    requests, purchase = _hit_rates(world, constants, log, bought, "purchase")
    click_requests, click = _hit_rates(world, constants, log, clicked, "click")
    counts = {"requests": requests, "click_requests": click_requests, "draws": config.oracle_draws}
    return {"purchase": purchase, "click": click, **counts, "meaning": _MEANING}


class ShownChances(NamedTuple):
    """Probabilities that items of a list are clicked and bought, given that they are listed, both ``(pairs,)``."""

    click: np.ndarray
    purchase: np.ndarray


def shown_chances(world: World, constants: Constants, sessions: np.ndarray, items: np.ndarray) -> ShownChances:
    """The optimal predictor of clicks and purchases of shown items, which knows the session and the item but not the item's place.

    Args:
        world: all latent state.
        constants: constants of the click and the purchase logit.
        sessions: session number of each pair, ``(pairs,)``.
        items: item number of each pair; the item is of what the session's list is drawn from, ``(pairs,)``.

    Raises:
        ValueError: a list of its session never holds an item.
    """
    found = np.zeros((len(KINDS) + 1, len(sessions)))
    for block in blocks_of(world, np.unique(sessions)):
        column_of = np.full(world.config.items, -1)
        column_of[block.items] = np.arange(len(block.items))
        row = np.minimum(np.searchsorted(block.sessions, sessions), len(block.sessions) - 1)
        pairs = np.flatnonzero((block.sessions[row] == sessions) & (column_of[items] >= 0))
        for place, kind in enumerate((*KINDS, LISTED)):  # the same draws for each, so that their noise cancels in the ratios
            rng = world.config.stream("shown chances", int(block.sessions[0]))
            expected = expected_chances(world, constants, block, kind, rng)
            found[place, pairs] = expected[row[pairs], column_of[items[pairs]]]
    purchase, click, listed = found
    if (listed <= 0).any():
        wrong = int(np.argmin(listed))
        raise ValueError(f"item {items[wrong]} is never listed in session {sessions[wrong]}; give items that were shown")
    return ShownChances(np.minimum(click / listed, 1.0), np.minimum(purchase / listed, 1.0))


def expected_chances(world: World, constants: Constants, block: Block, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Compute each item's probability of a purchase or a click, or of a place in the list, averaged over the lists that might be shown.

    Args:
        world: all latent state.
        constants: constants of the click and the purchase logit.
        block: sessions and items.
        kind: ``purchase``, ``click`` or ``listed``.
        rng: random stream.

    Returns:
        Probabilities, ``(rows, columns)``; 0 for items that have not launched.
    """
    config = world.config
    of_item = logits(world, block, np.broadcast_to(np.arange(len(block.items)), block.match.shape))
    click, buy = sigmoid(of_item.click + constants.click), sigmoid(of_item.buy + constants.buy)
    value = click * sigmoid(of_item.cart + constants.cart) * buy if kind == "purchase" else click
    if kind == LISTED:
        value = np.ones_like(click)
    stops = (1.0 - config.purchase_again) * value if kind == "purchase" else np.zeros_like(value)
    reach = np.zeros(value.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(config.oracle_draws):
            reach += _reach(world, block, stops, rng, examined_only=kind != LISTED)
    launched = np.isfinite(block.shown_score)
    return np.where(launched, value * reach / config.oracle_draws, 0.0)


def _reach(world: World, block: Block, stops: np.ndarray, rng: np.random.Generator, examined_only: bool = True) -> np.ndarray:
    """Probability that an item is examined and the session has not ended before it, given one draw of the other items' noise.

    Steps:
        1. Draw a ranking with one rank more than a list has, and the probability that each position is examined.
        2. For an item outside the ranking, average over its own noise, which decides the position where it would enter.
        3. For an item inside the ranking, do the same with the ranking that lacks this item.

    Args:
        world: all latent state.
        block: sessions and items.
        stops: probability that an examined item ends the session, ``(rows, columns)``.
        rng: random stream.
        examined_only: False gives the probability of any place in the list.

    Returns:
        Probabilities, ``(rows, columns)``.
    """
    config, size = world.config, world.config.list_max
    columns, scores = draw_ranking(config, block, size + 1, rng)
    stops = np.where(np.isfinite(scores), np.take_along_axis(stops, columns, axis=1), 0.0)
    missing = size + 1 - columns.shape[1]
    scores = np.pad(scores, ((0, 0), (0, max(missing, 0))), constant_values=-np.inf)
    stops = np.pad(stops, ((0, 0), (0, max(missing, 0))))
    examined = draw_examination(config, len(columns), rng)
    examined = examined if examined_only else (examined > 0).astype(examined.dtype)
    reach = _enter(config.noise, block.shown_score, scores[:, None, :size], _weights(examined, stops[:, :size])[:, None])
    # An item of the ranking competes with the ranking that lacks this item.
    ranks = np.arange(columns.shape[1])
    others = np.arange(size) + (np.arange(size) >= ranks[:, None])
    weights = _weights(examined[:, None], stops[:, others])
    own = np.take_along_axis(block.shown_score, columns, axis=1)
    np.put_along_axis(reach, columns, _enter(config.noise, own, scores[:, others], weights), axis=1)
    return reach


def _weights(examined: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Probability that a newcomer at each position is examined, with no item before it ending the session, ``(…, list_max)``."""
    going_on = np.cumprod(1.0 - examined * stops, axis=-1)
    before = np.concatenate([np.ones_like(going_on[..., :1]), going_on[..., :-1]], axis=-1)
    return examined * before


def _enter(noise: float, scores: np.ndarray, thresholds: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean of `weights` over the position at which an item with Gumbel noise enters the ranking given by `thresholds`.

    Args:
        noise: scale of the noise.
        scores: scores of the newcomers without noise, ``(rows, newcomers)``.
        thresholds: noisy scores of the ranked items, best first, ``(rows, newcomers or 1, list_max)``.
        weights: weight of each position, ``(rows, newcomers or 1, list_max)``.

    Returns:
        Mean weights, ``(rows, newcomers)``.
    """
    total = np.zeros(scores.shape)
    following = np.concatenate([weights[..., 1:], np.zeros_like(weights[..., :1])], axis=-1)
    total += weights[..., 0]
    for position in range(weights.shape[-1]):
        below = np.exp(-np.exp((scores - thresholds[..., position]) / np.float32(noise)))
        total += (following - weights)[..., position] * below
    return total


def _hit_rates(world: World, constants: Constants, log: Log, requests: np.ndarray, kind: str) -> tuple[int, dict[str, float]]:
    """Number of requests in the sample, and the oracle's hit rate at every cutoff."""
    rng = world.config.stream("oracle", KINDS.index(kind))
    sample = np.sort(rng.permutation(requests)[: world.config.oracle_requests])
    hits = dict.fromkeys(CUTOFFS, 0)
    for block in blocks_of(world, sample):
        expected = expected_chances(world, constants, block, kind, rng)
        ranked = block.items[np.argsort(-expected, axis=1, kind="stable")[:, : max(CUTOFFS)]]
        targets = _targets(log, block.sessions, kind)
        for cutoff in CUTOFFS:
            hits[cutoff] += int((ranked[:, :cutoff, None] == targets[:, None, :]).any(axis=(1, 2)).sum())
    return len(sample), {f"HR@{cutoff}": round(hits[cutoff] / max(len(sample), 1), 4) for cutoff in CUTOFFS}


def _targets(log: Log, sessions: np.ndarray, kind: str) -> np.ndarray:
    """Item numbers that count as hits, -1 elsewhere, ``(sessions, list_max)``."""
    shown = log.shown[sessions]
    wanted = log.clicked if kind == "click" else log.purchased
    return np.where(wanted[sessions], shown, -1)
