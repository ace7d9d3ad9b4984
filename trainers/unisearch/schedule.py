"""Phases of the joint training, and the steps at which the Semantic IDs change."""

from __future__ import annotations

from typing import NamedTuple

from .unisearch_config import UniSearchTrainingConfig

CONTRAST, JOINT, GENERATOR = "contrast", "joint", "generator"
"""Phases: the contrast alone; everything; the generator alone on fixed Semantic IDs."""


class Schedule(NamedTuple):
    """Steps of a training, counted from 0 as finished optimiser steps.

    Args:
        total: number of steps.
        start: steps after which the codebooks start and the token loss joins.
        freeze: steps after which item encoder and quantizer stay; `total` if they never do.
        hard: steps after which hard negatives join.
        every: steps between two refreshes of the Semantic IDs.
    """

    total: int
    start: int
    freeze: int
    hard: int
    every: int

    @classmethod
    def of(cls, config: UniSearchTrainingConfig, total: int, per_epoch: int) -> Schedule:
        """Schedule of a training of `total` steps, with `per_epoch` of them in an epoch."""
        freeze = round(config.freeze * total)
        start = freeze if config.two_stage else min(round(config.warm_up * total), freeze)
        return cls(total, start, freeze, round(config.negatives.start * total), config.refresh_steps or max(per_epoch, 1))

    def phase(self, step: int) -> str:
        """Phase of the step that follows `step` finished ones."""
        if step < self.start:
            return CONTRAST
        return JOINT if step < self.freeze else GENERATOR

    def refreshes(self, step: int) -> bool:
        """Whether the catalogue is encoded again after `step` finished steps."""
        if step in (self.start, self.freeze):
            return True
        return 0 < step < self.freeze and step % self.every == 0


__all__ = ["CONTRAST", "GENERATOR", "JOINT", "Schedule"]
