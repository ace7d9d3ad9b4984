"""Teachers over items: the reward model, SASRec, and counts of transitions. Each reads what was known before a session."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from onesearch.data.market import Market
from onesearch.data.requests import SPLITS, split_sessions, training_market
from onesearch.data.user_logs import UserLogs
from onesearch.evaluation.baselines.sasrec import SASRecConfig, next_items
from onesearch.evaluation.baselines.training import read_training_log
from onesearch.files import RunFolder
from onesearch.tokenization_sid.embedding.embeddings import distinct_queries, load_embeddings
from onesearch.tokenization_sid.ragged import Ragged
from onesearch.views.reward.facets import item_facets
from onesearch.views.reward.inputs import UNKNOWN_GAP, RewardInputs
from onesearch.views.reward.memory import DECAY, WINDOW, BehaviourMemory
from onesearch.views.reward.session_columns import SessionColumns, user_numbers
from onesearch.views.session_views import SessionViews, per_session

from ..reward.reward_trainer import NOT_BY_TIME, Vectors, train_reward
from .best_items import BestItems, Teacher
from .soft_config import SoftTargetConfig

if TYPE_CHECKING:
    from onesearch.evaluation.baselines.sasrec_model import SASRecModel
    from onesearch.modeling_onesearch.modeling_reward_onesearch import OneSearchRewardModel

PURCHASE = 2
"""Place of the tower of click and purchase. Its list-wise loss makes its log-odds logarithms of masses over the candidates of a search."""


class RewardTeacher:
    """The reward model: it reads the query, the whole history and its attributes, and the memory as of the time of the session.

    Args:
        model: the trained model, in evaluation mode.
        inputs: makes its tensors.
        columns: what was known before each session.
        transitions: finds further candidates; None takes those that are close to the query's text alone.
        wanted: rows of the items that each session clicked or bought. They are candidates of its own request: a list without them would
            teach that nobody wants them.
        config: numbers of candidates and of items.
    """

    def __init__(
        self,
        model: OneSearchRewardModel,
        inputs: RewardInputs,
        columns: SessionColumns,
        transitions: TransitionTeacher | None,
        wanted: Ragged,
        config: SoftTargetConfig,
    ) -> None:
        self.model, self.inputs, self.columns, self.config = model, inputs, columns, config
        self.transitions, self.wanted = transitions, wanted

    @classmethod
    def of_run(cls, run: RunFolder, views: SessionViews, config: SoftTargetConfig) -> RewardTeacher:
        """Train the reward model on the training split of a run, before there is a generator.

        Raises:
            ValueError: no training search was answered with a click or a purchase.
        """
        market = views.market
        vectors = Vectors(load_embeddings(run, "items"), load_embeddings(run, "queries"), distinct_queries(market))
        reward = replace(config.reward, negatives=replace(config.reward.negatives, beam=0))
        with tempfile.TemporaryDirectory() as scratch:
            trained = train_reward(market, views.item_sids, tuple(views.codebook_sizes), vectors, reward, scratch)
        further = TransitionTeacher.of(views, config.transition_candidates) if config.transition_candidates else None
        wanted = per_session(views.logs.own("clicked", "purchased"), len(market.sessions))
        return cls(trained.model, trained.inputs, trained.columns, further, wanted, config)

    @torch.inference_mode()
    def __call__(self, sessions: np.ndarray, asked: np.ndarray) -> BestItems:
        """See [`Teacher`]. Times of events stay unknown to the model, as at serving."""
        columns = self.columns.of(sessions, np.zeros((len(sessions), 0), dtype=np.int64))
        queries = self.columns.of(asked, columns.candidates)
        candidates = self._candidates(sessions, asked, queries.query_vectors)
        columns = columns._replace(
            candidates=candidates,
            queries=queries.queries,
            query_vectors=queries.query_vectors,
            gaps=np.full_like(columns.gaps, UNKNOWN_GAP),
        )
        logits = self.model(**self.inputs.tensors(columns)).logits[..., PURCHASE].numpy()
        return BestItems.of(candidates, logits, self.config.items)

    def _candidates(self, sessions: np.ndarray, asked: np.ndarray, query_vectors: np.ndarray) -> np.ndarray:
        """Item rows ``(n, candidates)``, each once per request, -1 for padding."""
        vectors = self.inputs.table.vectors
        count = min(self.config.text_candidates, len(vectors))
        found = np.argpartition(-(query_vectors @ vectors.T), count - 1, axis=1)[:, :count]
        if self.transitions is not None:
            found = _joined(found, self.transitions(sessions, asked).items)
        own = self.wanted.take(sessions).padded(-1)
        return _joined(found, np.where((sessions == asked)[:, None], own, -1))


def _joined(items: np.ndarray, further: np.ndarray) -> np.ndarray:
    """Items ``(n, a)`` and those of `further` ``(n, b)`` that are not among them, -1 for padding."""
    known = (further[:, :, None] == items[:, None, :]).any(2)
    return np.concatenate([items, np.where(known, -1, further)], axis=1)


class TransitionTeacher:
    """Votes of the latest items of a history for those that were close to them in earlier histories; it reads no query.

    Counts are those of the reward model's memory, strictly before the session, so that the request's own purchase does not count.

    Args:
        memory: counts with the times of their events.
        columns: histories and times of the sessions.
        most: number of items of a list.
    """

    def __init__(self, memory: BehaviourMemory, columns: SessionColumns, most: int) -> None:
        self.memory, self.columns, self.most = memory, columns, most

    @classmethod
    def of(cls, views: SessionViews, most: int) -> TransitionTeacher:
        """Count the training split of a market."""
        market = views.market
        past, users = training_market(market), None
        if market.info.get("split", {}).get("method") in NOT_BY_TIME:
            users = user_numbers(market)
        training = split_sessions(market) == SPLITS.index("train")
        leaf = item_facets(market.items.data.table).leaf
        memory = BehaviourMemory.of(past, UserLogs(past), leaf, None if users is None else users[training])
        blank = np.zeros((0, 1), dtype=np.float32)
        return cls(memory, SessionColumns(market, views.logs, memory, [], blank, WINDOW, users), most)

    def __call__(self, sessions: np.ndarray, asked: np.ndarray) -> BestItems:
        """See [`Teacher`]; the score is the logarithm of the votes."""
        columns, memory = self.columns.of(sessions, np.zeros((len(sessions), 0), dtype=np.int64)), self.memory
        history = columns.history.tail(WINDOW)
        owner = np.repeat(np.arange(len(sessions)), history.lengths)
        age = history.offsets[1:][owner] - 1 - np.arange(len(history.values))
        edges = np.arange(2)[:, None] + history.values  # the keys of an item's transitions are a run
        begin, end = np.searchsorted(memory.transitions.keys, edges * memory.items)
        places = Ragged.of_spans(np.arange(len(memory.transitions.keys)), begin, end)
        vote = np.repeat(np.arange(len(owner)), places.lengths)
        keys = memory.transitions.keys[places.values]
        times, users = (None if part is None else part[owner] for part in (columns.times, columns.users))
        norm = np.sqrt(memory.departures.before(history.values, times, users)) + 1e-9
        times, users = (None if part is None else part[vote] for part in (times, users))
        votes = memory.transitions.before(keys, times, users) * (DECAY**age / norm)[vote]
        return self._best(owner[vote], keys % memory.items, votes, len(sessions))

    def _best(self, request: np.ndarray, items: np.ndarray, votes: np.ndarray, requests: int) -> BestItems:
        """Sum the votes ``(votes,)`` of each request and item, and keep the best items of each request."""
        pairs, inverse = np.unique(request * self.memory.items + items, return_inverse=True)
        sums = np.bincount(inverse, weights=votes, minlength=len(pairs))
        pairs, sums = pairs[sums > 0], sums[sums > 0]
        owner, rows = np.divmod(pairs, self.memory.items)
        lengths = np.bincount(owner, minlength=requests)
        ends = np.concatenate([[0], np.cumsum(lengths)])
        return BestItems.of(Ragged(rows, ends).padded(-1), Ragged(np.log(sums), ends).padded(0), self.most)


class SASRecTeacher:
    """SASRec, trained on the histories of the training split; it reads no query.

    Args:
        models: one network per fold.
        fold: fold of each session, ``(sessions,)``: its model was trained without the session's user.
        views: histories of the sessions.
        max_length: number of latest items that are read.
        most: number of items of a list.
    """

    def __init__(self, models: list[SASRecModel], fold: np.ndarray, views: SessionViews, max_length: int, most: int) -> None:
        self.models, self.fold, self.views, self.max_length, self.most = models, fold, views, max_length, most

    @classmethod
    def of(cls, views: SessionViews, config: SoftTargetConfig) -> SASRecTeacher:
        """Train the networks, one per fold of the users."""
        from onesearch.evaluation.baselines.sasrec_training import train_sasrec

        sasrec = SASRecConfig(seed=config.seed)
        log = read_training_log(views.market)
        users = user_numbers(views.market)
        drawn = np.random.default_rng([config.seed, 23]).integers(0, config.folds, users.max(initial=0) + 1)
        fold = drawn[users] if config.folds > 1 else np.zeros_like(users)
        owners = _fold_of_log_users(views.market, fold)  # users of the log are numbered by their first training session
        models = []
        for number in range(config.folds):
            kept = np.ones(len(log.users), dtype=bool) if config.folds == 1 else owners[log.users] != number
            _, numbers = np.unique(log.users[kept], return_inverse=True)
            models.append(train_sasrec(replace(log, users=numbers, rows=log.rows[kept]), sasrec).model)
        return cls(models, fold, views, sasrec.max_length, config.items)

    def __call__(self, sessions: np.ndarray, asked: np.ndarray) -> BestItems:
        """See [`Teacher`]; the score is the log-probability that the item comes next. A session without a history has no item."""
        touched = self.views.logs.touched
        histories = Ragged.of_spans(touched.values.astype(np.int64), *touched.last(sessions, self.max_length))
        items = np.full((len(sessions), self.most), -1, dtype=np.int64)
        scores = np.full(items.shape, -np.inf, dtype=np.float32)
        for number, model in enumerate(self.models):
            rows = np.flatnonzero((self.fold[sessions] == number) & (histories.lengths > 0))
            if not len(rows):
                continue
            found = next_items(model, [histories[row].tolist() for row in rows.tolist()], self.max_length)
            best = found.topk(min(self.most, found.shape[1]), dim=1)
            items[rows, : best.indices.shape[1]] = best.indices.numpy()
            scores[rows, : best.indices.shape[1]] = best.values.numpy()
        return BestItems(items, scores)


def _fold_of_log_users(market: Market, fold: np.ndarray) -> np.ndarray:
    """Fold of each user as `TrainingLog` numbers them: by their first training session, ``(users,)``."""
    training = np.flatnonzero(split_sessions(market) == SPLITS.index("train"))
    _, first = np.unique(user_numbers(market)[training], return_index=True)
    return fold[training[np.sort(first)]]


def build_teacher(run: RunFolder, views: SessionViews, config: SoftTargetConfig) -> Teacher:
    """Train or count the teacher of a config; `file` has none."""
    if config.teacher == "reward":
        return RewardTeacher.of_run(run, views, config)
    if config.teacher == "sasrec":
        return SASRecTeacher.of(views, config)
    return TransitionTeacher.of(views, config.items)


__all__ = ["RewardTeacher", "SASRecTeacher", "TransitionTeacher", "build_teacher"]
