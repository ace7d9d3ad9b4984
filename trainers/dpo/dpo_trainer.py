"""Direct preference optimisation of models that emit Semantic IDs, encoder-decoder or decoder-only, on TRL's trainer.

TRL writes prompt and answer into one sequence, which an encoder-decoder reads in its encoder, so that a later code moves the
log-probability of an earlier one. Here each prompt is read once, all its candidates are scored behind it (`preference/likelihoods.py`), and
the lists of a row share these numbers. Replaced are: how rows become batches, the log-probabilities of policy and reference, and, for
`objective="listwise"`, the loss. Pair-wise losses, logging, accumulation, distribution and checkpoints are TRL's and transformers'.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate.utils import gather_object, is_peft_model
from datasets import Dataset, IterableDataset
from torch import nn
from torch.utils.data import Sampler, SequentialSampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import DPOTrainer
from trl.trainer.utils import FusedCausalLMOutput

from onesearch.tokenization_sid.tokenization_sid import SidTokenizer

from ..lora import base_of, check_adapters
from ..preference.likelihoods import Likelihoods, candidate_likelihoods
from ..preference.references import frozen_copy, reference_likelihoods
from ..sft.data.collators import LongViewLookup, ViewLookup
from ..sft.data.rows import ArrowRows
from ..sft.sft_trainer import KeepEndOfGeneration
from ..trainer_mixins import RetrievalMetrics, RetrievalMetricsMixin, SidCheckpointsMixin
from ..training_card import TrainingCardMixin
from ..trl_contract import check_trl
from .data.lists import COLUMNS, LIST_COLUMNS, PreferenceCollator, TextLists, check_lists
from .data.refreshed import ListMaker, RefreshedLists
from .dpo_config import SidDPOConfig
from .losses import list_wise_losses

ROUNDS_NAME = "lists"
"""Folder of the lists that were made during a training, in its output folder."""


class SidDPOTrainer(TrainingCardMixin, RetrievalMetricsMixin, SidCheckpointsMixin, DPOTrainer):
    """TRL's [`~trl.DPOTrainer`] for [`OneSearchForConditionalGeneration`] and [`OneSearchForCausalLM`], with lists of several rejected
    Semantic IDs.

    Args:
        model: the model itself, with its item index set, or a `PeftModel` of it; a path would be opened as another class by TRL.
        args: settings.
        train_dataset: rows of lists, with the columns of `LIST_COLUMNS` (see `data/lists.py`); or texts `prompt`, `chosen` and `rejected`,
            where `rejected` is one Semantic ID or a list of them. With a `list_maker` any rows: it makes the lists of them.
        eval_dataset: rows of lists, or texts.
        processing_class: the model's tokenizer.
        ref_model: the reference. Default: a frozen copy of `model`; with adapters, `model` with its adapter switched off.
        retrieval_metrics: called with the model at every evaluation; its metrics are logged under `eval_`.
        long_view: makes the batch's `long_view_codes` of the examples; see `onesearch.trainers.sft.data.collators`.
        history: makes the batch's `history_items`, `history_vectors` and `query_vectors` of the examples, as in `SidSFTTrainer`.
        peft_config: a PEFT configuration, for instance `lora_config(SidLoraConfig(), model)`.
        list_maker: makes the lists of rows of `train_dataset` with the current policy, every `args.refresh_steps` steps, or once each if
            that is 0. `args.max_steps` must then be set.
        kwargs: as in TRL.

    Raises:
        TypeError: `model` is a name.
        ValueError: the model has no item index, an adapter would copy tied weights, a row of a dataset holds no list, or settings do not
            fit the model.
    """

    args: SidDPOConfig
    model: nn.Module

    _tag_names = ["onesearch", "dpo"]
    _name = "OneSearch DPO"

    def __init__(
        self,
        model: PreTrainedModel,
        args: SidDPOConfig,
        train_dataset: Dataset | IterableDataset,
        eval_dataset: Dataset | IterableDataset | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        ref_model: PreTrainedModel | None = None,
        retrieval_metrics: RetrievalMetrics | None = None,
        long_view: LongViewLookup | None = None,
        history: ViewLookup | None = None,
        peft_config: Any = None,
        list_maker: ListMaker | None = None,
        **kwargs: Any,
    ) -> None:
        check_trl(DPOTrainer)
        if isinstance(model, str):
            raise TypeError(f"pass a loaded model, not the name {model!r}: TRL would open it as a causal model")
        check_adapters(model, peft_config)
        base = base_of(model)
        _check_settings(base, args, train_dataset, list_maker)
        self.list_maker, self.retrieval_metrics = list_maker, retrieval_metrics
        self._levels = len(base.config.sid_codebook_sizes)
        formula = args.reward_formula() if args.weighting == "adaptive" and args.objective == "listwise" else None
        kwargs.setdefault("data_collator", PreferenceCollator.of(base.config, formula, long_view, history))
        has_adapter = is_peft_model(model) or peft_config is not None
        if ref_model is None and not has_adapter and not args.precompute_ref_log_probs:
            ref_model = frozen_copy(model)
        super().__init__(
            model=model,
            ref_model=ref_model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            peft_config=peft_config,
            **kwargs,
        )
        for own in (base, None if ref_model is None else self.accelerator.unwrap_model(self.ref_model)):
            _take_head_off(own)
        self.add_callback(KeepEndOfGeneration(base))

    # Data

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        columns = dataset.column_names or list(next(iter(dataset)))
        if self.list_maker is not None and dataset_name == "train":
            return dataset
        if set(LIST_COLUMNS) <= set(columns):
            check_lists(dataset, self._levels, dataset_name)
            return dataset
        if not {"prompt", "chosen", "rejected"} <= set(columns):
            raise ValueError(
                f"the {dataset_name} dataset has columns {columns}; give {', '.join(LIST_COLUMNS)}, or the texts prompt, chosen and "
                "rejected"
            )
        tokenize = TextLists(cast(SidTokenizer, processing_class), dataset_name)
        return dataset.map(tokenize, with_indices=True, remove_columns=columns)

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = list(COLUMNS)  # type: ignore[assignment]  # transformers declares None alone

    def _remove_unused_columns(self, dataset: Dataset, description: str | None = None) -> Any:
        if self.list_maker is not None and dataset is self.train_dataset:
            return self._refreshed(self.list_maker)
        return ArrowRows(super()._remove_unused_columns(dataset, description))

    def _refreshed(self, list_maker: ListMaker) -> RefreshedLists:
        """The rows of the whole training, made round by round."""
        step = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        total = self.args.max_steps * step
        accelerator = self.accelerator

        def make(numbers: np.ndarray) -> Any:
            model = accelerator.unwrap_model(self.model)
            modes = [(module, module.training) for module in model.modules()]
            model.eval()
            table = list_maker(model, numbers)
            for module, training in modes:
                module.training = training
            return table

        return RefreshedLists(
            len(cast(Dataset, self.train_dataset)),
            total,
            self.args.refresh_steps * step or total,
            make,
            Path(str(self.args.output_dir)) / ROUNDS_NAME,
            self.args.seed,
            self.args.list_passes,
            accelerator.is_main_process,
            accelerator.wait_for_everyone,
        )

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        if isinstance(train_dataset, RefreshedLists):
            return SequentialSampler(train_dataset)
        return super()._get_train_sampler(train_dataset)

    # Reference

    def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
        """Adds the column `ref_logps`: log-probabilities of each row's candidates under the reference. Each process computes its share."""
        if isinstance(dataset, IterableDataset):
            raise ValueError(
                "precompute_ref_log_probs needs a Dataset: the lists of a stream are not known beforehand; set it to False"
            )
        base, rows = base_of(self.accelerator.unwrap_model(self.model)), ArrowRows(self._known_columns(dataset))
        _take_head_off(base)
        mine: list[tuple[int, list[float]]] = []
        starts = range(0, len(dataset), batch_size)
        for place, start in enumerate(starts):
            if place % self.accelerator.num_processes != self.accelerator.process_index:
                continue
            numbers = list(range(start, min(start + batch_size, len(dataset))))
            batch = self._prepare_inputs(self.data_collator(rows.__getitems__(numbers)))
            found = self._reference(batch, policy_is_reference=True)
            sizes = found.is_candidate.sum(1).tolist()
            mine += [(row, own[:size]) for row, own, size in zip(numbers, found.of_sids().tolist(), sizes)]
        values = [own for _, own in sorted(gather_object(mine))]
        return dataset.add_column("ref_logps", values)

    def _known_columns(self, dataset: Dataset) -> Dataset:
        return dataset.select_columns([name for name in COLUMNS if name in dataset.column_names])

    def _reference(self, inputs: dict[str, torch.Tensor], policy_is_reference: bool = False) -> Likelihoods:
        """Log-probabilities of the candidates under the reference."""
        policy = self.accelerator.unwrap_model(self.model)
        reference = self.ref_model
        if reference is None and policy_is_reference and not is_peft_model(policy):
            reference = policy  # before the training the policy is its own reference
            was_training = policy.training
            policy.eval()
            found = reference_likelihoods(policy, reference, inputs, inputs["sids"], self.args.sid_softmax)
            policy.train(was_training)
            return found
        return reference_likelihoods(policy, reference, inputs, inputs["sids"], self.args.sid_softmax)

    # Loss

    def _compute_loss(self, model: nn.Module, inputs: dict[str, torch.Tensor], return_outputs: bool) -> Any:
        with self.accelerator.autocast():
            policy = candidate_likelihoods(model, inputs, inputs["sids"], self.args.sid_softmax)
            if "ref_logps" in inputs:
                reference = inputs["ref_logps"]
            else:
                reference = self._reference(inputs).of_sids()
        if self.args.objective == "pairwise":
            loss = self._pair_wise(policy, reference, inputs)
        else:
            loss = self._list_wise(policy, reference, inputs)
        return (loss, policy) if return_outputs else loss

    def _list_wise(self, policy: Likelihoods, reference: torch.Tensor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """The list-wise loss of a batch (`losses.py`), with TRL's metrics over its pairs."""
        args, weights, logps = self.args, inputs["weights"], policy.of_sids()
        losses = list_wise_losses(logps, reference, weights, self.beta, args.chosen_weight, args.margin, args.reference_weight)
        rewards = self.beta * (logps - reference).detach()
        pairs, detached = weights > 0, logps.detach()
        is_rejected = pairs.any(1)
        margins = (rewards[:, :, None] - rewards[:, None, :])[pairs]
        self._note("loss/preference", losses.preference[losses.is_list])
        self._note("loss/nll", losses.nll[losses.is_list])
        self._note("logps/chosen", detached[losses.is_list])
        self._note("logps/rejected", detached[is_rejected])
        self._note("rewards/chosen", rewards[losses.is_list])
        self._note("rewards/rejected", rewards[is_rejected])
        self._note("rewards/margins", margins)
        self._note("rewards/accuracies", (margins > 0).float())
        self._note("entropy", policy.entropy[policy.is_candidate])
        self._note("kl", _kl(detached, reference, policy.is_candidate))
        return losses.mean(args.nll_weight)

    def _pair_wise(self, policy: Likelihoods, reference: torch.Tensor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """TRL's own loss of all pairs of the lists: it is given their log-probabilities in place of the model's outputs."""
        row, chosen, rejected = (inputs["weights"] > 0).nonzero(as_tuple=True)
        rows, places = torch.cat([row, row]), torch.cat([chosen, rejected])
        taken = {name: getattr(policy, name)[rows, places] for name in ("log_probs", "entropy", "is_top")}
        shape = (len(rows), self._levels + 1)  # one place more than predictions, as in TRL's batches
        mask = torch.ones(shape, dtype=torch.long, device=rows.device)
        mask[:, 0] = 0
        pairs = {"input_ids": mask, "completion_mask": mask, "attention_mask": inputs["attention_mask"]}
        pairs["ref_chosen_logps"], pairs["ref_rejected_logps"] = reference[rows, places].chunk(2)
        outputs = FusedCausalLMOutput(
            log_probs=taken["log_probs"],
            entropy=taken["entropy"],
            is_top1=taken["is_top"].bool(),
            mean_logits=torch.zeros_like(taken["entropy"]),
        )
        known, self.precompute_ref_logps = self.precompute_ref_logps, True  # TRL then takes the reference from the batch
        try:
            loss = super()._compute_loss(lambda **kwargs: outputs, pairs, False)
        finally:
            self.precompute_ref_logps = known
        mode = self._metrics["train" if self.model.training else "eval"]
        for name in ("logits/chosen", "logits/rejected"):
            mode.pop(name, None)  # logits are not kept
        if self.args.nll_weight:
            losses = list_wise_losses(policy.of_sids(), reference, inputs["weights"], self.beta)
            loss = loss + self.args.nll_weight * losses.nll[losses.is_list].mean()
        self._note("kl", _kl(policy.of_sids().detach(), reference, policy.is_candidate))
        return cast(torch.Tensor, loss)

    def _note(self, name: str, values: torch.Tensor) -> None:
        """Collect the mean of some values over all processes; TRL's `log` averages it over the steps."""
        mode = "train" if self.model.training else "eval"
        total = torch.stack([values.float().sum(), torch.tensor(float(values.numel()), device=values.device)])
        total = self.accelerator.reduce(total, "sum")
        if total[1] > 0:
            self._metrics[mode][name].append((total[0] / total[1]).item())


def _check_settings(base: PreTrainedModel, args: SidDPOConfig, train_dataset: Any, list_maker: ListMaker | None) -> None:
    """Refuse settings that do not fit the model or each other."""
    if getattr(base, "sid_index", None) is None:
        raise ValueError(
            "the model has no item index, which says which Semantic IDs there are: call model.set_sid_index(index)"
        )
    if args.gradient_checkpointing and not base.config.is_encoder_decoder:
        raise ValueError(
            "gradient_checkpointing of a decoder-only model drops the keys of the prompt, which its candidates share; leave it out"
        )
    if list_maker is not None and (args.max_steps <= 0 or not isinstance(train_dataset, Dataset)):
        raise ValueError(
            f"max_steps={args.max_steps} with a {type(train_dataset).__name__}: lists that the policy makes need max_steps and a Dataset "
            "of requests"
        )
    if list_maker is None and args.refresh_steps:
        raise ValueError(f"refresh_steps={args.refresh_steps} needs a list_maker, which makes lists with the current policy")


def _take_head_off(model: PreTrainedModel | None) -> None:
    """TRL replaces `forward` on the instance by one with a head of its own, over the whole vocabulary. Without it the class's is found."""
    if model is not None:
        vars(model).pop("forward", None)


def _kl(policy: torch.Tensor, reference: torch.Tensor, is_candidate: torch.Tensor) -> torch.Tensor:
    """KL(policy ‖ reference) of each prompt, over the shares that both give to its candidates: (prompts,)."""
    own, other = (part.masked_fill(~is_candidate, -math.inf).log_softmax(-1) for part in (policy, reference))
    return torch.where(is_candidate, own.exp() * (own - other), 0.0).sum(-1)


__all__ = ["ROUNDS_NAME", "SidDPOTrainer"]
