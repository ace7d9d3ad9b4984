"""The projection of a prompt's states that is added to the query's text vector, and its training."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from onesearch.tokenization_sid.embedding.text_encoder import unit_rows

from .dense_config import DenseConfig

logger = logging.getLogger(__name__)

HELD_OUT = 0.1
"""Share of the examples that decide whether the projection helps; our choice."""

FEWEST = 20
"""Number of examples below which no projection is trained."""


@dataclass(frozen=True, eq=False)
class DenseExamples:
    """Prompts and their items.

    Args:
        queries: text vectors of the queries, float32 ``(examples, size)``.
        states: mean states of the prompts, float32 ``(examples, width)``.
        targets: row of the wanted item, int64 ``(examples,)``.
        negatives: rows of items of the beams, -1 for padding and for wanted items, int64 ``(examples, negatives)``.
    """

    queries: np.ndarray
    states: np.ndarray
    targets: np.ndarray
    negatives: np.ndarray

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.targets)

    def take(self, rows: np.ndarray) -> DenseExamples:
        """The examples of some rows."""
        return DenseExamples(self.queries[rows], self.states[rows], self.targets[rows], self.negatives[rows])


def train_projection(examples: DenseExamples, items: np.ndarray, config: DenseConfig) -> np.ndarray | None:
    """Learn a projection of the states with in-batch and beam negatives.

    It starts at zero, so that h begins as the query's text vector. A tenth of the examples is held out, and decides after every epoch:
    the best projection is returned, or None if none is better than zero.

    Args:
        examples: prompts and their items.
        items: unit vectors of the items, float32 ``(items, size)``.
        config: settings of the training.

    Returns:
        float32 ``(size, width)``, or None.
    """
    if not config.epochs or len(examples) < FEWEST:
        return None
    random = np.random.default_rng(config.seed)
    order = random.permutation(len(examples))
    count = max(round(HELD_OUT * len(examples)), 1)
    held_out, learned = examples.take(order[:count]), examples.take(order[count:])
    vectors = torch.from_numpy(items)
    weight = torch.zeros(items.shape[1], examples.states.shape[1], requires_grad=True)
    optimiser = torch.optim.AdamW([weight], lr=config.learning_rate)

    def measured() -> float:
        with torch.no_grad():
            return float(contrast(held_out, vectors, weight, config.temperature))

    first = lowest = measured()
    best: np.ndarray | None = None
    for _ in range(config.epochs):
        rows = random.permutation(len(learned))
        for start in range(0, len(rows), config.batch_size):
            batch = learned.take(rows[start : start + config.batch_size])
            optimiser.zero_grad()
            contrast(batch, vectors, weight, config.temperature).backward()
            optimiser.step()
        loss = measured()
        if loss < lowest:
            lowest, best = loss, weight.detach().numpy().copy()
    logger.info("dense term: loss of held-out examples %.4f without a projection, %.4f with the best one", first, lowest)
    return best


def contrast(examples: DenseExamples, items: torch.Tensor, weight: torch.Tensor, temperature: float) -> torch.Tensor:
    """Mean of -log softmax of cos(h, e) / τ of the wanted item among those of the batch and of the example's beams.

    Args:
        examples: a batch.
        items: unit vectors of all items, ``(items, size)``.
        weight: projection ``(size, width)``.
        temperature: τ.
    """
    states = torch.from_numpy(unit_rows(examples.states))
    h = F.normalize(torch.from_numpy(examples.queries) + states @ weight.T, dim=1)  # (batch, size)
    targets = torch.from_numpy(examples.targets)
    in_batch = h @ items[targets].T  # (batch, batch)
    same = (targets[:, None] == targets) & ~torch.eye(len(targets), dtype=torch.bool)
    in_batch = in_batch.masked_fill(same, -torch.inf)
    others = torch.from_numpy(examples.negatives)
    of_beams = torch.einsum("bd,bnd->bn", h, items[others.clamp(min=0)]).masked_fill(others < 0, -torch.inf)
    logits = torch.cat([in_batch, of_beams], dim=1) / temperature
    return F.cross_entropy(logits, torch.arange(len(targets)))


__all__ = ["DenseExamples", "contrast", "train_projection"]
