"""SASRec: the next item of a history by self-attention over item ids. It reads no query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from onesearch.data.market import Market
from onesearch.data.requests import Request

from ..retrievers import Ranking
from .training import TrainingLog, best_rows, make_ranking, read_training_log

if TYPE_CHECKING:
    import torch

    from .sasrec_model import SASRecModel

MAX_PARAMETERS = 4_000_000
"""Largest number of parameters; on a larger catalogue the embeddings become smaller (our choice)."""

_BATCH = 256
"""Histories that are scored at a time."""


@dataclass(frozen=True, slots=True)
class SASRecConfig:
    """Sizes and training of `SASRecRetriever`.

    Block, loss and sizes follow later practice where it is stronger than the paper of 2018: the softmax over the catalogue replaces
    its binary cross-entropy with one negative (Klenitskiy & Vasilev, arXiv 2309.07602). All values are our choice.

    Args:
        hidden_size: size of the item embeddings; it is lowered where the model would have more than `MAX_PARAMETERS` parameters.
        layers: number of blocks.
        heads: number of attention heads.
        dropout: share of values dropped in training; raise it for small logs.
        max_length: number of latest items that are read. Longer training histories are cut into pieces of this length.
        epochs: largest number of passes over the training histories.
        patience: training stops after this many epochs without a better NDCG@10 on the held-out items; the best epoch is kept.
        held_out: share of the users whose last training item is held out for that; 0 trains for all `epochs`.
        batch_items: number of items in a batch, which holds as many histories as they fill.
        learning_rate: peak rate of AdamW; it falls linearly to a tenth over `epochs`.
        full_softmax: largest catalogue whose softmax is taken over all items; above it `negatives` items are drawn for each batch.
        negatives: number of items that are drawn.
        seed: seeds the weights, the order of the histories, the held-out users and the negatives.

    Raises:
        ValueError: a value is out of range.
    """

    hidden_size: int = 64
    layers: int = 2
    heads: int = 2
    dropout: float = 0.3
    max_length: int = 50
    epochs: int = 16
    patience: int = 4
    held_out: float = 0.1
    batch_items: int = 512
    learning_rate: float = 2e-3
    full_softmax: int = 20_000
    negatives: int = 2048
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("hidden_size", "layers", "heads", "epochs", "patience", "batch_items", "negatives"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.max_length < 2:
            raise ValueError(f"max_length={self.max_length} must be at least 2: an item and the one after it")
        if self.hidden_size % self.heads:
            raise ValueError(f"hidden_size={self.hidden_size} must be a multiple of heads={self.heads}")
        if not 0 <= self.dropout < 1 or not 0 <= self.held_out < 1:
            raise ValueError(f"dropout={self.dropout} and held_out={self.held_out} must be at least 0 and below 1")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate={self.learning_rate} must be above 0")


class SASRecRetriever:
    """Ranks the whole catalogue by SASRec (Kang & McAuley, ICDM 2018), trained on the histories of the training split.

    * The model reads the items clicked and bought before a request, and neither the query nor the request's own events.
    * Users without a known item in their history get the popular items.
    * Items of the history are left out where repeated interactions are rare, as in `CascadeRetriever`.

    Args:
        market: catalogue and sessions; only the training split is read.
        log: counts of the training split; computed if absent.
        config: sizes and training; None takes the defaults.

    Attributes:
        epochs: number of epochs after which the kept weights were reached; 0 without any training history of two items.
    """

    name = "sasrec"

    def __init__(self, market: Market, *, log: TrainingLog | None = None, config: SASRecConfig | None = None) -> None:
        from .sasrec_training import train_sasrec

        self.log = log or read_training_log(market)
        self.item_ids = self.log.item_ids
        self.config = config or SASRecConfig()
        counts = self.log.purchases + self.log.clicks + 1
        self._popular = np.log(counts / counts.sum()).astype(np.float32)
        self._exclude_history = self.log.repeats_are_rare()
        self._model: SASRecModel
        self._model, self.epochs = train_sasrec(self.log, self.config)

    def retrieve(self, requests: Sequence[Request], top_k: int) -> list[Ranking]:
        """Rank all items by the probability that they come next. Items with equal scores stay in catalogue order."""
        rankings = []
        for start in range(0, len(requests), _BATCH):
            histories = [self._rows(request.history) for request in requests[start : start + _BATCH]]
            for history, scores in zip(histories, self._log_probabilities(histories)):
                if self._exclude_history:
                    scores[history] = -np.inf
                best = best_rows(scores, top_k)
                best = best[np.isfinite(scores[best])]
                rankings.append(make_ranking(self.item_ids, best, scores[best]))
        return rankings

    def score(self, histories: Sequence[Sequence[str]], candidates: np.ndarray) -> np.ndarray:
        """Log-probability that each candidate comes next.

        Args:
            histories: item ids of each history, from old to new; ids outside the catalogue are skipped.
            candidates: rows of the items table, -1 for padding, int64 ``(histories, candidates)``.

        Returns:
            float32 ``(histories, candidates)``. Without a known item in the history: the logarithm of the item's share of the training
            clicks and purchases. 0 for padding.
        """
        scores = np.zeros(candidates.shape, dtype=np.float32)
        for start in range(0, len(histories), _BATCH):
            part = slice(start, start + _BATCH)
            found = self._log_probabilities([self._rows(history) for history in histories[part]])
            scores[part] = np.take_along_axis(found, np.maximum(candidates[part], 0), axis=1)
        return np.where(candidates < 0, np.float32(0), scores)

    def _rows(self, history: Sequence[str]) -> list[int]:
        return [self.log.row_of[item] for item in history if item in self.log.row_of]

    def _log_probabilities(self, histories: Sequence[list[int]]) -> np.ndarray:
        """Log-probabilities of all items after some histories, float32 ``(histories, items)``."""
        scores = np.repeat(self._popular[None], len(histories), axis=0)
        warm = [place for place, history in enumerate(histories) if history and self.epochs]
        if warm:
            scores[warm] = next_items(self._model, [histories[place] for place in warm], self.config.max_length).numpy()
        return scores


def next_items(model: SASRecModel, histories: Sequence[Sequence[int]], max_length: int) -> torch.Tensor:
    """Log-probabilities of the next item.

    Args:
        model: the network, in evaluation mode.
        histories: item rows of each history, from old to new, at least one each.
        max_length: number of latest items that are read.

    Returns:
        float32 ``(histories, items)``.
    """
    import torch

    from .sasrec_training import padded

    latest = [history[-max_length:] for history in histories]
    last = torch.tensor([len(history) - 1 for history in latest])
    with torch.inference_mode():
        states = model(padded(latest))[torch.arange(len(latest)), last]
        return model.logits(states).log_softmax(dim=1)


__all__ = ["MAX_PARAMETERS", "SASRecConfig", "SASRecRetriever", "next_items"]
