"""What this package relies on inside TRL, checked by name: a release that moves a hook fails with a clear error, not with a wrong loss."""

from __future__ import annotations

import inspect

import trl
from trl import SFTTrainer
from trl.trainer import utils

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

OUTPUT_FIELDS = {"loss", "log_probs", "entropy", "is_top1", "label_mask"}
"""Fields of FusedCausalLMOutput that TRL's `compute_loss` reads."""


def check_trl() -> None:
    """Raise ImportError if TRL's hooks are not the ones this package overrides."""
    problems = []
    for name, parameters in HOOKS.items():
        method = getattr(SFTTrainer, name, None)
        found = list(inspect.signature(method).parameters) if method is not None else None
        if found != parameters:
            problems.append(f"SFTTrainer.{name}{tuple(found) if found else ' is gone'}, expected {tuple(parameters)}")
    output = getattr(utils, "FusedCausalLMOutput", None)
    missing = OUTPUT_FIELDS - set(getattr(output, "__dataclass_fields__", {}))
    if missing or not hasattr(utils, "add_fused_lm_head"):
        problems.append(
            f"trl.trainer.utils.FusedCausalLMOutput lacks {sorted(missing)}" if missing else "add_fused_lm_head is gone"
        )
    if "fused_lm_head=True" not in inspect.getsource(SFTTrainer.compute_loss):
        problems.append("SFTTrainer.compute_loss no longer calls the model with fused_lm_head=True")
    if problems:
        raise ImportError(
            f"TRL {trl.__version__} changed what onesearch relies on; install trl>=1.16,<1.17. " + "; ".join(problems)
        )
