"""Every setting of the simulator, with its unit and range. All values are our choice; no paper gives any of them."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

MAX_LEAVES = 720
"""Largest number of leaf categories: the word tables hold 144 nouns, each plain and in 4 variants."""

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
    "missions": (0, 1),
    "mission_searches": (2, 10),
    "mission_hours": (0.1, 240),
    "mission_wishes": (1, 5),
    "mission_explore": (0, 1),
    "broad_queries": (0, 1),
    "broad_again": (0, 1),
    "recommendations": (0, 0.8),
    "carts": (0, 5),
    "purchase_again": (0, 0.95),
    "past_days": (0, 3650),
    "features": (0, 4096),
    "feature_noise": (0, 10),
    "texts": (0, 1),
    "silent_titles": (0, 1),
    "feature_leaf": (0, 10),
}
_WEIGHT_BOUNDS = (0, 10)

_WHOLE = frozenset(
    "items users sessions seed leaves days list_min list_max oracle_requests oracle_draws judged_queries judged_items "
    "mission_searches mission_wishes past_days features".split()
)
"""Settings that are whole numbers."""

PRESETS: dict[str, dict[str, float]] = {
    "plain": dict.fromkeys(
        (
            *("missions", "recommendations", "carts", "purchase_again", "past_days", "features", "texts"),
            *("silent_titles", "feature_leaf"),
        ),
        0,
    ),
    "full": {
        "missions": 0.6,
        "recommendations": 0.25,
        "carts": 0.9,
        "purchase_again": 0.25,
        "past_days": 30,
        "features": 16,
        "texts": 0.8,
        "silent_titles": 0,
        "feature_leaf": 0,
    },
    "video": {
        "missions": 0,
        "recommendations": 0,
        "carts": 0,
        "purchase_again": 0,
        "past_days": 30,
        "features": 32,
        "texts": 0,
        "silent_titles": 0.8,
        "feature_leaf": 2,
    },
}
"""Values of the settings that are None, by `SimulatorConfig.preset`."""


SESSIONS_PER_USER = {"plain": 12, "full": 24, "video": 12}
"""Mean number of sessions of a user by preset, unless `users` and `sessions` are both given. Missions need several."""


@dataclass(frozen=True)
class SimulatorConfig:
    """Settings of a simulated market. `resolved` derives the fields that are None from the number of items.

    A session is a search of its own in the preset ``plain``. The preset ``full`` adds what OneSearch (arXiv 2509.03236) reads of a shop:
    missions (several searches of one wish, such as gift searches and then "silver ring"), sessions without a query, carts, several
    purchases in a session, statistics of items, features in place of pictures, and further texts. The preset ``video`` is a market of short
    videos: most titles say nothing of what is seen, and the features, in place of an embedding of the frames, show it; the text of an item
    is its title alone. A purchase stands for a long play, a click for a play.

    Args:
        preset: ``plain``, ``full`` or ``video``: gives the values of the last nine settings that are None.
        items: number of items, 50 to 5,000,000.
        users: number of users, 10 to 5,000,000; default: one per 12 sessions, in the preset ``full`` one per 24.
        sessions: number of sessions, 100 to 20,000,000; default: 12 per item, at most 1,200,000 (reached at 100,000 items).
        seed: seeds every random stream, 0 or more; the same seed and settings give byte-identical tables.
        leaves: number of leaf categories, 2 to 720; default: 0.63 · √items (28 at 2,000 items, 630 at 1,000,000).
        days: simulated time span in days, 10 to 3650.
        validation: share of the sessions, by time, that is the validation split, 0 to 0.3; it lies before the test split.
        test: share of the sessions, by time, that is the test split, 0.05 to 0.4; it lies at the end.
        cold_users: share of users whose first session lies in the test period, 0 to 0.3.
        cold_items: share of items that launch in the test period, 0 to 0.3.
        late_items: share of items that launch before the test period, 0 to 0.5; all other items are available from the start.
        explore: probability that a session draws its category from all categories instead of the user's four favourites, 0 to 1.
        plain_query: probability that a session asks for no attribute, 0 to 1.
        taste_in_query: probability that a requested colour, style or brand is one of the user's favourites, 0 to 1; raising it
            makes queries agree more often with the history.
        synonyms: probability that a query word is replaced by its synonym, which no title contains, 0 to 1; raising it makes
            lexical search harder.
        typo_rate: share of queries with one mistyped letter, 0 to 1.
        list_min: smallest number of items shown in a session, 1 to 50.
        list_max: largest number of items shown in a session, 1 to 50; the length is uniform between the two.
        popularity_exponent: Zipf exponent of item popularity within a leaf category, 0 to 2; 0 makes all items equally popular.
        position_exponent: an item at position p (from 0) is examined with probability (p + 1)^-exponent, 0 to 3; raising it
            strengthens the position bias.
        brand_weight: weight of the item's brand in the user's taste, in logits, 0 to 10.
        style_weight: weight of the item's style in the user's taste, in logits, 0 to 10.
        color_weight: weight of the item's colour in the user's taste, in logits, 0 to 10.
        price_weight: weight of the squared distance from the user's price level, in logits, 0 to 10.
        audience_weight: penalty for an item made for another gender, in logits, 0 to 10.
        policy_match: weight of the query match in the score of the logging policy, which chose the shown lists, 0 to 10.
        policy_popularity: weight of the log popularity in the score of the logging policy, 0 to 10.
        policy_taste: weight of the user's taste in the score of the logging policy, 0 to 10.
        noise: scale of the Gumbel noise that the logging policy adds to its scores, 0.01 to 10; raising it makes the shown
            lists more random.
        click_match: weight of the query match in the logit of a click on an examined item, 0 to 10.
        click_taste: weight of the user's taste in the logit of a click, 0 to 10.
        click_popularity: weight of the log popularity in the logit of a click, 0 to 10.
        buy_match: weight of the query match in the logit of buying a clicked item, 0 to 10.
        buy_taste: weight of the user's taste in the logit of buying a clicked item, 0 to 10.
        clicks: expected clicks per session, 0.2 to 5; the click logit's constant is fitted to it.
        purchase_rate: expected share of sessions with a purchase, 0.01 to 0.9; the purchase logit's constant is fitted to it.
        oracle_requests: number of test requests that the oracle scores, 0 to 100,000; 0 leaves the oracle out.
        oracle_draws: Monte Carlo draws of the shown list per request, 1 to 10,000; raising it makes the oracle more exact.
        judged_queries: number of queries in the relevance table, 0 to 100,000.
        judged_items: number of judged items per query, 4 to 200.
        mission_searches: largest number of searches of a mission, 2 to 10; the number is uniform from 2.
        mission_hours: mean time between two searches of a mission in hours, 0.1 to 240.
        mission_wishes: number of attribute words that a mission wishes for, 1 to 5; each of its queries names at most one of its wishes.
        mission_explore: probability that a mission draws its category from all categories, as a gift for somebody else, 0 to 1.
        broad_queries: probability that the first query of a mission names the product group instead of the leaf category, 0 to 1.
        broad_again: probability that a later query of a mission names only the product group, 0 to 1; raising it leaves more to the earlier
            queries.
        policy_recent: weight of what the mission's earlier queries named in the score of the logging policy, 0 to 10.
        mission_click: weight of the fit to the mission's whole wish in the logit of a click, 0 to 10.
        mission_buy: weight of the fit to the mission's whole wish in the logit of a purchase, 0 to 10; raising it makes earlier
            queries of a user tell more about the next purchase.
        feature_noise: standard deviation of the noise in `features` relative to the signal, 0 to 10.
        missions: probability that a search that continues no mission starts one, 0 to 1; 0 makes every search one of its own.
        recommendations: share of sessions without a query, in which the shop recommends items, 0 to 0.8.
        carts: expected number of items per search that are put into the cart, 0 to 5; the cart logit's constant is fitted to it. Above 0 an
            item is bought only out of the cart. 0 leaves `carted` empty.
        purchase_again: probability that the user goes on after a purchase, 0 to 0.95; 0 limits a session to one purchase.
        past_days: days before the first session over which the statistics of items are counted, 0 to 3650; 0 leaves them empty.
        features: dimension of the items' `features`, a noisy view of style, colour, material, pattern and product group in place of an
            embedding of a picture, 0 to 4096; 0 leaves them empty.
        texts: share of items with a description and a text in the picture, which name attributes that the title lacks, 0 to 1.
        silent_titles: share of items whose title names nothing but series and model, 0 to 1; raising it makes text say less.
        feature_leaf: weight of the leaf category in `features` relative to an attribute, 0 to 10; 0 shows the product group alone.
    """

    preset: str = "plain"
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
    mission_searches: int = 5
    mission_hours: float = 8.0
    mission_wishes: int = 3
    mission_explore: float = 0.5
    broad_queries: float = 0.6
    broad_again: float = 0.5
    policy_recent: float = 2.0
    mission_click: float = 1.5
    mission_buy: float = 2.0
    feature_noise: float = 0.5
    missions: float | None = None
    recommendations: float | None = None
    carts: float | None = None
    purchase_again: float | None = None
    past_days: int | None = None
    features: int | None = None
    texts: float | None = None
    silent_titles: float | None = None
    feature_leaf: float | None = None

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: a value is out of range; the message names the field, the value and what is allowed.
        """
        if self.preset not in PRESETS:
            raise ValueError(f"preset={self.preset!r} is unknown; allowed are {', '.join(PRESETS)}")
        for field in fields(self):
            if field.name == "preset":
                continue
            value = getattr(self, field.name)
            low, high = _BOUNDS.get(field.name, _WEIGHT_BOUNDS)
            if value is None and field.default is None:
                continue
            _check_number(field.name, value, field.name in _WHOLE, low, high)
        if self.list_min > self.list_max:
            raise ValueError(
                f"list_min={self.list_min} exceeds list_max={self.list_max}; allowed are 1 <= list_min <= list_max <= 50"
            )
        self.resolved()

    def resolved(self) -> ResolvedConfig:
        """The same settings with `users`, `sessions`, `leaves` and the preset's values filled in.

        Raises:
            ValueError: the numbers of users, sessions, items and leaves do not fit each other.
        """
        sessions, per_user = self.sessions, SESSIONS_PER_USER[self.preset]
        if sessions is None:
            sessions = min(12 * self.items, 1_200_000) if self.users is None else per_user * self.users
        users = max(10, sessions // per_user) if self.users is None else self.users
        leaves = min(max(round(0.63 * self.items**0.5), 2), MAX_LEAVES) if self.leaves is None else self.leaves
        filled = {name: value for name, value in PRESETS[self.preset].items() if getattr(self, name) is None}
        return ResolvedConfig(**(vars(self) | filled | {"sessions": sessions, "users": users, "leaves": leaves}))

    def stream(self, name: str, *keys: int) -> np.random.Generator:
        """Return the random stream of one step. Each step has its own, so a change in one leaves the draws of the others alone.

        Args:
            name: name of the step.
            keys: further numbers that distinguish streams of the same step.
        """
        return np.random.default_rng([self.seed, *name.encode(), *keys])


@dataclass(frozen=True)
class ResolvedConfig(SimulatorConfig):
    """Settings in which nothing is left to derive; `SimulatorConfig.resolved` makes them."""

    users: int = 0
    sessions: int = 0
    leaves: int = 0
    missions: float = 0.0
    recommendations: float = 0.0
    carts: float = 0.0
    purchase_again: float = 0.0
    past_days: int = 0
    features: int = 0
    texts: float = 0.0
    silent_titles: float = 0.0
    feature_leaf: float = 0.0

    def __post_init__(self) -> None:
        """Check every value, and that the sizes fit each other."""
        super().__post_init__()
        if self.sessions < self.users:
            raise ValueError(
                f"sessions={self.sessions} is fewer than users={self.users}; every user needs a session: "
                f"allowed are {self.users} or more"
            )
        if self.items < 5 * self.leaves:
            raise ValueError(f"leaves={self.leaves} is too many for items={self.items}; allowed are 2 to {self.items // 5}")
        if self.carts and not self.purchase_rate < self.carts < self.clicks:
            raise ValueError(
                f"carts={self.carts} does not fit purchase_rate={self.purchase_rate} and clicks={self.clicks}: an item is clicked, put "
                "into the cart and then bought; allowed are 0 (no carts) or a number between the two"
            )

    def resolved(self) -> ResolvedConfig:
        """Return these settings unchanged."""
        return self


def _check_number(name: str, value: object, whole: bool, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (whole and not isinstance(value, int)):
        raise ValueError(f"{name}={value!r} is no {'whole number' if whole else 'number'}; allowed are {low} to {high}")
    if not low <= value <= high:
        raise ValueError(f"{name}={value!r} is out of range; allowed are {low} to {high}")
