"""Training of SASRec on the histories of the training split."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from .sasrec import MAX_PARAMETERS, SASRecConfig, next_items
from .sasrec_model import PADDING, SASRecModel
from .training import TrainingLog

_CHECKED_USERS = 1000
"""Largest number of users whose last item is held out; our choice."""

_CUTOFF = 10
"""Length of the lists on which an epoch is judged."""


class Trained(NamedTuple):
    """A trained network, in evaluation mode, and the number of epochs after which its weights were reached."""

    model: SASRecModel
    epochs: int


class Histories(NamedTuple):
    """Training histories as item rows, from old to new.

    Attributes:
        pieces: what is trained on: at most ``max_length + 1`` items each, of which the first is only read.
        checked: histories whose last item is held out.
    """

    pieces: list[np.ndarray]
    checked: list[np.ndarray]


def train_sasrec(log: TrainingLog, config: SASRecConfig) -> Trained:
    """Train a network. The same log and config give the same weights; the state of torch's random numbers stays as it was.

    Args:
        log: histories of the training split.
        config: sizes and training.
    """
    histories = cut_histories(log, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = SASRecModel(
            len(log.item_ids), _hidden_size(log, config), config.layers, config.heads, config.dropout, config.max_length
        )
        epochs = _train(model, histories, config) if histories.pieces else 0
    return Trained(model.eval(), epochs)


def cut_histories(log: TrainingLog, config: SASRecConfig) -> Histories:
    """Cut the histories into pieces for training, and hold out the last item of some users.

    Args:
        log: histories of the training split.
        config: share of the users and length of a piece.
    """
    ends = np.cumsum(np.bincount(log.users)) if len(log.users) else np.zeros(0, dtype=np.int64)
    whole = [part for part in np.split(log.rows, ends[:-1]) if len(part) > 1]
    able = np.flatnonzero([len(part) > 2 for part in whole])
    rng = np.random.default_rng([config.seed, 15])
    count = min(int(len(able) * config.held_out), _CHECKED_USERS)
    held = set(rng.permutation(able)[:count].tolist())
    pieces = []
    for place, history in enumerate(whole):
        known = history[:-1] if place in held else history
        starts = range(0, len(known) - 1, config.max_length)
        pieces += [known[start : start + config.max_length + 1] for start in starts]
    return Histories(pieces, [whole[place] for place in sorted(held)])


def padded(histories: Sequence[Sequence[int] | np.ndarray]) -> torch.Tensor:
    """Histories as one tensor, `PADDING` on the right, int64 ``(histories, length)``."""
    rows = np.full((len(histories), max(map(len, histories))), PADDING, dtype=np.int64)
    for row, history in zip(rows, histories):
        row[: len(history)] = history
    return torch.from_numpy(rows)


def _hidden_size(log: TrainingLog, config: SASRecConfig) -> int:
    """The configured size, or the largest multiple of the heads with at most `MAX_PARAMETERS` parameters, at least one per head."""
    size = config.hidden_size
    while size > config.heads and _parameters(len(log.item_ids), size, config) > MAX_PARAMETERS:
        size -= config.heads
    return size


def _parameters(items: int, size: int, config: SASRecConfig) -> int:
    """Number of parameters of `SASRecModel`."""
    block = 6 * size * size + 10 * size
    return (items + config.max_length) * size + config.layers * block + 2 * size


def _train(model: SASRecModel, histories: Histories, config: SASRecConfig) -> int:
    """Train until the held-out items get no better, load the best weights, and return the number of their epoch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, config.epochs)
    rng = np.random.default_rng([config.seed, 16])
    best, best_quality, best_epoch = copy.deepcopy(model.state_dict()), -1.0, 0
    for epoch in range(1, config.epochs + 1):
        model.train()
        for batch in _batches(histories.pieces, config.batch_items, rng):
            optimizer.zero_grad()
            model.loss(padded(batch), _negatives(model, config)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        schedule.step()
        quality = _quality(model.eval(), histories.checked, config) if histories.checked else float(epoch)
        if quality > best_quality:
            best, best_quality, best_epoch = copy.deepcopy(model.state_dict()), quality, epoch
        elif epoch - best_epoch >= config.patience:
            break
    model.load_state_dict(best)
    return best_epoch


def _batches(pieces: Sequence[np.ndarray], items: int, rng: np.random.Generator) -> Iterator[list[np.ndarray]]:
    """The pieces in batches of about `items` items, in random order. Pieces of a batch have similar lengths, so padding is rare."""
    lengths = np.array([len(piece) for piece in pieces])
    order = np.lexsort((rng.random(len(pieces)), lengths))
    parts = np.split(order, np.flatnonzero(np.diff(np.cumsum(lengths[order]) // items)) + 1)
    for place in rng.permutation(len(parts)).tolist():
        yield [pieces[row] for row in parts[place].tolist()]


def _negatives(model: SASRecModel, config: SASRecConfig) -> torch.Tensor | None:
    """Uniformly drawn items for a large catalogue, None for one whose softmax is taken over all items."""
    items = len(model.items.weight)
    return torch.randint(items, (config.negatives,)) if items > config.full_softmax else None


def _quality(model: SASRecModel, checked: Sequence[np.ndarray], config: SASRecConfig) -> float:
    """Mean NDCG@10 of the held-out last items over the whole catalogue."""
    total = 0.0
    for start in range(0, len(checked), 256):
        part = checked[start : start + 256]
        scores = next_items(model, [history[:-1].tolist() for history in part], config.max_length)
        targets = torch.tensor([int(history[-1]) for history in part])
        ranks = (scores > scores.gather(1, targets[:, None])).sum(1)
        total += float((1 / torch.log2(ranks[ranks < _CUTOFF] + 2.0)).sum())
    return total / len(checked)


__all__ = ["Histories", "Trained", "cut_histories", "padded", "train_sasrec"]
