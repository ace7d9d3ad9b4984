"""Supervised fine-tuning of models that emit Semantic IDs, encoder-decoder or decoder-only, on TRL's trainer.

TRL supports causal models only: an encoder-decoder would learn nothing there, and refuses its calls. Three things are replaced: how
rows become `input_ids` and `labels`, how they are batched, and the loss, which is that of the model's own forward. Metrics, accumulation,
distribution, checkpoints and logging stay TRL's and transformers', but for two repairs: rows that a last batch repeats to give every
process its share do not count, and a checkpoint that a kill left half-written is skipped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, cast

import torch
from accelerate.utils import gather_object
from datasets import Dataset, IterableDataset
from torch import nn
from torch.utils.data import DataLoader, Sampler, SequentialSampler
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import EvalLoopOutput, TrainOutput, has_length
from trl import SFTConfig, SFTTrainer

from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex
from onesearch.modeling_onesearch.modeling_onesearch import IGNORED, Objective
from onesearch.modeling_onesearch.scores_onesearch import TargetScores

from ..lora import base_of, check_adapters
from ..prompt_watch import PromptWatch
from ..trainer_mixins import RetrievalMetrics, RetrievalMetricsMixin, SidCheckpointsMixin
from ..training_card import TrainingCardMixin
from ..trl_contract import check_trl
from .averaging import WeightAverage
from .data.collators import CausalCollator, LongViewLookup, Seq2SeqCollator, ViewLookup
from .data.row_checks import RowLimits, TextRows, check_token_rows, refuse_item_ids
from .data.rows import ArrowRows, lengths_of
from .history_dropout import HistoryDropout
from .length_sampler import LengthSampler
from .objectives import SmoothedLabels
from .sft_config import SidSFTConfig

COLUMNS = ("input_ids", "labels", "length", "long_view", "history", "query_vector")
"""Columns that reach the collator."""

TARGETS = ("labels", "shift_labels", "teacher_shift_labels")
"""Entries of a batch that hold targets."""


class SidSFTTrainer(TrainingCardMixin, RetrievalMetricsMixin, SidCheckpointsMixin, SFTTrainer):
    """TRL's [`~trl.SFTTrainer`] for [`OneSearchForConditionalGeneration`] and [`OneSearchForCausalLM`].

    Args:
        model: the model itself, or a `PeftModel` of it; a path would be opened as another class by TRL.
        args: settings. Its `sid_softmax`, if set, becomes that of the model's configuration.
        train_dataset: columns `input_ids` and `labels` (and optionally `length`, `long_view`, `history`), or `prompt` and
            `completion` texts. Read as numpy arrays.
        eval_dataset: dataset of the evaluation loss, with the same columns.
        processing_class: the model's tokenizer.
        retrieval_metrics: called with the model at every evaluation. The metrics that it returns (for instance HR@10 from the evaluator)
            are logged under `eval_` and can select the best checkpoint.
        long_view: makes the batch's `long_view_codes` of the examples; see `onesearch.trainers.sft.data.collators`.
        history: makes the batch's `history_items`, `history_vectors` and `query_vectors` of the examples; see
            `onesearch.views.session_views.ViewTensors`.
        peft_config: a PEFT configuration, for instance `lora_config(SidLoraConfig(), model)`.
        kwargs: as in TRL.

    Raises:
        TypeError: `model` is a name.
        ValueError: an adapter would copy tied weights, `compute_loss_func` is given, FSDP is asked for where there is none, or
            retrieval metrics are wanted under FSDP, which leaves no process a whole model. A row of a dataset that is empty, too long or
            outside the vocabulary, or a completion that is no whole SID, is refused by its number.
    """

    args: SidSFTConfig
    model: nn.Module

    _tag_names = ["onesearch", "sft"]
    _name = "OneSearch SFT"
    _columns: tuple[str, ...] = COLUMNS
    _objective: Objective | None = None

    def __init__(
        self,
        model: PreTrainedModel,
        args: SidSFTConfig,
        train_dataset: Dataset | IterableDataset,
        eval_dataset: Dataset | IterableDataset | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        retrieval_metrics: RetrievalMetrics | None = None,
        long_view: LongViewLookup | None = None,
        history: ViewLookup | None = None,
        peft_config: Any = None,
        **kwargs: Any,
    ) -> None:
        check_trl()
        if isinstance(model, str):
            raise TypeError(f"pass a loaded model, not the name {model!r}: TRL would open it as a causal model")
        if kwargs.get("compute_loss_func") is not None:
            raise ValueError(
                "compute_loss_func is not supported: the loss is the model's own; override SidSFTTrainer.compute_loss"
            )
        check_adapters(model, peft_config)
        base = base_of(model)
        if args.sid_softmax is not None:
            base.config.sid_softmax = args.sid_softmax
        if args.sid_smoothing and self._objective is None:
            self._objective = SmoothedLabels(args.sid_smoothing)
        self._row_limits = RowLimits.of(base.config)
        self._item_index = cast("SidIndex | None", base.sid_index)
        kwargs.setdefault("data_collator", self._collator(base, long_view, history))
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            peft_config=peft_config,
            **kwargs,
        )
        # TRL replaces `forward` on the instance by one with a head of its own, over the whole vocabulary. Without it the class's is found.
        vars(base).pop("forward", None)
        asked = args.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
        if asked and self.accelerator.num_processes > 1 and not self.is_fsdp_enabled:
            raise ValueError("FSDP is set, but Accelerate shards on accelerators only and would run DDP here: leave fsdp out")
        if retrieval_metrics is not None and self.is_fsdp_enabled:
            raise ValueError(
                "retrieval_metrics need a whole model, but FSDP gives each process a part: evaluate the checkpoints instead"
            )
        self._average = self._weight_average(args)
        self.retrieval_metrics = retrieval_metrics
        self._scored: list[tuple[float, int]] = []
        shares = (args.history_dropout, args.item_dropout, args.history_cuts)
        self._history_dropout = HistoryDropout(base.config, base.config.eos_token_id, *shares, seed=args.seed)
        self._batch_of_step = (-1, 0)
        self.add_callback(KeepEndOfGeneration(base))
        watched = base.config.is_encoder_decoder and not args.torch_compile  # a hook would break the graph
        self._prompt_watch = PromptWatch(base.get_encoder() if watched else None)

    def _weight_average(self, args: SidSFTConfig) -> WeightAverage | None:
        """The average of the weights, which a callback updates; None without one."""
        if args.weight_average is None:
            return None
        if self.is_fsdp_enabled:
            raise ValueError("weight_average needs whole weights, but FSDP gives each process a part: leave weight_average out")
        average = WeightAverage(self.model, args)
        self.add_callback(average)
        return average

    # Data

    def _collator(
        self, model: PreTrainedModel, long_view: LongViewLookup | None, history: ViewLookup | None
    ) -> Seq2SeqCollator | CausalCollator:
        config = model.config
        if config.is_encoder_decoder:
            return Seq2SeqCollator(config.pad_token_id, config.decoder_start_token_id, long_view, history)
        return CausalCollator(config.pad_token_id, long_view, history)

    def _prepare_dataset(
        self,
        dataset: Dataset | IterableDataset,
        processing_class: PreTrainedTokenizerBase | ProcessorMixin,
        args: SFTConfig,
        packing: bool,
        formatting_func: Callable[[dict], str] | None,
        dataset_name: str,
    ) -> Dataset | IterableDataset:
        columns = dataset.column_names or list(next(iter(dataset)))
        if {"input_ids", "labels"} <= set(columns):
            check_token_rows(dataset, self._row_limits, dataset_name)
            return dataset.with_format("numpy")
        if not {"prompt", "completion"} <= set(columns):
            raise ValueError(
                f"the {dataset_name} dataset has columns {columns}; give input_ids and labels, or prompt and completion"
            )
        refuse_item_ids(dataset, self._item_index, dataset_name)
        tokenize = TextRows(cast(PreTrainedTokenizerBase, processing_class), self._row_limits, dataset_name)
        return dataset.map(tokenize, with_indices=True, batched=True, remove_columns=columns).with_format("numpy")

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = list(self._columns)  # type: ignore[assignment]  # transformers declares None alone

    def _remove_unused_columns(self, dataset: Dataset, description: str | None = None) -> ArrowRows:
        return ArrowRows(super()._remove_unused_columns(dataset, description))

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        rows = self.train_dataset if train_dataset is None else train_dataset
        dataset = rows.dataset if isinstance(rows, ArrowRows) else rows
        if self.args.train_sampling_strategy != "group_by_length" or not isinstance(dataset, Dataset):
            return super()._get_train_sampler(train_dataset)
        # transformers passes its sampler a lazy column, which decodes a whole row for each length.
        known = "length" in dataset.column_names
        lengths = dataset.with_format("numpy", ["length"])[:]["length"] if known else lengths_of(dataset, "input_ids")
        step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return LengthSampler(lengths, step, self.args.seed)

    def _get_eval_sampler(self, eval_dataset: Any) -> Sampler:
        return SequentialSampler(eval_dataset)

    # Loss

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """As in TRL; parts of histories are left out of the batch before, as the settings ask; see `HistoryDropout`."""
        if self._history_dropout:
            step = self.state.global_step
            self._batch_of_step = (step, self._batch_of_step[1] + 1 if self._batch_of_step[0] == step else 0)
            inputs = self._history_dropout(inputs, *self._batch_of_step, self.args.process_index)
        return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """The loss of the model's own forward. Logs `entropy`, `mean_token_accuracy` and `num_tokens` as TRL does.

        Args:
            model: the model, wrapped for distribution.
            inputs: batch of the collator.
            return_outputs: also return the model's outputs, with logits.
            num_items_in_batch: number of targets in the whole optimiser step, over all processes.
        """
        outputs = model(
            **inputs,
            num_items_in_batch=num_items_in_batch,
            return_logits=return_outputs,
            objective=self._objective,
            return_dict=True,
        )
        loss = outputs.loss
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # data parallelism averages the gradients of all processes
        self._note_scores(outputs.target_scores, inputs["attention_mask"])
        return (loss, outputs) if return_outputs else loss

    def _log_terms(self, terms: Mapping[str, torch.Tensor]) -> dict[str, float]:
        """Log the mean per target of the terms of a loss, over all processes.

        Args:
            terms: the number of targets first, then the sum of each term over them, by name, each ``()``; empty outside of training.

        Returns:
            the means by name.
        """
        if not terms:
            return {}
        count, *sums = self.accelerator.reduce(torch.stack(list(terms.values())), "sum").tolist()
        means = {name: value / max(count, 1) for name, value in zip(list(terms)[1:], sums)}
        for name, mean in means.items():
            self._metrics["train"][name].append(mean)
        return means

    def _note_scores(self, scores: TargetScores, attention_mask: torch.Tensor) -> None:
        """Collect the entropy, accuracy and number of tokens of a batch, from all processes; TRL's `log` averages them."""
        mode = "train" if self.model.training else "eval"
        gather = self.accelerator.gather_for_metrics
        count = gather(scores.is_target.sum()).sum()
        for name, values in (("entropy", scores.entropy), ("mean_token_accuracy", scores.is_top)):
            total = gather(values.sum()).sum()
            self._metrics[mode][name].append((total / count).item() if count > 0 else 0.0)
        if mode == "train":
            self._total_train_tokens += gather(attention_mask.sum()).sum().item()
        self._metrics[mode]["num_tokens"] = [self._total_train_tokens]

    # Rows that repeat

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, torch.Tensor | int | None]:
        """As in transformers; rows that the last batch of an epoch repeats do not count."""
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        if batches and self._hide_repeated_rows(batches[-1], self.train_dataset, self.args.dataloader_drop_last):
            count = self._get_num_items_in_batch(batches, device)
        return batches, count

    def _hide_repeated_rows(self, batch: dict[str, torch.Tensor], dataset: Any, drop_last: bool) -> bool:
        """Ignore the targets of the rows that the last batch of a dataset repeats to give every process its share.

        Args:
            batch: batch of this process; its targets are changed in place.
            dataset: dataset of the batch.
            drop_last: whether an incomplete last batch is dropped.

        Returns:
            Whether there are such rows.
        """
        processes = self.accelerator.num_processes
        even = processes > 1 and self.accelerator.even_batches and not drop_last and has_length(dataset)
        if not even or not self.accelerator.gradient_state.end_of_dataloader:
            return False
        rows = len(batch["labels"])
        remainder = len(dataset) % (rows * processes)
        own = min(max(remainder - rows * self.accelerator.process_index, 0), rows)
        for name in TARGETS:
            if remainder and name in batch:
                batch[name][own:] = IGNORED
        return bool(remainder)

    # Evaluation

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
        """As in TRL; also notes the batch's loss and number of targets, of which `evaluation_loop` makes the loss of the whole set."""
        self._hide_repeated_rows(inputs, self.callback_handler.eval_dataloader.dataset, self.args.dataloader_drop_last)
        targets = inputs["shift_labels"] if "shift_labels" in inputs else inputs["labels"]
        count = int((targets != IGNORED).sum())
        step = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        self._scored.append((float(step[0]) * count, count))
        return step

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """As in transformers; also computes the retrieval metrics, in the main process, which sends them to all.

        The loss is the mean over all targets of the set: it depends on neither batches nor processes, and no row counts twice.
        """
        self._scored.clear()
        with nullcontext() if self._average is None else self._average.in_place():
            output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        losses, counts = zip(*gather_object(self._scored or [(0.0, 0)]))
        loss = sum(losses) / max(sum(counts), 1)
        return output._replace(metrics={**(output.metrics or {}), f"{metric_key_prefix}_loss": loss})

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As in TRL; training logs also hold `prompt_spread`, which says how much the encoder's states differ between prompts."""
        spread = self._prompt_watch.spread() if "loss" in logs else None
        super().log(logs if spread is None else {**logs, "prompt_spread": round(spread, 4)}, start_time)

    # Checkpoints

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """As in transformers.

        Args:
            resume_from_checkpoint: a checkpoint, or True for the last complete one in `output_dir`, without which the training starts anew.
            args: as in transformers.
            kwargs: as in transformers.

        Raises:
            ValueError: the named checkpoint is half-written.
        """
        if isinstance(
            self.processing_class, PreTrainedTokenizerBase
        ):  # as transformers does with a warning; restored when training begins
            base_of(cast(PreTrainedModel, self.model)).generation_config.eos_token_id = self.processing_class.eos_token_id
        with self._prompt_watch:
            output = super().train(resume_from_checkpoint, *args, **kwargs)
        if self._average is not None:
            self._average.take_over()
        return output

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self._average is not None and self.args.should_save:
            self._average.save(str(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self._average is not None:
            self._average.load(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if self._average is not None:
            self._average.load(cast(str, self.state.best_model_checkpoint))


class KeepEndOfGeneration(TrainerCallback):
    """Restores the end token of `generate`: a SID ends by its length, but the trainer gives every model its tokenizer's end token."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.generation_config = model.generation_config
        self.eos_token_id = model.generation_config.eos_token_id

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The trainer has aligned the tokens just before."""
        self.generation_config.eos_token_id = self.eos_token_id
