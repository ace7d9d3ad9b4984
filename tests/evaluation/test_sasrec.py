"""SASRec and item-to-item transitions on histories whose next item is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from onesearch.data.market import Market
from onesearch.data.requests import Request
from onesearch.evaluation.baselines import sasrec_training
from onesearch.evaluation.baselines.sasrec import SASRecConfig, SASRecRetriever
from onesearch.evaluation.baselines.sasrec_model import SASRecModel
from onesearch.evaluation.baselines.sasrec_training import cut_histories, train_sasrec
from onesearch.evaluation.baselines.training import read_training_log
from onesearch.evaluation.baselines.transitions import TransitionRetriever

ITEMS = "xyapqz"
SMALL = SASRecConfig(hidden_size=16, layers=1, dropout=0.0, epochs=15, held_out=0.0, batch_items=60, learning_rate=0.02)


def make_market(histories: list[str], items: str = ITEMS) -> Market:
    """Each letter of a history is bought in a session of its own."""
    events = [(place, user, item) for user, history in enumerate(histories) for place, item in enumerate(history)]
    return Market.from_rows(
        items=[{"item_id": item, "title": item} for item in items],
        sessions=[
            {"session_id": f"s{n}", "user_id": f"u{user}", "time": n, "query": "any", "purchased": [item]}
            for n, (_, user, item) in enumerate(sorted(events))
        ],
        info={"split": {"method": "none"}},
    )


@pytest.fixture(scope="module")
def market() -> Market:
    """After x and a comes p, after y and a comes q: the last item alone does not say which."""
    return make_market(["xap", "yaq"] * 20)


@pytest.fixture(scope="module")
def sasrec(market) -> SASRecRetriever:
    return SASRecRetriever(market, config=SMALL)


def ask(retriever, history: str, top_k: int = 6, purchased: str = "") -> list[str]:
    request = Request("s", "u", "any", tuple(history), purchased=tuple(purchased), clicked=tuple(purchased))
    return list(retriever.retrieve([request], top_k)[0].item_ids)


def test_sasrec_learns_what_comes_next(sasrec):
    assert (ask(sasrec, "xa")[0], ask(sasrec, "ya")[0]) == ("p", "q")
    assert set(ask(sasrec, "xa")) == set("ypqz"), "repeats are rare, so the history is left out"


def test_sampled_softmax_learns_it_too(market):
    sampled = SASRecRetriever(market, config=replace(SMALL, full_softmax=5, negatives=4, epochs=25))
    assert (ask(sampled, "xa")[0], ask(sampled, "ya")[0]) == ("p", "q")


def test_sasrec_does_not_read_the_targets(sasrec):
    assert ask(sasrec, "xa") == ask(sasrec, "xa", purchased="z")
    assert ask(sasrec, "") == ask(sasrec, "", purchased="z")


def test_users_without_a_known_item_get_popular_items(sasrec):
    assert ask(sasrec, "") == ask(sasrec, "?!") == ["a", "x", "y", "p", "q", "z"]
    scores = sasrec.score([(), "?"], np.array([[2, 5], [2, -1]]))
    counts = np.array([41, 21, 21, 21, 21, 1])
    assert scores == pytest.approx(np.log([[41 / 126, 1 / 126], [41 / 126, 1]])) and counts.sum() == 126


def test_scores_are_those_of_the_ranking(sasrec):
    (ranking,) = sasrec.retrieve([Request("s", "u", "any", ("x", "a"))], 2)
    rows = np.array([[ITEMS.index(item) for item in ranking.item_ids]])
    assert sasrec.score(["xa"], rows)[0] == pytest.approx(ranking.scores)
    assert np.exp(sasrec.score(["xa"], np.arange(6)[None])).sum() == pytest.approx(1, abs=1e-5)


def test_items_are_ranked_again_where_repeats_are_frequent():
    market = make_market(["xyxy", "yxyx"] * 5)
    assert ask(SASRecRetriever(market, config=SMALL), "xy")[0] == "x"
    assert ask(TransitionRetriever(market), "xy")[0] == "x"


def test_the_seed_decides(market):
    before = torch.random.get_rng_state()
    log, config = read_training_log(market), replace(SMALL, epochs=1)
    first, again = (train_sasrec(log, config).model.state_dict() for _ in range(2))
    other = train_sasrec(log, replace(config, seed=1)).model.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["items.weight"], other["items.weight"])
    assert torch.equal(before, torch.random.get_rng_state())


def test_training_stops_at_the_best_epoch(market, monkeypatch):
    values, seen = iter([0.2, 0.5, 0.4, 0.3, 0.9]), []

    def quality(model, checked, config) -> float:
        seen.append((len(checked), model.items.weight.detach().clone()))
        return next(values)

    monkeypatch.setattr(sasrec_training, "_quality", quality)
    trained = train_sasrec(read_training_log(market), replace(SMALL, held_out=0.5, patience=2))
    assert trained.epochs == 2 and list(values) == [0.9] and {count for count, _ in seen} == {20}
    assert torch.equal(trained.model.items.weight, seen[1][1])


def test_histories_are_cut_with_the_last_item_of_some_users_held_out():
    log = read_training_log(make_market(["xyapq", "xy", "z"]))
    config = SASRecConfig(max_length=2)
    assert [piece.tolist() for piece in cut_histories(log, replace(config, held_out=0)).pieces] == [
        [0, 1, 2],
        [2, 3, 4],
        [0, 1],
    ]
    held = cut_histories(read_training_log(make_market(["xyapq", "xya", "xy"])), replace(config, held_out=0.5))
    pieces, checked = ([part.tolist() for part in parts] for parts in held)
    assert checked in ([[0, 1, 2, 3, 4]], [[0, 1, 2]])  # one of the two users with three items or more
    assert pieces == (
        [[0, 1, 2], [2, 3], [0, 1, 2], [0, 1]] if len(checked[0]) == 5 else [[0, 1, 2], [2, 3, 4], [0, 1], [0, 1]]
    )


def test_the_number_of_parameters_is_bounded(market, monkeypatch):
    log = read_training_log(market)
    for size in (8, 64):
        model = SASRecModel(6, size, 2, 2, 0.0, 50)
        counted = sasrec_training._parameters(6, size, SASRecConfig())
        assert counted == sum(parameter.numel() for parameter in model.parameters())
    monkeypatch.setattr(sasrec_training, "MAX_PARAMETERS", sasrec_training._parameters(6, 12, SMALL))
    assert train_sasrec(log, replace(SMALL, epochs=1)).model.items.weight.shape == (6, 12)


def test_without_sessions_the_order_of_the_catalogue_remains():
    market = Market.from_rows(items=[{"item_id": item, "title": item} for item in ITEMS])
    sasrec = SASRecRetriever(market, config=SMALL)
    assert sasrec.epochs == 0 and ask(sasrec, "xa", 3) == ["y", "p", "q"]
    assert ask(TransitionRetriever(market), "xa", 3) == ["y", "p", "q"]


def test_transitions_vote_from_the_latest_items(market):
    retriever = TransitionRetriever(market)
    assert ask(retriever, "x")[0] == "a" and set(ask(retriever, "xa", 2)) == {"p", "y"}
    assert ask(retriever, "") == ["a", "x", "y", "p", "q", "z"] == ask(retriever, "", purchased="z")


@pytest.mark.parametrize(
    "values, message",
    [
        ({"epochs": 0}, "epochs=0 must be at least 1"),
        ({"max_length": 1}, "max_length=1 must be at least 2"),
        ({"hidden_size": 9}, "hidden_size=9 must be a multiple of heads=2"),
        ({"dropout": 1.0}, "dropout=1.0 and held_out=0.1 must be at least 0 and below 1"),
        ({"learning_rate": 0.0}, "learning_rate=0.0 must be above 0"),
    ],
)
def test_values_out_of_range_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        SASRecConfig(**values)
