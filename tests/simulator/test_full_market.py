"""The preset `full`: missions, recommendations, carts, several purchases, statistics, features and texts; and its oracle."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from reader import SIGNS, Reader, fit, hits, interval

import onesearch.cli as cli
from onesearch.data.checking import check_market
from onesearch.data.market import Market
from onesearch.data.requests import build_requests, split_sessions
from onesearch.data.schema import STATISTICS
from onesearch.pipeline.market_options import check_options
from onesearch.simulator import SimulatorConfig, build_world, simulate
from onesearch.simulator.click_model import fit_constants, purchase_chances, show
from onesearch.simulator.oracle import expected_chances
from onesearch.simulator.sessions import play_sessions
from onesearch.simulator.vocabulary import WORD_TYPES
from onesearch.simulator.world import blocks_of

CONFIG = SimulatorConfig(items=300, seed=3, preset="full", oracle_requests=200)


@pytest.fixture(scope="module")
def sessions(market):
    return market.sessions.data.to_pylist()


@pytest.fixture(scope="module")
def items(market):
    return market.items.data.to_pylist()


@pytest.fixture(scope="module")
def world():
    return build_world(CONFIG.resolved())


def test_the_check_finds_nothing(folder):
    assert check_market(folder) == []


def test_scene_says_whether_there_is_a_query(sessions):
    assert {(bool(row["query"]), row["scene"]) for row in sessions} == {(True, "search"), (False, "recommendation")}
    assert sum(not row["query"] for row in sessions) == round(0.25 * len(sessions))


def test_rates_of_searches(sessions):
    searches = [row for row in sessions if row["query"]]
    assert np.mean([len(row["clicked"]) for row in searches]) == pytest.approx(CONFIG.clicks, abs=0.15)
    assert np.mean([len(row["carted"]) for row in searches]) == pytest.approx(0.9, abs=0.1)
    assert np.mean([bool(row["purchased"]) for row in searches]) == pytest.approx(CONFIG.purchase_rate, abs=0.04)


def test_purchases_come_out_of_the_cart(sessions):
    for row in sessions:
        assert set(row["purchased"]) <= set(row["carted"]) <= set(row["clicked"]) <= set(row["impressed"])
    counts = Counter(len(row["purchased"]) for row in sessions)
    assert (
        0.05
        < sum(counts[number] for number in counts if number > 1) / sum(counts[number] for number in counts if number)
        < 0.25
    )


def test_carts_and_further_purchases_are_options(tmp_path):
    options = SimulatorConfig(
        items=300, preset="full", carts=0, purchase_again=0, past_days=0, features=0, texts=0, oracle_requests=0
    )
    market = simulate(options, tmp_path / "market")
    assert not any(market.sessions["carted"]) and max(len(row) for row in market.sessions["purchased"]) == 1
    assert not any(market.items["features"])
    for name in (*STATISTICS, "description", "ocr_text"):
        assert set(market.items[name]) == {None}
    with pytest.raises(ValueError, match=r"carts=0\.3 does not fit purchase_rate=0\.42 and clicks=2\.0"):
        SimulatorConfig(carts=0.3)
    with pytest.raises(ValueError, match=r"preset='everything' is unknown; allowed are plain, full"):
        SimulatorConfig(preset="everything")


def test_the_split_stays_at_the_border_of_the_test_period(market, sessions, world):
    assigned = split_sessions(market)
    searched = np.array([bool(row["query"]) for row in sessions])
    first_test = int(np.flatnonzero((assigned == 2) & searched)[0])
    assert first_test == world.visits.before_test + int(np.argmax(searched[world.visits.before_test :]))
    first_of_user = {row["user_id"]: number for number, row in reversed(list(enumerate(sessions)))}
    cold = sum(number >= world.visits.before_test for number in first_of_user.values())
    assert cold >= round(CONFIG.cold_users * len(market.users))
    assert market.info["oracle"]["requests"] == min(
        200, sum(bool(request.purchased) for request in build_requests(market, "test"))
    )


def test_missions_are_close_searches_of_one_user(world):
    agendas, visits = world.visits.agendas, world.visits
    assert 0.6 < (agendas.missions[agendas.searched] >= 0).mean() < 0.9 and (agendas.missions[~agendas.searched] == -1).all()
    hours = []
    for rows in world.mission_sessions:
        rows = rows[rows >= 0]
        assert len(set(visits.users[rows])) == 1 and (agendas.steps[rows] == np.arange(len(rows))).all()
        assert agendas.ends[rows].tolist() == [False] * (len(rows) - 1) + [True]
        assert len({row >= visits.before_test for row in rows}) == 1
        hours += (np.diff(visits.times[rows]) / 3600).tolist()
    assert min(hours) > 0 and np.mean(hours) == pytest.approx(CONFIG.mission_hours, rel=0.15)


def test_each_query_of_a_mission_names_a_part_of_its_wish(world):
    """Later queries name other wishes, and all sessions of a mission look for the same leaf category."""
    intents, wishes, missions = world.intents, world.wishes, world.mission_sessions
    told = Counter()
    for mission, rows in enumerate(missions):
        rows = rows[rows >= 0]
        assert set(intents.leaves[rows]) == {wishes.leaves[mission]}
        wished = set(zip(wishes.kinds[mission].tolist(), wishes.values[mission].tolist()))
        named = [pair for pair in zip(intents.kinds[rows].tolist(), intents.words[rows].tolist()) if pair[1] >= 0]
        assert set(named) <= wished
        told[len(rows), len(set(named))] += 1
    assert sum(told[5, number] for number in (3, 4)) > told[5, 0] + told[5, 1]


def test_broad_queries_name_the_product_group(sessions, world):
    broad = np.flatnonzero((world.intents.scopes >= world.config.leaves) & world.visits.agendas.searched)
    assert len(broad) > 100
    groups = {leaf.group.lower() for leaf in world.vocabulary.leaves}
    clean = [sessions[row]["query"] for row in broad if " gift" in sessions[row]["query"]]
    assert np.mean([query.split(" gift")[0] in groups for query in clean]) > 0.9  # the others are mistyped
    assert any(query.endswith("gift for women") for query in clean)


def test_recommendations_follow_the_latest_search(sessions, items):
    """More often than chance, they show the product group of the user's latest search; sometimes that leads to a purchase there."""
    group = {item["item_id"]: item["categories"][1] for item in items}
    latest, same, other = {}, [], []
    for row in sessions:
        if row["query"]:
            latest[row["user_id"]] = group[row["impressed"][0]]
        elif row["user_id"] in latest:
            (same if {group[item] for item in row["impressed"]} == {latest[row["user_id"]]} else other).append(row)
    assert 0.6 < len(same) / (len(same) + len(other)) < 0.9
    assert sum(bool(row["purchased"]) for row in same) > 30


def test_statistics_tell_what_is_popular_later(items, sessions):
    assert all(item["purchase_count"] <= item["cart_count"] <= item["click_count"] <= item["shown_count"] for item in items)
    clicks = Counter(item for row in sessions for item in row["clicked"])
    seen = [item for item in items if item["shown_count"]]
    assert len(seen) > 200
    before, after = np.array([[item["click_count"], clicks[item["item_id"]]] for item in seen]).T
    assert np.corrcoef(np.log1p(before), np.log1p(after))[0, 1] > 0.4
    launched_later = np.mean([not item["shown_count"] for item in items])
    assert CONFIG.cold_items + CONFIG.late_items - 0.02 <= launched_later < 0.35


def test_features_show_style_and_colour(items):
    features = np.array([item["features"] for item in items])
    assert features.shape == (300, 16) and np.isfinite(features).all()
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    alike = unit @ unit.T
    np.fill_diagonal(alike, -np.inf)
    nearest = np.argsort(-alike, axis=1)[:, :5]
    for kind in ("style", "color"):
        values = np.array([item["attributes"][kind][0] for item in items])
        chance = np.mean(values[:, None] == values)
        assert np.mean(values[nearest] == values[:, None]) > 1.8 * chance, kind


def test_further_texts_hold_what_the_title_lacks(items):
    added = defaultdict(int)
    for item in items:
        texts = f"{item['description'] or ''} | {item['ocr_text'] or ''}"
        for kind in ("season", "scene", "material", "pattern"):
            for value in item["attributes"][kind]:
                added[kind] += value in texts
                assert not (value in texts and value in item["title"])
    assert min(added.values()) > 20
    assert 0.6 < np.mean([bool(item["description"] or item["ocr_text"]) for item in items]) <= 0.85


def test_oracle_agrees_with_brute_force(world):
    constants, rng = fit_constants(world), np.random.default_rng(0)
    searches = np.flatnonzero(world.visits.agendas.searched & (world.intents.missions >= 0))
    block = next(blocks_of(world, searches[:80]))
    counted = np.zeros(block.taste.shape)
    for _ in range(3000):
        shown = show(world, block, rng)
        chances = purchase_chances(world.config, shown, constants)
        counted[np.arange(len(counted))[:, None], shown.columns] += chances / 3000
    expected = sum(expected_chances(world, constants, block, "purchase", rng) for _ in range(40)) / 40
    assert np.abs(expected - counted).max() < 0.02
    assert expected.sum() == pytest.approx(counted.sum(), rel=0.02)


def test_purchases_are_as_frequent_as_their_chances_say(world):
    """The log, with carts and further purchases, against `purchase_chances`."""
    constants, rng = fit_constants(world), np.random.default_rng(0)
    log = play_sessions(world, constants)
    expected = sum(
        purchase_chances(world.config, show(world, block, rng), constants).sum()
        for block in blocks_of(world, np.arange(len(log.shown)))
    )
    assert log.purchased.sum() == pytest.approx(expected, rel=0.06)


def test_what_an_earlier_query_named_is_bought_later(world):
    """Among purchases of a mission's later searches, an item with the word of the query before is bought far more often than it occurs."""
    log = play_sessions(world, fit_constants(world))
    facets, intents = world.catalogue.facets, world.intents
    bought, offered = [], []
    for rows in world.mission_sessions:
        for before, row in zip(rows[:-1], rows[1:]):
            kind, word = intents.kinds[before], intents.words[before]
            if row < 0 or not 0 <= kind < len(WORD_TYPES) or not log.purchased[row].any() or intents.words[row] == word:
                continue
            bought.append((facets[kind, log.shown[row][log.purchased[row]]] == word).mean())
            offered.append((facets[kind, world.catalogue.items_of(intents.leaves[row])] == word).mean())
    assert len(bought) > 50
    low, _ = interval(np.array(bought) - np.array(offered))
    assert low > 0.15


def test_the_command_and_a_recipe_take_the_preset(tmp_path):
    folder = tmp_path / "market"
    assert cli.main(["data", "simulate", str(folder), "--items", "60", "--sessions", "300", "--preset", "full"]) == 0
    assert set(Market.load(folder).sessions["scene"]) == {"search", "recommendation"}
    with pytest.raises(SystemExit):
        cli.main(["data", "simulate", str(folder), "--preset", "most", "--overwrite"])
    check_options("simulate", {"items": 2000, "seed": 0, "preset": "full", "missions": 0.5})
    with pytest.raises(ValueError, match="preset='most' is unknown; allowed are plain, full"):
        check_options("simulate", {"preset": "most"})


@pytest.mark.slow
def test_recent_queries_and_older_items_tell_more_than_recent_items(tmp_path):
    """A conditional logit that reads the tables: hits of its best 10 with and without some signs, on the same requests."""
    config = SimulatorConfig(preset="full", oracle_requests=0)
    market = simulate(config, tmp_path / "market")
    reader = Reader(market, config)
    examples = {}
    for split in ("train", "test"):
        requests = [request for request in build_requests(market, split) if request.purchased]
        read = [reader.example(request) for request in requests[-3000:]]
        examples[split] = [example for example in read if example is not None]

    def gain(more: list[str], less: list[str]) -> tuple[float, float]:
        found = []
        for names in (more, less):
            columns = [SIGNS.index(name) for name in names]
            found.append(hits(examples["test"], columns, fit(examples["train"], columns)).astype(float))
        return interval(found[0] - found[1])

    basis = ["query", "popularity"]
    items = [*basis, "words of recent items", "category of recent items"]
    queries = ["words of recent queries", "category of recent queries"]
    assert gain(items, basis)[0] > 0.05  # measured: 0.112, interval 0.090 to 0.137
    assert gain([*basis, *queries], basis)[0] > 0.05  # 0.116, 0.094 to 0.139
    assert gain([*items, *queries], items)[0] > 0.02  # 0.052, 0.033 to 0.072
    assert gain([*items, *queries, "words of older items"], [*items, *queries])[0] > 0  # 0.029, 0.015 to 0.045
