"""Averages of the weights over the steps of a training: exponential (EMA), or equal (SWA, Izmailov et al. 2018, arXiv 1803.05407).

Late weights circle around a good place while the learning rate is not yet small; their average lies closer to it. The formulas are those of
`torch.optim.swa_utils`; its `AveragedModel` would copy the whole model, the catalogue included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from .sft_config import SidSFTConfig

AVERAGE_NAME = "average.safetensors"
"""File with the average in a trainer's checkpoint, beside the weights of its step."""

STEPS = "steps"
"""Entry of the file: number of steps that were averaged."""


class WeightAverage(TrainerCallback):
    """The average of the trained weights of a model.

    Args:
        model: the model, not wrapped for distribution. All its processes have the same weights, and average them alike.
        args: `weight_average`, `ema_decay` and `average_from`.
    """

    def __init__(self, model: nn.Module, args: SidSFTConfig) -> None:
        self.args = args
        self.trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.average: dict[str, torch.Tensor] = {}
        self.steps = 0

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add the weights of an optimiser step, if averaging has begun."""
        if state.global_step > self.args.average_from * state.max_steps:
            self.add()

    @torch.no_grad()
    def add(self) -> None:
        """Add the weights as they are now."""
        if not self.average:
            self.average = {name: weight.detach().clone() for name, weight in self.trained.items()}
        else:
            weights = list(self.trained.values())
            self._formula()(list(self.average.values()), weights, torch.tensor(self.steps))
        self.steps += 1

    def _formula(self) -> Any:
        """The update of torch: of a list of averages, from a list of weights and the number of steps before."""
        if self.args.weight_average == "swa":
            return get_swa_multi_avg_fn()
        return get_ema_multi_avg_fn(min(self.args.ema_decay, (1 + self.steps) / (10 + self.steps)))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the model has the average for its weights, if there is one yet."""
        own = {name: weight.detach().clone() for name, weight in self.trained.items()} if self.average else {}
        self.take_over()
        try:
            yield
        finally:
            self._set(own)

    def take_over(self) -> None:
        """Give the model the average for its weights, if there is one yet."""
        self._set(self.average)

    @torch.no_grad()
    def _set(self, weights: dict[str, torch.Tensor]) -> None:
        for name, weight in weights.items():
            self.trained[name].copy_(weight)

    def save(self, folder: str | Path) -> None:
        """Write the average into a checkpoint; before averaging has begun the file says so."""
        tensors = {name: weight.contiguous() for name, weight in self.average.items()}
        save_file({**tensors, STEPS: torch.tensor(self.steps)}, str(Path(folder) / AVERAGE_NAME))

    def load(self, folder: str | Path) -> None:
        """Go on from the average in a checkpoint.

        Raises:
            ValueError: the checkpoint has none, or that of another model.
        """
        path = Path(folder) / AVERAGE_NAME
        if not path.is_file():
            raise ValueError(
                f"{folder} holds no average of the weights ({AVERAGE_NAME}): it was made without weight_average. Train without resuming, "
                "or leave weight_average out"
            )
        found = load_file(str(path))
        self.steps = int(found.pop(STEPS))
        self._check_names(path, found)
        self.average = {name: found[name].to(weight.device) for name, weight in self.trained.items()} if found else {}

    def _check_names(self, path: Path, found: dict[str, torch.Tensor]) -> None:
        lacking: Sequence[str] = [name for name in self.trained if name not in found] if found else ()
        if lacking:
            raise ValueError(f"{path} lacks {lacking[0]}, a weight that is trained: it belongs to another model")


__all__ = ["AVERAGE_NAME", "WeightAverage"]
