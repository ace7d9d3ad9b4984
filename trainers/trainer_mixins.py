"""Parts of every trainer beside its loss: retrieval metrics at every evaluation, checkpoints that survive a kill, its own precision, fast
linear layers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list
from torch import nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput, TrainOutput

from .checkpoints import is_complete, last_complete_checkpoint, mark_incomplete
from .linear_layers import fast_linear_layers
from .lora import save_search_files

if TYPE_CHECKING:
    from transformers import Trainer as _Base
else:
    _Base = object

RetrievalMetrics = Callable[[Any], dict[str, float]]
"""Measures a model, for instance HR@10 on validation requests; see `onesearch.trainers.validation`."""


class RetrievalMetricsMixin(_Base):
    """Measures the model at every evaluation. Stands before TRL's trainer among the parents."""

    retrieval_metrics: RetrievalMetrics | None = None

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """As in transformers; also computes the retrieval metrics, in the main process, which sends them to all."""
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        if self.retrieval_metrics is None:
            return output
        found = [self._retrieval(self.retrieval_metrics) if self.accelerator.is_main_process else {}]
        named = {f"{metric_key_prefix}_{name}": value for name, value in broadcast_object_list(found)[0].items()}
        return output._replace(metrics={**(output.metrics or {}), **named})

    @torch.no_grad()
    def _retrieval(self, retrieval_metrics: RetrievalMetrics) -> dict[str, float]:
        """Retrieval metrics of the model in evaluation mode."""
        model = self.accelerator.unwrap_model(self.model)
        was_training = model.training
        model.eval()
        metrics = retrieval_metrics(model)
        model.train(was_training)
        return metrics


class OwnAcceleratorMixin(_Base):
    """Trains in its own precision, whatever was trained before. Stands before the trainer among the parents.

    Accelerate keeps the precision of a process's first training until new arguments are made. A generator whose arguments were made before
    its teacher was trained, in bfloat16 on a GPU and in float32, was refused.
    """

    def create_accelerator_and_postprocess(self) -> None:
        """As in transformers."""
        AcceleratorState._reset_state()
        super().create_accelerator_and_postprocess()


class FastLinearLayersMixin(_Base):
    """Trains with `fast_linear_layers`. Stands before the trainer among the parents."""

    @fast_linear_layers()
    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """As in transformers."""
        return super().train(*args, **kwargs)


class CompleteCheckpointsMixin(OwnAcceleratorMixin, FastLinearLayersMixin):
    """A checkpoint that a kill left half-written is skipped. Stands before the trainer among the parents."""

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """As in transformers; True resumes from the last complete checkpoint in `output_dir`, or starts anew without one.

        Raises:
            ValueError: the named checkpoint is half-written.
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint = last_complete_checkpoint(str(self.args.output_dir))
        elif resume_from_checkpoint and os.path.isdir(resume_from_checkpoint) and not is_complete(Path(resume_from_checkpoint)):
            raise ValueError(
                f"{resume_from_checkpoint} is half-written; pass resume_from_checkpoint=True to go on from the last complete checkpoint"
            )
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial=trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.is_world_process_zero():
            mark_incomplete(folder)
        super()._save_checkpoint(model, trial)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """As in transformers, but a tied weight, which is saved under one of its names, is not missing under the others."""
        tied = self.accelerator.unwrap_model(self.model).all_tied_weights_keys
        super()._issue_warnings_after_load(
            load_result._replace(missing_keys=[name for name in load_result.missing_keys if name not in tied])
        )

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()  # the main process writes the trainer's state next, which marks the checkpoint as complete


class SidCheckpointsMixin(CompleteCheckpointsMixin):
    """The same, and checkpoints hold item index and search settings beside the weights, those of an adapter too."""

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            save_search_files(cast(PreTrainedModel, self.model), str(output_dir or self.args.output_dir))


__all__ = [
    "CompleteCheckpointsMixin",
    "FastLinearLayersMixin",
    "OwnAcceleratorMixin",
    "RetrievalMetrics",
    "RetrievalMetricsMixin",
    "SidCheckpointsMixin",
]
