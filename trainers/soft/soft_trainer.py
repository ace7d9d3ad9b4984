"""Supervised fine-tuning with soft targets beside the observed ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from ..lora import base_of
from ..sft.data.collators import LongViewLookup, ViewLookup
from ..sft.sft_config import SidSFTConfig
from ..sft.sft_trainer import COLUMNS, SidSFTTrainer
from .lists import TeacherLists
from .soft_collator import SoftCollator
from .soft_config import SoftTargetConfig
from .soft_objective import SoftObjective


class SidSoftTrainer(SidSFTTrainer):
    """[`SidSFTTrainer`] whose examples may have a teacher's list beside their target.

    Args:
        args: a [`SidSFTConfig`].
        train_dataset: also has the column `request`, number of each example's list, -1 without one; or `teacher_items` and
            `teacher_scores`, the list itself, empty without one; or all of them.
        soft_targets: share of the teacher, temperature and number of paths.
        lists: the teacher's lists that `request` names; None where examples hold their own.
        item_sids: (items, levels) codes of the items that the lists name, counted from 0 within each level.

    Raises:
        ValueError: the columns of the lists are missing, the model has fewer positions than the further paths have codes, or as in
            [`SidSFTTrainer`].
    """

    _tag_names = ["onesearch", "sft", "soft-targets"]
    _name = "OneSearch SFT with soft targets"
    _columns = (*COLUMNS, "request", "teacher_items", "teacher_scores")

    def __init__(
        self,
        model: PreTrainedModel,
        args: SidSFTConfig,
        train_dataset: Any,
        soft_targets: SoftTargetConfig,
        lists: TeacherLists | None,
        item_sids: np.ndarray,
        **kwargs: Any,
    ) -> None:
        names = train_dataset.column_names or []
        if "teacher_items" not in names and (lists is None or "request" not in names):
            needed = "request, and lists" if lists is None else "request"
            raise ValueError(
                f"the train dataset has columns {names}; soft targets need {needed}, or teacher_items and teacher_scores"
            )
        config, needed = base_of(model).config, soft_targets.paths * np.shape(item_sids)[1]
        if config.is_encoder_decoder and needed > config.max_position_embeddings:
            raise ValueError(
                f"soft_targets.paths={soft_targets.paths} need {needed} positions, and the model has {config.max_position_embeddings}; "
                "draw fewer paths"
            )
        self._soft = SoftObjective(soft_targets.weight, soft_targets.paths, args.sid_smoothing)
        self._objective = self._soft
        self._lists = lists, np.ascontiguousarray(item_sids, dtype=np.int64), soft_targets.temperature
        super().__init__(model=model, args=args, train_dataset=train_dataset, **kwargs)

    def _collator(self, model: PreTrainedModel, long_view: LongViewLookup | None, history: ViewLookup | None) -> Any:
        return SoftCollator(super()._collator(model, long_view, history), *self._lists)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """As in [`SidSFTTrainer`]; also logs `soft_kl`, the mean divergence from the teacher per target with a list."""
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        self._log_terms(self._soft.terms)
        return loss


__all__ = ["SidSoftTrainer"]
