"""What teachers expect, and that a request's own purchase and everything later stay out of it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from onesearch.data.arrow_tables import as_dataset
from onesearch.data.market import Market
from onesearch.data.requests import request_rows
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME, SidIndex
from onesearch.tokenization_sid.templates import PromptLayout
from onesearch.trainers.reward.reward_config import RewardConfig
from onesearch.trainers.soft.soft_config import SoftTargetConfig
from onesearch.trainers.soft.teachers import RewardTeacher, SASRecTeacher, TransitionTeacher
from onesearch.views.reward.memory import DECAY, WINDOW
from onesearch.views.session_views import SessionViews

PLAIN = PromptLayout(items=3, queries=0, sid=False, user=False, long_view_tokens=0, profile=False, default_history=False)

REWARD = RewardConfig(hidden_size=8, attention_heads=2, tower_size=8, epochs=1)


def views_of(market, run):
    return SessionViews(market, SidIndex.load(run.sids / SID_INDEX_NAME), PLAIN)


def without_answers(market, session):
    """The market in which nothing was clicked, bought or shown in a session, nor in any later one."""
    table = market.sessions.data.table
    time = table.column("time")[session].as_py()
    gone = [later >= time for later in table.column("time").to_pylist()]
    for name in ("clicked", "purchased", "impressed"):
        column = [[] if lost else value for lost, value in zip(gone, table.column(name).to_pylist())]
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(column, table.schema.field(name).type))
    return Market(market.items, market.users, as_dataset(table), market.relevance, dict(market.info))


@pytest.fixture(scope="module")
def late(market):
    """A training request with a long history, a purchase, and requests after it."""
    rows = request_rows(market, "train")
    bought = market.sessions.data.column("purchased").to_pylist()
    logs = SessionViewsLogs(market)
    able = [row for row in rows[: int(len(rows) * 0.9)] if bought[row] and logs.length(row) >= 4]
    return np.array([able[-1]])


class SessionViewsLogs:
    """Lengths of histories."""

    def __init__(self, market):
        from onesearch.data.user_logs import UserLogs

        self.touched = UserLogs(market).touched

    def length(self, row):
        return self.touched.end[row] - self.touched.begin[row]


@pytest.fixture(scope="module")
def reward(market, shared_run):
    return RewardTeacher.of_run(
        shared_run, views_of(market, shared_run), SoftTargetConfig(reward=REWARD, items=20, text_candidates=60)
    )


def test_the_reward_teacher_sees_nothing_of_the_request_s_answer_or_later(market, shared_run, reward, late):
    """With the weights and candidates that it has, its list stays the same where the session and all later ones are emptied."""
    from onesearch.data.requests import training_market
    from onesearch.data.user_logs import UserLogs
    from onesearch.tokenization_sid.embedding.embeddings import distinct_queries, load_embeddings
    from onesearch.tokenization_sid.embedding.text_encoder import unit_rows
    from onesearch.views.reward.inputs import RewardInputs
    from onesearch.views.reward.memory import BehaviourMemory
    from onesearch.views.reward.session_columns import SessionColumns

    emptied = without_answers(market, late[0])
    past = training_market(emptied)
    table = reward.inputs.table
    memory = BehaviourMemory.of(past, UserLogs(past), table.facets.leaf)
    vectors = unit_rows(load_embeddings(shared_run, "queries"))
    columns = SessionColumns(emptied, UserLogs(emptied), memory, distinct_queries(market), vectors)
    other = RewardTeacher(reward.model, RewardInputs(table, memory), columns, None, reward.wanted, reward.config)
    found, without = reward(late, late), other(late, late)
    assert found.items.tolist() == without.items.tolist()
    np.testing.assert_allclose(found.scores, without.scores, rtol=1e-5)
    assert len(set(found.items[0].tolist())) == 20 and (np.diff(found.scores[0]) <= 0).all()


def test_the_items_of_a_session_are_candidates_of_its_own_request_alone(market, reward):
    rows = request_rows(market, "train")
    few = RewardTeacher(
        reward.model, reward.inputs, reward.columns, None, reward.wanted, replace(reward.config, text_candidates=1)
    )
    own = few(rows, rows)
    for row, items in zip(rows, own.items):
        assert set(reward.wanted[row].tolist()) <= set(items.tolist())
        assert len(set(items[items >= 0])) == (items >= 0).sum()
    others = few(rows, np.roll(rows, 1))
    assert (others.items >= 0).sum() <= len(rows) + sum(len(reward.wanted[row]) for row in rows[rows == np.roll(rows, 1)])


def test_the_reward_teacher_answers_the_query_that_is_asked(market, reward, late):
    """Another session's query has other items close to it; the user stays."""
    queries = market.sessions.data.column("query").to_pylist()
    other = next(row for row in request_rows(market, "train") if queries[row] != queries[late[0]])
    asked = reward(late, np.array([other]))
    assert asked.items.tolist() != reward(late, late).items.tolist()
    near = reward._candidates(
        np.array([other]), np.array([other]), reward.columns.of(np.array([other]), np.zeros((1, 0))).query_vectors
    )
    assert set(asked.items[0].tolist()) <= set(near[0].tolist())


def earlier_votes(market, logs, session):
    """Votes of the latest items of a session's history for all items, over training sessions strictly before it."""
    times = np.array(market.sessions.data.column("time"))
    sessions, items = logs.own("clicked", "purchased")
    earlier = (times < times[session]) & np.isin(np.arange(len(times)), request_rows(market, "train"))
    votes, departures = defaultdict(float), defaultdict(float)
    for own, item in zip(sessions.tolist(), items.tolist()):
        history = logs.touched.values[logs.touched.begin[own] : logs.touched.end[own]].tolist() if earlier[own] else []
        for gap, before in enumerate(reversed(history[-WINDOW:])):
            for pair in ((before, item), (item, before)) if before != item else ():
                votes[pair] += DECAY**gap
                departures[pair[0]] += DECAY**gap
    expected = defaultdict(float)
    for age, item in enumerate(
        reversed(logs.touched.values[logs.touched.begin[session] : logs.touched.end[session]].tolist()[-WINDOW:])
    ):
        for (start, end), value in votes.items():
            expected[end] += (start == item) * value * DECAY**age / np.sqrt(departures[start])
    return {item: value for item, value in expected.items() if value}


def test_transitions_are_earlier_votes_alone(market, shared_run, late):
    """The votes counted one by one, over sessions strictly before the request's."""
    views = views_of(market, shared_run)
    expected = earlier_votes(market, views.logs, int(late[0]))
    found = TransitionTeacher.of(views, 15)(late, late)
    there = found.items[0] >= 0
    assert there.any()
    for item, score in zip(found.items[0][there].tolist(), found.scores[0][there].tolist()):
        assert np.exp(score) == pytest.approx(expected[item], rel=1e-3)
    assert np.exp(found.scores[0][there]).min() >= sorted(expected.values(), reverse=True)[: there.sum()][-1] * (1 - 1e-3)


def test_sasrec_scores_users_that_it_was_not_trained_on(market, shared_run, monkeypatch, late):
    """Two folds: each network is trained on the interactions of the other users alone."""
    from onesearch.evaluation.baselines import sasrec_training
    from onesearch.evaluation.baselines.training import read_training_log

    seen, original = [], sasrec_training.train_sasrec

    def noted(log, config):
        seen.append(log)
        return original(log, type(config)(epochs=1, hidden_size=8, layers=1))

    monkeypatch.setattr(sasrec_training, "train_sasrec", noted)
    views = views_of(market, shared_run)
    teacher = SASRecTeacher.of(views, SoftTargetConfig(teacher="sasrec", items=7))
    whole = read_training_log(market)
    assert sum(len(log.rows) for log in seen) == len(whole.rows)  # with two folds each interaction trains one network
    first = teacher.fold[late[0]]
    user = market.sessions.data.column("user_id")[int(late[0])].as_py()
    own = [row for row, name in enumerate(market.sessions.data.column("user_id").to_pylist()) if name == user]
    assert {teacher.fold[row] for row in own} == {first}
    history = [
        int(item) for item in views.logs.touched.values[views.logs.touched.begin[late[0]] : views.logs.touched.end[late[0]]]
    ]
    lengths = [np.bincount(log.users).tolist() for log in seen]
    runs = [np.split(log.rows, np.cumsum(count)[:-1]) for log, count in zip(seen, lengths)]
    assert not any(part[: len(history)].tolist() == history for part in runs[first])
    assert any(part[: len(history)].tolist() == history for part in runs[1 - first])
    found = teacher(late, late)
    assert found.items.shape == (1, 7) and (np.diff(found.scores[0]) <= 0).all()
