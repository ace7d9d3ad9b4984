"""Supervised fine-tuning of encoder-decoders that emit Semantic IDs, on TRL's trainer.

TRL supports causal models only; an encoder-decoder trains there without an error and learns nothing. Three things are replaced: how rows
become `input_ids` and `labels`, how they are batched, and the head, which scores each target over its own softmax. Loss, metrics,
accumulation, distribution, checkpoints and logging stay TRL's and transformers'.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from datasets import Dataset, IterableDataset
from torch.utils.data import Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_pt_utils import get_length_grouped_indices
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTTrainer
from trl.trainer.utils import FusedCausalLMOutput

from onesearch.modeling_onesearch.modeling_onesearch import IGNORED

from .collators import Seq2SeqCollator
from .sft_config import SidSFTConfig
from .trl_contract import check_trl

RetrievalMetrics = Callable[[PreTrainedModel], dict[str, float]]


class SidSFTTrainer(SFTTrainer):
    """TRL's [`~trl.SFTTrainer`] for [`OneSearchForConditionalGeneration`].

    Args:
        model: the model itself; a path would be opened as a causal model by TRL.
        args: settings.
        train_dataset, eval_dataset: columns `input_ids` and `labels`, or `prompt` and `completion` texts.
        processing_class: the model's tokenizer.
        retrieval_metrics: called with the model at every evaluation; what it returns (for instance HR@10 from the evaluator) is logged
            under `eval_` and can select the best checkpoint.
        kwargs: as in TRL.
    """

    _tag_names = ["onesearch", "sft"]
    _name = "OneSearch SFT"

    def __init__(
        self,
        model: PreTrainedModel,
        args: SidSFTConfig,
        train_dataset: Dataset | IterableDataset,
        eval_dataset: Dataset | IterableDataset | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        retrieval_metrics: RetrievalMetrics | None = None,
        **kwargs: Any,
    ):
        check_trl()
        if isinstance(model, str):
            raise TypeError(f"pass a loaded model, not the name {model!r}: TRL would open it as a causal model")
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        config = base.config
        kwargs.setdefault("data_collator", Seq2SeqCollator(config.pad_token_id, config.decoder_start_token_id))
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            **kwargs,
        )
        self.retrieval_metrics = retrieval_metrics
        self.add_callback(_KeepEndOfGeneration(base))
        unwrapped = self.accelerator.unwrap_model(self.model)
        install_sid_head(unwrapped.get_base_model() if hasattr(unwrapped, "get_base_model") else unwrapped)

    def _prepare_dataset(self, dataset, processing_class, args, packing, formatting_func, dataset_name):  # noqa: ANN202 - parent's
        columns = dataset.column_names or list(next(iter(dataset)))
        if {"input_ids", "labels"} <= set(columns):
            return dataset
        if not {"prompt", "completion"} <= set(columns):
            raise ValueError(
                f"the {dataset_name} dataset has columns {columns}; give input_ids and labels, or prompt and completion"
            )

        def tokenize(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
            prompts = processing_class(batch["prompt"]).input_ids
            completions = processing_class(batch["completion"], add_special_tokens=False).input_ids
            return {"input_ids": prompts, "labels": completions, "length": [len(prompt) for prompt in prompts]}

        return dataset.map(tokenize, batched=True, remove_columns=columns)

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["input_ids", "labels", "length"]

    def _get_train_sampler(self, train_dataset=None):  # noqa: ANN202 - parent's
        dataset = self.train_dataset if train_dataset is None else train_dataset
        if self.args.train_sampling_strategy != "group_by_length" or not isinstance(dataset, Dataset):
            return super()._get_train_sampler(train_dataset)
        # The parent hands its sampler a lazy column, which decodes a whole row for each length it looks at.
        lengths = dataset.with_format("arrow")[:]["length"].to_pylist()
        return LengthSampler(lengths, self.args.train_batch_size * self.args.gradient_accumulation_steps, self.args.seed)

    def evaluation_loop(
        self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix="eval"
    ) -> EvalLoopOutput:
        """The loss as in transformers, and the retrieval metrics, from the main process to all."""
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        if self.retrieval_metrics is not None:
            found = [self._retrieval(metric_key_prefix) if self.accelerator.is_main_process else None]
            output.metrics.update(broadcast_object_list(found)[0])
        return output

    @torch.no_grad()
    def _retrieval(self, prefix: str) -> dict[str, float]:
        model = self.accelerator.unwrap_model(self.model)
        was_training = model.training
        model.eval()
        metrics = {f"{prefix}_{name}": value for name, value in self.retrieval_metrics(model).items()}
        model.train(was_training)
        return metrics


class _KeepEndOfGeneration(TrainerCallback):
    """A SID ends by its length. The trainer gives every model its tokenizer's end token, which would be saved with the checkpoint."""

    def __init__(self, model: PreTrainedModel):
        self.model = model
        self.eos_token_id = model.generation_config.eos_token_id

    def on_train_begin(self, args, state, control, **kwargs) -> None:  # noqa: ANN001, ANN003 - parent's
        """Called once the trainer has aligned the tokens."""
        self.model.generation_config.eos_token_id = self.eos_token_id


class LengthSampler(Sampler[int]):
    """Shuffles so that examples of alike length meet in a batch.

    The order depends on the seed and the epoch alone: every process draws the same, and a resumed run goes on as the stopped one would.

    Args:
        lengths: of all examples; batch_size: examples per optimiser step and process; seed: of the shuffling.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int):
        self.lengths = list(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Accelerate's loader before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=generator))


def install_sid_head(model: PreTrainedModel) -> None:
    """Replace the head that TRL patched into `model.forward` by one that scores each target over its own softmax.

    TRL's multiplies by the whole vocabulary and reads `lm_head.weight` past any adapter. `forward` without `fused_lm_head` is the
    model's own.
    """
    original = type(model).forward

    @functools.wraps(original)
    def forward(self, *args, fused_lm_head=False, labels=None, shift_labels=None, num_items_in_batch=None, **kwargs):
        if not fused_lm_head:
            return original(self, *args, labels=labels, num_items_in_batch=num_items_in_batch, **kwargs)
        kwargs["use_cache"] = False
        hidden_states = self.model(*args, **kwargs).last_hidden_state
        targets = labels if shift_labels is None else shift_labels
        log_probs, entropy, is_top1 = self.score_targets(hidden_states, targets)
        label_mask = targets != IGNORED
        count = label_mask.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        return FusedCausalLMOutput(
            loss=-log_probs.sum() / count, log_probs=log_probs, entropy=entropy, is_top1=is_top1, label_mask=label_mask
        )

    model.forward = types.MethodType(forward, model)
