"""The plain preset of the simulator: determinism, invariants of its tables, patterns that a model can learn from them, and the oracle."""

import hashlib
import json
from collections import Counter, defaultdict

import numpy as np
import pyarrow.compute as pc
import pytest

from onesearch.data.requests import build_requests, split_sessions
from onesearch.data.schema import ATTRIBUTE_TYPES, STATISTICS, TABLES
from onesearch.simulator import SimulatorConfig, build_world, simulate
from onesearch.simulator.click_model import fit_constants, purchase_chances, show
from onesearch.simulator.oracle import expected_chances
from onesearch.simulator.vocabulary import build_vocabulary
from onesearch.simulator.words import FILLERS
from onesearch.simulator.world import blocks_of

CONFIG = SimulatorConfig(items=300, seed=3)
PLAIN_COLUMNS = {
    "items": ("item_id", "title", "brand", "seller", "categories", "price", "attributes"),
    "users": ("user_id", "gender", "age_bucket", "region"),
    "sessions": ("session_id", "user_id", "time", "query", "impressed", "clicked", "purchased"),
    "relevance": ("query", "item_id", "grade"),
}
"""Columns that the simulator filled before it had presets; the plain preset fills `scene` besides."""


def column(market, table, name):
    return getattr(market, table).data.column(name).to_pylist()


def test_same_seed_same_bytes(folder, tmp_path):
    simulate(CONFIG, tmp_path / "again")
    for name in (*(f"{table}.parquet" for table in TABLES), "market.json"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name


def test_the_plain_market_is_the_one_that_all_published_figures_were_measured_on(market):
    """Its values are those from before the simulator had presets, missions, recommendations and carts."""
    fingerprint = hashlib.sha256()
    for table, names in PLAIN_COLUMNS.items():
        for name in names:
            fingerprint.update(json.dumps(column(market, table, name)).encode())
    assert fingerprint.hexdigest() == "1127311247c223da31266d6432864a7e830197674569a2704da411d7f147faf4"
    assert set(column(market, "sessions", "scene")) == {"search"} and not any(column(market, "sessions", "carted"))
    for name in ("description", "ocr_text", *STATISTICS):
        assert set(column(market, "items", name)) == {None}
    assert not any(column(market, "items", "features"))
    assert market.info["oracle"]["purchase"] == {"HR@5": 0.8075, "HR@10": 0.9249, "HR@50": 1.0}


def test_other_seed_other_market(market, tmp_path):
    other = simulate(SimulatorConfig(items=300, seed=4, oracle_requests=0), tmp_path / "other")
    assert column(other, "items", "title") != column(market, "items", "title")
    assert column(other, "sessions", "query") != column(market, "sessions", "query")
    assert "oracle" not in other.info


def test_info(market):
    resolved = CONFIG.resolved()
    assert market.info["name"] == "simulated" and market.info["seed"] == 3 and market.info["language"] == "en"
    assert market.info["split"] == {"method": "time", "validation": 0.05, "test": 0.15}
    assert market.info["config"]["users"] == resolved.users == len(market.users)
    assert market.info["rows"] == {name: len(getattr(market, name)) for name in TABLES}
    assert len(market.items) == 300 and len(market.sessions) == resolved.sessions == 3600


def test_resolved_settings_stay_as_they_are():
    resolved = SimulatorConfig(items=500).resolved()
    assert resolved.resolved() is resolved
    assert (resolved.sessions, resolved.users, resolved.leaves) == (6000, 500, 14)


def test_ids_are_unique_and_exist(market):
    items, users = column(market, "items", "item_id"), column(market, "users", "user_id")
    sessions = column(market, "sessions", "session_id")
    assert len(set(items)) == len(items) and len(set(users)) == len(users) and len(set(sessions)) == len(sessions)
    assert set(column(market, "sessions", "user_id")) == set(users)
    impressed = market.sessions.data.column("impressed")
    assert set(pc.list_flatten(impressed).to_pylist()) <= set(items)


def test_sessions_are_sorted_and_nested(market):
    times = column(market, "sessions", "time")
    assert times == sorted(times)
    for name in ("impressed", "clicked", "purchased"):
        assert all(len(set(row)) == len(row) for row in column(market, "sessions", name))
    rows = zip(*(column(market, "sessions", name) for name in ("impressed", "clicked", "purchased")))
    for impressed, clicked, purchased in rows:
        assert impressed and set(purchased) <= set(clicked) <= set(impressed)
        assert len(impressed) <= CONFIG.list_max and len(purchased) <= 1


def test_rates_are_near_the_configured_ones(market):
    purchases = np.mean([len(row) for row in column(market, "sessions", "purchased")])
    clicks = np.mean([len(row) for row in column(market, "sessions", "clicked")])
    assert abs(purchases - CONFIG.purchase_rate) < 0.04
    assert abs(clicks - CONFIG.clicks) < 0.15


def test_every_attribute_type_is_used(market):
    rows = column(market, "items", "attributes")
    for kind in ATTRIBUTE_TYPES:
        assert any(row[kind] for row in rows), kind


def test_titles_name_brand_style_colour_and_product(market):
    for item in market.items.data.to_pylist():
        for kind in ("brand", "style", "color", "entity"):
            assert item["attributes"][kind][0] in item["title"], (kind, item["title"])
        assert len(item["categories"]) == 3 and item["price"] > 0


def test_cold_users_and_cold_items(market):
    assigned, users = split_sessions(market), column(market, "sessions", "user_id")
    first = {user: row for row, user in reversed(list(enumerate(users)))}
    cold = sum(assigned[row] == 2 for row in first.values())
    assert cold >= round(CONFIG.cold_users * len(market.users))
    shown = defaultdict(set)
    for split, items in zip(assigned.tolist(), column(market, "sessions", "impressed")):
        shown[split == 2].update(items)
    assert len(shown[True] - shown[False]) >= 0.5 * CONFIG.cold_items * CONFIG.items


def test_queries_have_two_or_three_words_and_repeat(market):
    queries = column(market, "sessions", "query")
    assert {len(query.split()) for query in queries} == {2, 3}
    assert Counter(queries).most_common(1)[0][1] >= 20


def test_typo_rate(market):
    vocabulary = build_vocabulary(CONFIG.resolved())
    nouns = [word for leaf in vocabulary.leaves for word in (leaf.noun, leaf.synonym)]
    known = {word for text in (*vocabulary.words, *vocabulary.synonyms, *nouns, *FILLERS) for word in text.split()}
    typos = np.mean([not set(query.split()) <= known for query in column(market, "sessions", "query")])
    assert abs(typos - CONFIG.typo_rate) < 0.015


def test_one_meaning_per_word():
    vocabulary = build_vocabulary(SimulatorConfig(items=1_000_000).resolved())
    nouns = [word for leaf in vocabulary.leaves for word in (leaf.noun, leaf.synonym)]
    words = [word for pair in zip(vocabulary.words, vocabulary.synonyms) for word in set(pair)]
    counts = Counter([*nouns, *words, *FILLERS])
    assert [word for word, count in counts.items() if count > 1] == []
    assert len(vocabulary.leaves) == 630


def test_clicks_fall_with_the_position(tmp_path):
    blind = SimulatorConfig(
        items=300, policy_match=0, policy_taste=0, policy_popularity=0, position_exponent=1.0, oracle_requests=0
    )
    market = simulate(blind, tmp_path / "blind")
    clicked_at, shown_at = np.zeros(20), np.zeros(20)
    for impressed, clicked in zip(column(market, "sessions", "impressed"), column(market, "sessions", "clicked")):
        shown_at[: len(impressed)] += 1
        clicked_at[[impressed.index(item) for item in clicked]] += 1
    rates = clicked_at / shown_at
    assert rates[0] == pytest.approx(2 * rates[1], rel=0.15)
    assert rates[0] == pytest.approx(10 * rates[9], rel=0.35)


def test_oracle_beats_popularity_in_the_true_category(market):
    leaf = dict(zip(column(market, "items", "item_id"), (path[-1] for path in column(market, "items", "categories"))))
    popularity = Counter(item for request in build_requests(market, "train") for item in request.purchased)
    ranked = {
        name: sorted((i for i in leaf if leaf[i] == name), key=lambda i: -popularity[i])[:10] for name in set(leaf.values())
    }
    bought = [request.purchased[0] for request in build_requests(market, "test") if request.purchased]
    baseline = np.mean([item in ranked[leaf[item]] for item in bought])
    oracle = market.info["oracle"]
    assert oracle["requests"] == len(bought)
    assert oracle["purchase"]["HR@10"] > 1.6 * baseline
    for kind in ("purchase", "click"):
        assert oracle[kind]["HR@5"] < oracle[kind]["HR@10"] < oracle[kind]["HR@50"] <= 1


def test_oracle_agrees_with_brute_force():
    world = build_world(SimulatorConfig(items=50, users=50, sessions=400, leaves=2, oracle_draws=200).resolved())
    constants, rng = fit_constants(world), np.random.default_rng(0)
    block = next(blocks_of(world, np.arange(20)))
    counted = np.zeros(block.taste.shape)
    for _ in range(2000):
        shown = show(world, block, rng)
        counted[np.arange(len(counted))[:, None], shown.columns] += purchase_chances(world.config, shown, constants) / 2000
    assert np.abs(expected_chances(world, constants, block, "purchase", rng) - counted).max() < 0.02


def test_relevance_follows_the_grades(market):
    items = {item["item_id"]: item for item in market.items.data.to_pylist()}
    judged = defaultdict(list)
    for row in market.relevance.data.to_pylist():
        judged[row["query"]].append((items[row["item_id"]]["categories"], row["grade"]))
    assert len(judged) == CONFIG.judged_queries and set(judged) <= set(column(market, "sessions", "query"))
    assert {grade for rows in judged.values() for _, grade in rows} == {0, 1, 2, 3}
    for rows in judged.values():
        leaf = {path[-1] for path, grade in rows if grade >= 2}
        assert len(leaf) == 1 and len(rows) <= CONFIG.judged_items
        for path, grade in rows:
            assert (path[-1] in leaf) == (grade >= 2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"items": 10}, r"items=10 .*allowed are 50 to"),
        ({"items": 99.5}, r"items=99\.5 is no whole number"),
        ({"seed": -1}, r"seed=-1"),
        ({"typo_rate": 1.5}, r"typo_rate=1\.5 .*allowed are 0 to 1"),
        ({"test": float("nan")}, r"test=nan"),
        ({"brand_weight": True}, r"brand_weight=True is no number"),
        ({"list_min": 21}, r"list_min=21 exceeds list_max=20"),
        ({"users": 500, "sessions": 400}, r"sessions=400 is fewer than users=500"),
        ({"items": 100, "leaves": 50}, r"leaves=50 is too many for items=100; allowed are 2 to 20"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        SimulatorConfig(**values)


def test_too_many_cold_users_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"cold_users=0\.3 .*lower cold_users"):
        simulate(SimulatorConfig(items=300, cold_users=0.3, test=0.05), tmp_path / "market")
    assert not (tmp_path / "market").exists()
