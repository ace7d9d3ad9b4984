"""Checks by name of all that this package relies on inside TRL. A release that moves a hook gives a clear error, not a wrong loss."""

from __future__ import annotations

import inspect

import trl
from trl import SFTTrainer

HOOKS = {
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

METRICS = ("self._metrics[mode]", "self._total_train_tokens")
"""Where TRL's `compute_loss` collects the metrics that its `log` averages."""


def check_trl() -> None:
    """Raise ImportError if the installed TRL lacks a hook that this package overrides."""
    problems = []
    for name, parameters in HOOKS.items():
        method = getattr(SFTTrainer, name, None)
        found = list(inspect.signature(method).parameters) if method is not None else None
        if found != parameters:
            problems.append(f"SFTTrainer.{name}{tuple(found) if found else ' is gone'}, expected {tuple(parameters)}")
    source = inspect.getsource(SFTTrainer.compute_loss)
    problems += [f"SFTTrainer.compute_loss no longer collects {name}" for name in METRICS if name not in source]
    if problems:
        raise ImportError(
            f"TRL {trl.__version__} changed what onesearch relies on; install trl>=1.16,<1.17. " + "; ".join(problems)
        )
