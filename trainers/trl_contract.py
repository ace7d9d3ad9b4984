"""Checks by name of all that this package relies on inside TRL. A release that moves a hook gives a clear error, not a wrong loss."""

from __future__ import annotations

import inspect

import trl
from trl import DPOTrainer, GRPOTrainer, SFTTrainer

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
    "_load_from_checkpoint": ["self", "resume_from_checkpoint", "model"],
    "_load_best_model": ["self"],
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

GRPO_HOOKS = {
    "_prepare_inputs": ["self", "generation_batch"],
    "_generate_and_score_completions": ["self", "inputs"],
    "_get_train_sampler": ["self", "dataset"],
    "_compute_loss": ["self", "model", "inputs"],
    "_save_checkpoint": ["self", "model", "trial"],
    "_save_rng_state": ["self", "output_dir"],
    "_save": ["self", "output_dir", "state_dict"],
    "evaluation_loop": ["self", "dataloader", "description", "prediction_loss_only", "ignore_keys", "metric_key_prefix"],
}
"""Methods of GRPOTrainer that are overridden or called, with their parameters."""

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

GRPO_LOSS = (
    "self._get_per_token_logps_and_entropies(",
    'inputs["completion_mask"]',
    'inputs["advantages"]',
    "advantages.dim() == 1",
    'inputs.get("old_per_token_logps")',
    'inputs["ref_per_token_logps"]',
    'inputs["num_items_in_batch"]',
    "self._metrics[mode]",
)
"""What TRL's group-relative loss reads of the scored rollouts."""

PARTS: dict[type, tuple[dict[str, list[str]], str, tuple[str, ...]]] = {
    SFTTrainer: (SFT_HOOKS, "compute_loss", SFT_LOSS),
    DPOTrainer: (DPO_HOOKS, "_compute_loss", DPO_LOSS),
    GRPOTrainer: (GRPO_HOOKS, "_compute_loss", GRPO_LOSS),
}
"""Hooks, method of the loss, and what is relied on in it, of each trainer."""


def check_trl(trainer: type = SFTTrainer) -> None:
    """Raise ImportError if the installed TRL lacks a hook that this package overrides.

    Args:
        trainer: class of TRL that is built on.
    """
    hooks, loss, reads = PARTS[trainer]
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
