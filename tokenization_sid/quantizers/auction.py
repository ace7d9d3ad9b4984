"""Prices that keep the loads of codes within a bound, from the candidates of every vector."""

from __future__ import annotations

import numpy as np

from .transport import Candidates, Transport

ROUNDS = 400
"""Upper bound of the rounds of an auction."""

PATIENCE = 50
"""Number of rounds without a lower largest load after which an auction ends."""

DISCOUNT_EVERY = 5
"""Every so many rounds, codes with free places lower their prices instead."""

MOVED_ONE_BY_ONE = 4
"""Vectors per code above the bound up to which an auction ends with moves of single vectors."""


def auction(candidates: Candidates, prices: np.ndarray, limit: int, risk: float) -> np.ndarray:
    """Prices under which the candidates keep the limit, as far as they are found.

    1. Every vector takes its candidate with the least cost + price. Keep the prices whose largest load is the lowest so far.
    2. End if that load is within the limit, or if 50 rounds have not lowered it. The auction aims a little below the limit, as room for
       the vectors that a code outside of their candidates wins.
    3. Every code above the limit raises its price until the vectors that lose least by leaving have left, down to the even load.
       In every fifth round, codes below the even load lower their prices instead (see `_discounts`).
    4. If the bound is not reached and few vectors are left over, move them one by one (`Transport`).

    No price falls below its floor. Prices that fall by at most d can hand a vector to a code outside of its candidates only if the costs
    + prices of its candidates span less than d. The floor lies d below the first price, where d is the quantile of these spans at `risk`:

        floor = prices − quantile over vectors of (max − min of cost + price over their candidates)

    Args:
        candidates: nearest codes of each vector, (n, candidates).
        prices: (codes,) to start from.
        limit: upper bound of the load of a code.
        risk: share of the vectors that a falling price may hand to a code outside of their candidates, 0 to 1. Raising it lets prices
            fall further.

    Returns:
        (codes,) float64.
    """
    if candidates.codes.shape[1] < 2:
        return prices
    size, line = len(prices), np.arange(len(candidates.codes))
    even = max(1, -(-len(candidates.codes) // size))
    floor = prices - np.quantile(np.ptp(candidates.values(prices), axis=1), risk)
    prices = prices.copy()
    best, fewest, since = prices, np.inf, 0
    target = max(even, limit - 1 - (limit - even) // 4)
    for _ in range(ROUNDS):
        values = candidates.values(prices)
        first = values.argmin(axis=1)
        code, least = candidates.codes[line, first], values[line, first]
        loads = np.bincount(code, minlength=size)
        since += 1
        if loads.max() < fewest:
            best, fewest, since = prices.copy(), loads.max(), 0
        if fewest <= target or since > PATIENCE:
            break
        if since % DISCOUNT_EVERY == DISCOUNT_EVERY - 1:
            prices = np.maximum(floor, prices - _discounts(candidates.codes, values - least[:, None], code, loads, even))
            continue
        values[line, first] = np.inf
        _raise_prices(prices, code, loss=values.min(axis=1) - least, loads=loads, target=target, even=even)
    return best if fewest <= limit else _moved(candidates, best, limit)


def _raise_prices(prices: np.ndarray, code: np.ndarray, loss: np.ndarray, loads: np.ndarray, target: int, even: int) -> None:
    """Raise the price of each code above `target` until only `even` of its vectors prefer it to their next best; in place.

    Args:
        prices: (codes,), changed.
        code: (n,) present code of each vector.
        loss: (n,) by how much the next best candidate costs more.
        loads: (codes,) number of vectors of each code.
        target: codes with more vectors raise their price.
        even: number of vectors that stay.
    """
    full = np.flatnonzero(loads > target)
    order = np.lexsort((loss, code))  # the vectors of each code, those that lose least by leaving first
    last_to_leave = (np.cumsum(loads) - loads)[full] + (loads[full] - even) - 1
    prices[full] += loss[order[last_to_leave]] * (1 + 1e-6) + 1e-9


def _discounts(near: np.ndarray, extra: np.ndarray, code: np.ndarray, loads: np.ndarray, even: int) -> np.ndarray:
    """By how much codes below the even load lower their prices: enough to win half of the vectors that they lack.

    The discount is at most the typical difference, so that one code does not fall far in a round.

    Args:
        near: (n, candidates) candidate codes.
        extra: (n, candidates) by how much the cost + price of each exceeds the least.
        code: (n,) present code of each vector.
        loads: (codes,) number of vectors of each code.
        even: the even load.

    Returns:
        (codes,) float64, at least 0.
    """
    lacking = (even - loads + 1) // 2
    could_win = (near != code[:, None]) & (lacking > 0)[near]
    wanted, gap = near[could_win], extra[could_win]
    order = np.lexsort((gap, wanted))
    offers = np.bincount(wanted, minlength=len(loads))
    buyers = np.flatnonzero((lacking > 0) & (offers > 0))
    last_won = (np.cumsum(offers) - offers)[buyers] + np.minimum(lacking, offers)[buyers] - 1
    discounts = np.zeros(len(loads))
    discounts[buyers] = np.minimum(gap[order[last_won]], np.median(gap))
    return discounts


def _moved(candidates: Candidates, prices: np.ndarray, limit: int) -> np.ndarray:
    """Prices (codes,) after moves of the vectors above `limit`; unchanged if they are too many or no move helps."""
    transport = Transport(candidates, prices)
    if transport.excess(limit) > MOVED_ONE_BY_ONE * len(prices):
        return prices  # the next pass brings better candidates for less time
    while transport.excess(limit):
        if not transport.relieve(limit):
            return prices
    return transport.strict_prices()


__all__ = ["auction"]
