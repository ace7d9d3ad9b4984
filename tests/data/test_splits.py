"""How sessions are split: the random split beside those of `test_market.py`, and the settings of all of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from importer_files import write_jsonl

import onesearch.cli as cli
from onesearch.data.info_checks import split_problem
from onesearch.data.market import Market
from onesearch.data.requests import SPLITS, build_requests, split_sessions
from onesearch.data.splits import SplitConfig, describe, with_split
from onesearch.pipeline.mappings import build
from onesearch.pipeline.recipe import MarketConfig, Recipe, recipe_values
from onesearch.pipeline.steps import make_market

ITEMS = [{"item_id": item, "title": item} for item in "abcde"]
RANDOM = SplitConfig("random", validation=0.05, test=0.1, seed=3)


def sessions(count: int = 400, users: int = 20) -> list[dict]:
    """Sessions in order of time; every fifth has no query, and two follow each other at the same time."""
    rng = np.random.default_rng(0)
    return [
        {
            "session_id": f"s{row:03}",
            "user_id": f"u{rng.integers(users)}",
            "time": row // 2,
            "query": "" if row % 5 == 0 else f"q{row}",
            "clicked": [str(rng.choice(list("abcde")))],
        }
        for row in range(count)
    ]


@pytest.fixture(scope="module")
def plain():
    return Market.from_rows(items=ITEMS, sessions=sessions(), info={"split": {"method": "time"}, "oracle": {"draws": 1}})


def test_a_random_split_draws_its_shares_of_the_searches(plain):
    assigned = split_sessions(with_split(plain, RANDOM))
    searches = assigned[[bool(query) for query in plain.sessions["query"]]]
    assert np.bincount(searches).tolist() == [272, 16, 32]  # 85, 5 and 10 % of 320
    assert not assigned[[not query for query in plain.sessions["query"]]].any()
    assert 100 < np.flatnonzero(assigned == 2).mean() < 300  # all over the log, not at its end
    nine_to_one = split_sessions(with_split(plain, SplitConfig("random", validation=0, test=0.1)))
    assert np.bincount(nine_to_one, minlength=3).tolist() == [368, 0, 32]


def test_a_seed_names_a_random_split(plain):
    splits = [split_sessions(with_split(plain, SplitConfig("random", seed=seed))) for seed in (None, 0, 1, 2)]
    assert (splits[0] == splits[1]).all()
    tested = [set(np.flatnonzero(split == 2)) for split in splits[1:]]
    assert len(tested[0] & tested[1]) < 16 > len(tested[1] & tested[2])


def test_histories_of_a_random_split_end_before_their_request(plain):
    market = with_split(plain, RANDOM)
    rows = list(market.sessions)
    place = {row["session_id"]: number for number, row in enumerate(rows)}
    requests = [request for split in SPLITS for request in build_requests(market, split)]
    assert len(requests) == 320
    for request in requests:
        own = rows[place[request.session_id]]
        before = [row for row in rows if row["user_id"] == request.user_id and row["time"] < own["time"]]
        assert list(request.history) == [item for row in before for item in row["clicked"]]


def test_another_split_leaves_the_oracle_out_and_the_market_as_it_was(plain, tmp_path):
    market = with_split(plain, RANDOM)
    assert market.info == {"split": {"method": "random", "validation": 0.05, "test": 0.1, "seed": 3}}
    assert plain.info["split"] == {"method": "time"} and "oracle" in plain.info
    loaded = Market.load(market.save(tmp_path / "market"))
    assert (split_sessions(loaded) == split_sessions(market)).all()
    assert cli.main(["data", "check", str(tmp_path / "market")]) == 0


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"method": "chance"}, "split method 'chance' is unknown; allowed are time, leave_last_out, random, none"),
        ({"method": "random", "test": 0.0}, "test=0.0 and validation=0.05; test must be above 0"),
        ({"method": "random", "test": 0.9, "validation": 0.1}, "their sum below 1"),
        ({"method": "random", "seed": -1}, "split seed is -1; give a whole number of at least 0"),
        ({"method": "time", "seed": 1}, "split seed=1: the method time does not use it"),
        ({"method": "leave_last_out", "test": 0.1}, "split test=0.1: the method leave_last_out does not use it"),
    ],
)
def test_settings_that_do_not_fit_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        SplitConfig(**values)


@pytest.mark.parametrize(("seed", "words"), [("one", "split seed is 'one'"), (True, "split seed is True"), (-4, "is -4")])
def test_a_seed_in_market_json_is_checked(plain, seed, words):
    split = {"method": "random", "seed": seed}
    assert words in (split_problem({"split": split}, True) or "")
    with pytest.raises(ValueError, match=f"market.json: .*{words}"):
        split_sessions(Market(plain.items, plain.users, plain.sessions, plain.relevance, {"split": split}))


def test_a_split_in_words():
    assert describe(RANDOM.info()) == "random, 10 % test, 5 % validation, seed 3"
    assert describe(SplitConfig("leave_last_out").info()) == "leave last out" and describe({"method": "time"}) == "time"


def test_every_importer_takes_a_split_from_the_command_line(tmp_path, capsys):
    write_jsonl(tmp_path / "mine" / "items.jsonl", ITEMS)
    write_jsonl(tmp_path / "mine" / "sessions.jsonl", [{"purchased": [], **row} for row in sessions(100)])
    command = ["data", "tables", str(tmp_path / "mine"), str(tmp_path / "market")]
    flags = ["--split", "random", "--test-share", "0.2", "--validation-share", "0", "--split-seed", "7"]
    assert cli.main([*command, *flags]) == 0
    assert "split random, 20 % test, 0 % validation, seed 7" in capsys.readouterr().out
    info = json.loads((tmp_path / "market" / "market.json").read_text())
    assert info["split"] == {"method": "random", "validation": 0.0, "test": 0.2, "seed": 7}
    assert cli.main([*command, "--overwrite", "--test-share", "0.3"]) == 0
    info = json.loads((tmp_path / "market" / "market.json").read_text())
    assert info["split"] == {"method": "time", "validation": 0.05, "test": 0.3}
    assert cli.main([*command, "--overwrite", "--split", "none", "--split-seed", "7"]) == 2
    assert "the method none does not use it" in capsys.readouterr().err
    assert cli.main(["data", "tables", str(tmp_path / "nowhere"), str(tmp_path / "other"), "--test-share", "2"]) == 2
    assert "test=2.0" in capsys.readouterr().err  # before anything is read
    simulated = ["data", "simulate", str(tmp_path / "simulated"), "--items", "200", "--sessions", "300", "--split", "random"]
    assert cli.main(simulated) == 0
    assert "oracle" not in capsys.readouterr().out
    assert json.loads((tmp_path / "simulated" / "market.json").read_text())["split"]["method"] == "random"


def test_a_recipe_splits_the_market_of_any_importer(tmp_path):
    write_jsonl(tmp_path / "mine" / "items.jsonl", ITEMS)
    write_jsonl(tmp_path / "mine" / "sessions.jsonl", [{"purchased": [], **row} for row in sessions(100)])
    values = {
        "name": "x",
        "market": {"importer": "tables", "split": {"method": "random", "validation": 0.0, "test": 0.1, "seed": 5}},
    }
    recipe = build(Recipe, values, "recipe")
    assert recipe.market.split == SplitConfig("random", validation=0.0, test=0.1, seed=5)
    assert build(Recipe, recipe_values(recipe), "recipe") == recipe
    made = make_market(MarketConfig("tables", str(tmp_path / "mine"), split=recipe.market.split), tmp_path / "market")
    assert made.info["split"] == Market.load(tmp_path / "market").info["split"] == recipe.market.split.info()
    assert np.bincount(split_sessions(made)).tolist() == [92, 0, 8]  # 8 of 80 searches
    for split, words in (
        ({"method": "chance"}, "recipe.market.split: split method 'chance'"),
        ({"sed": 1}, "unknown key 'sed'"),
    ):
        with pytest.raises(ValueError, match=words):
            build(Recipe, {"name": "x", "market": {"split": split}}, "recipe")


@pytest.mark.parametrize(
    ("split", "kept"),
    [
        (SplitConfig("time", test=0.05, validation=0.02), True),
        (SplitConfig("none"), True),
        (SplitConfig("time", test=0.3), False),
        (SplitConfig("random", test=0.1), False),
    ],
    ids=["later", "none", "earlier", "random"],
)
def test_statistics_that_count_held_out_sessions_are_left_empty(split, kept):
    items = [{**item, "click_count": row, "shown_count": 9} for row, item in enumerate(ITEMS)]
    info = {"split": {"method": "time"}, "statistics": {"items": 5, "too_late": 1}}
    market = with_split(Market.from_rows(items=items, sessions=sessions(), info=info), split)
    assert market.items["click_count"][:] == (list(range(5)) if kept else [None] * 5)
    assert market.items["shown_count"][:] == ([9] * 5 if kept else [None] * 5)
    assert market.info["statistics"] == ({"items": 5, "too_late": 1} if kept else {"items": 0, "too_late": 6})
