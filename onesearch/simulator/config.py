"""Every knob of the simulator, with its unit and range. No paper gives any of these values: all are ours."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

MAX_LEAVES = 720
"""Leaf categories that the word tables allow: 144 nouns, plain and in 4 variants."""

_BOUNDS: dict[str, tuple[float, float]] = {
    "items": (50, 5_000_000),
    "users": (10, 5_000_000),
    "sessions": (100, 20_000_000),
    "seed": (0, 2**63 - 1),
    "leaves": (2, MAX_LEAVES),
    "days": (10, 3650),
    "list_min": (1, 50),
    "list_max": (1, 50),
    "cold_users": (0, 0.3),
    "cold_items": (0, 0.3),
    "late_items": (0, 0.5),
    "validation": (0, 0.3),
    "test": (0.05, 0.4),
    "explore": (0, 1),
    "plain_query": (0, 1),
    "taste_in_query": (0, 1),
    "synonyms": (0, 1),
    "typo_rate": (0, 1),
    "popularity_exponent": (0, 2),
    "position_exponent": (0, 3),
    "noise": (0.01, 10),
    "clicks": (0.2, 5),
    "purchase_rate": (0.01, 0.9),
    "oracle_requests": (0, 100_000),
    "oracle_draws": (1, 10_000),
    "judged_queries": (0, 100_000),
    "judged_items": (4, 200),
}
_WEIGHT_BOUNDS = (0, 10)


@dataclass(frozen=True)
class SimulatorConfig:
    """What to simulate. `None` is derived from the number of items; `resolved` fills it in.

    Args:
        items: number of items, 50 to 5,000,000.
        users: number of users, 10 to 5,000,000; default: one per 12 sessions.
        sessions: number of sessions, 100 to 20,000,000; default: 12 per item, at most 1,200,000 (reached at 100,000 items).
        seed: of every random stream, 0 or more; the same seed gives byte-identical tables.
        leaves: number of leaf categories, 2 to 720; default: 0.63 · √items (28 at 2,000 items, 630 at 1,000,000).
        days: simulated time span in days, 10 to 3650.
        validation, test: shares of the sessions, by time, 0 to 0.3 and 0.05 to 0.4.
        cold_users: share of users whose first session lies in the test period, 0 to 0.3.
        cold_items: share of items that launch in the test period, 0 to 0.3.
        late_items: share of items that launch during the time before it, 0 to 0.5; the others are there from the start.
        explore: probability that a session leaves the user's four favourite categories, 0 to 1.
        plain_query: probability that a session asks for no attribute, 0 to 1.
        taste_in_query: probability that an asked colour, style or brand is one of the user's favourites, 0 to 1.
        synonyms: probability that a word of the query is its synonym, which no title contains, 0 to 1.
        typo_rate: share of queries with one mistyped letter, 0 to 1.
        list_min, list_max: fewest and most items shown in a session, 1 to 50.
        popularity_exponent: Zipf exponent of item popularity within a leaf category, 0 to 2.
        position_exponent: an item at position p (from 0) is examined with probability (p + 1)^-exponent, 0 to 3.
        brand_weight, style_weight, color_weight, price_weight, audience_weight: what each counts in taste, in logits, 0 to 10.
        policy_match, policy_popularity, policy_taste: weights of query match, log popularity and taste in the engine that
            chose the shown lists, 0 to 10.
        noise: scale of that engine's Gumbel noise, 0.01 to 10.
        click_match, click_taste, click_popularity: the same weights in the logit of a click on an examined item, 0 to 10.
        buy_match, buy_taste: and in the logit of buying a clicked item, 0 to 10.
        clicks: expected clicks per session, 0.2 to 5; the click logit's constant is fitted to it.
        purchase_rate: expected share of sessions with a purchase, 0.01 to 0.9; the purchase logit's constant is fitted to it.
        oracle_requests: at most so many test requests are scored by the oracle, 0 to 100,000; 0 leaves the oracle out.
        oracle_draws: Monte Carlo draws of the list per request, 1 to 10,000.
        judged_queries, judged_items: size of the relevance table: queries, 0 to 100,000, and items of each, 4 to 200.
    """

    items: int = 2000
    users: int | None = None
    sessions: int | None = None
    seed: int = 0
    leaves: int | None = None
    days: int = 90
    validation: float = 0.05
    test: float = 0.15
    cold_users: float = 0.05
    cold_items: float = 0.04
    late_items: float = 0.15
    explore: float = 0.1
    plain_query: float = 0.3
    taste_in_query: float = 0.7
    synonyms: float = 0.35
    typo_rate: float = 0.06
    list_min: int = 12
    list_max: int = 20
    popularity_exponent: float = 0.8
    position_exponent: float = 0.4
    brand_weight: float = 2.0
    style_weight: float = 1.5
    color_weight: float = 1.0
    price_weight: float = 0.8
    audience_weight: float = 0.8
    policy_match: float = 1.5
    policy_popularity: float = 0.5
    policy_taste: float = 0.6
    noise: float = 1.0
    click_match: float = 1.0
    click_taste: float = 1.0
    click_popularity: float = 0.2
    buy_match: float = 0.5
    buy_taste: float = 1.0
    clicks: float = 2.0
    purchase_rate: float = 0.42
    oracle_requests: int = 2000
    oracle_draws: int = 8
    judged_queries: int = 200
    judged_items: int = 20

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: a value is out of range; the message names the field, the value and what is allowed.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = _BOUNDS.get(field.name, _WEIGHT_BOUNDS)
            if value is None and field.default is None:
                continue
            whole = isinstance(field.default, int) or field.default is None
            _check_number(field.name, value, whole, low, high)
        if self.list_min > self.list_max:
            raise ValueError(
                f"list_min={self.list_min} exceeds list_max={self.list_max}; allowed are 1 <= list_min <= list_max <= 50"
            )
        full = self.resolved() if None in (self.users, self.sessions, self.leaves) else self
        if full.sessions < full.users:
            raise ValueError(
                f"sessions={full.sessions} is fewer than users={full.users}; every user needs one: at least {full.users}"
            )
        if full.items < 5 * full.leaves:
            raise ValueError(f"leaves={full.leaves} is too many for items={full.items}; allowed are 2 to {full.items // 5}")

    def resolved(self) -> SimulatorConfig:
        """The same configuration with `users`, `sessions` and `leaves` filled in."""
        sessions = self.sessions
        if sessions is None:
            sessions = min(12 * self.items, 1_200_000) if self.users is None else 12 * self.users
        users = max(10, sessions // 12) if self.users is None else self.users
        leaves = min(max(round(0.63 * self.items**0.5), 2), MAX_LEAVES) if self.leaves is None else self.leaves
        return replace(self, sessions=sessions, users=users, leaves=leaves)

    def stream(self, name: str, *keys: int) -> np.random.Generator:
        """The random stream of one step; steps do not disturb each other's."""
        return np.random.default_rng([self.seed, *name.encode(), *keys])


def _check_number(name: str, value: object, whole: bool, low: float, high: float) -> None:
    kind = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind):
        raise ValueError(f"{name}={value!r} is no {'whole number' if whole else 'number'}; allowed are {low} to {high}")
    if not low <= value <= high:
        raise ValueError(f"{name}={value!r} is out of range; allowed are {low} to {high}")
