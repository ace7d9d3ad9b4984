"""Checks by name of all that this package relies on inside TRL. A release that moves a hook gives a clear error, not a wrong loss."""

from __future__ import annotations

import inspect

import trl
from trl import DPOTrainer, SFTTrainer

SFT_HOOKS = {
    "_prepare_dataset": ["self", "dataset", "processing_class", "args", "packing", "formatting_func", "dataset_name"],
    "_set_signature_columns_if_needed": ["self"],
    "compute_loss": ["self", "model", "inputs", "return_outputs", "num_items_in_batch"],
    "_remove_unused_columns": ["self", "dataset", "description"],
    "_get_train_sampler": ["self", "train_dataset"],
    "_get_eval_sampler": ["self", "eval_dataset"],
    "prediction_step": ["self", "model", "inputs", "prediction_loss_only", "ignore_keys"],
    "get_batch_samples": ["self", "epoch_iterator", "num_batches", "device"],
    "_save_checkpoint": ["self", "model", "trial"],
    "_save_rng_state": ["self", "output_dir"],
    "_save": ["self", "output_dir", "state_dict"],
    "evaluation_loop": ["self", "dataloader", "description", "prediction_loss_only", "ignore_keys", "metric_key_prefix"],
}
"""Methods of SFTTrainer that are overridden or called, with their parameters."""

DPO_HOOKS = {
    "_prepare_dataset": ["self", "dataset", "processing_class", "args", "dataset_name"],
    "_set_signature_columns_if_needed": ["self"],
    "_precompute_ref_logps": ["self", "dataset", "name", "batch_size"],
    "_compute_loss": ["self", "model", "inputs", "return_outputs"],
    "_remove_unused_columns": ["self", "dataset", "description"],
    "_get_train_sampler": ["self", "train_dataset"],
    "_save_checkpoint": ["self", "model", "trial"],
    "_save_rng_state": ["self", "output_dir"],
    "_save": ["self", "output_dir", "state_dict"],
    "evaluation_loop": ["self", "dataloader", "description", "prediction_loss_only", "ignore_keys", "metric_key_prefix"],
}
"""Methods of DPOTrainer that are overridden or called, with their parameters."""

SFT_LOSS = ("self._metrics[mode]", "self._total_train_tokens")
"""Where TRL's `compute_loss` collects the metrics that its `log` averages."""

DPO_LOSS = (
    "self._metrics[mode]",
    "self.precompute_ref_logps",
    'inputs["ref_chosen_logps"]',
    "outputs.log_probs",
    "outputs.entropy",
    "outputs.mean_logits",
    "outputs.is_top1",
)
"""What TRL's pair-wise losses read: they are given log-probabilities in place of a model's outputs."""


def check_trl(trainer: type[SFTTrainer] | type[DPOTrainer] = SFTTrainer) -> None:
    """Raise ImportError if the installed TRL lacks a hook that this package overrides.

    Args:
        trainer: class of TRL that is built on.
    """
    is_dpo = trainer is DPOTrainer
    hooks, loss = (DPO_HOOKS, "_compute_loss") if is_dpo else (SFT_HOOKS, "compute_loss")
    reads: tuple[str, ...] = DPO_LOSS if is_dpo else SFT_LOSS
    problems = []
    for name, parameters in hooks.items():
        method = getattr(trainer, name, None)
        found = list(inspect.signature(method).parameters) if method is not None else None
        if found != parameters:
            problems.append(f"{trainer.__name__}.{name}{tuple(found) if found else ' is gone'}, expected {tuple(parameters)}")
    source = inspect.getsource(getattr(trainer, loss))
    problems += [f"{trainer.__name__}.{loss} no longer uses {name}" for name in reads if name not in source]
    if problems:
        raise ImportError(
            f"TRL {trl.__version__} changed what onesearch relies on; install trl>=1.16,<1.17. " + "; ".join(problems)
        )
