"""Group-relative policy optimisation of models that emit Semantic IDs, on TRL's trainer.

TRL's trainer runs on an encoder-decoder and optimises something else: it puts prompt and completion into the encoder together, and cuts as
many tokens off the decoder's output as the prompt has. Replaced here are

* the rollouts: distinct SIDs of the catalogue, sampled or searched under the trie, with the log's own SIDs on request;
* the rewards, which grade SIDs and not texts, and the advantages, of whole SIDs or of each position (TPMA);
* the log-probabilities: each prompt is read once for its whole group, and the numbers are those of the search;
* the reference: a frozen copy, or the policy with its adapter switched off.

The loss with its clipping and KL, the sampler, accumulation, distribution, checkpoints and logging stay TRL's and transformers'.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from torch import nn
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import EvalLoopOutput
from trl import GRPOTrainer
from trl.trainer.callbacks import SyncRefModelCallback

from onesearch.modeling_onesearch.sid_model_onesearch import SidModelMixin

from ..lora import base_of, check_adapters
from ..preference.likelihoods import candidate_likelihoods
from ..preference.references import frozen_copy, reference_likelihoods
from ..preference.session_scores import SessionScorer
from ..sft.data.collators import LongViewLookup, ViewLookup
from ..sft.sft_trainer import KeepEndOfGeneration
from ..trainer_mixins import RetrievalMetrics, RetrievalMetricsMixin, SidCheckpointsMixin
from ..training_card import TrainingCardMixin
from ..trl_contract import check_trl
from .advantages import group_advantages, position_advantages
from .group_sampler import GroupSampler, seed_of
from .grpo_config import SidGRPOConfig
from .model_rewards import build_rewards
from .reward_mix import RewardMix
from .rewards import PrefixReward, Targets, WeighedReward
from .rollouts import Example, Rollouts, draw_rollouts

Batch = dict[str, Any]
"""Scored rollouts, as TRL's loss reads them. Entries named in `OF_REQUESTS` have a row per request, the others a row per rollout."""

OF_REQUESTS = ("sids", "targets")


class SidGRPOTrainer(TrainingCardMixin, RetrievalMetricsMixin, SidCheckpointsMixin, GRPOTrainer):
    """TRL's [`~trl.GRPOTrainer`] for models with the search of this package, encoder-decoder or decoder-only.

    Args:
        model: the policy, or a `PeftModel` of it. It needs an item index, `sample_sids`, `search_sids` and `given_scores`.
        args: settings.
        train_dataset: a row per request, with `input_ids` (or a text `prompt`), and the columns that the rewards read: `targets` and
            `target_kinds`, or `session`; `long_view` and `history` where prompts have them.
        rewards: a [`RewardMix`], or rewards of one's own with their names and weights.
        scorer: the reward model, where the mix weighs one of its scores.
        grades: judgements for the relevance of a mix; see `judged_grades`.
        eval_dataset: requests on which an evaluation measures the reward of the policy's own best SIDs.
        processing_class: the model's tokenizer.
        retrieval_metrics: called with the model at every evaluation; see [`SidSFTTrainer`].
        long_view: makes the batch's `long_view_codes` of the examples.
        history: makes the batch's `history_items`, `history_vectors` and `query_vectors` of the examples.
        peft_config: a PEFT configuration, for instance `lora_config(SidLoraConfig(), model)`; the reference is then the model without it.
        kwargs: as in TRL.

    Raises:
        TypeError: `model` is a name.
        ValueError: the model has no item index, the dataset is smaller than one generation of rollouts, an adapter would copy tied weights,
            or FSDP is asked for.
    """

    args: SidGRPOConfig
    model: nn.Module

    _tag_names = ["onesearch", "grpo"]
    _name = "OneSearch GRPO"

    def __init__(
        self,
        model: PreTrainedModel,
        args: SidGRPOConfig,
        train_dataset: Dataset | IterableDataset,
        rewards: RewardMix | Sequence[WeighedReward],
        scorer: SessionScorer | None = None,
        grades: Mapping[tuple[str, int], int] | None = None,
        eval_dataset: Dataset | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        retrieval_metrics: RetrievalMetrics | None = None,
        long_view: LongViewLookup | None = None,
        history: ViewLookup | None = None,
        peft_config: Any = None,
        **kwargs: Any,
    ) -> None:
        check_trl(GRPOTrainer)
        if isinstance(model, str):
            raise TypeError(f"pass a loaded model, not the name {model!r}: TRL would open it as a causal model")
        check_adapters(model, peft_config)
        base = cast(SidModelMixin, base_of(model))
        base._require_index()
        if args.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true":
            raise ValueError(
                "FSDP is not supported: every process draws rollouts with a whole model; use data parallelism (DDP)"
            )
        self.mix = rewards if isinstance(rewards, RewardMix) else None
        self.rewards = build_rewards(rewards, scorer, grades) if isinstance(rewards, RewardMix) else list(rewards)
        self.long_view, self.history, self.retrieval_metrics = long_view, history, retrieval_metrics
        self._batch: Batch = {}
        self._slices: list[Batch] = []
        self._target_log_probs: torch.Tensor | None = None
        self._top_sids: list[torch.Tensor] = []
        is_adapted = peft_config is not None or not isinstance(model, PreTrainedModel)
        beta, args.beta = args.beta, args.beta if is_adapted else 0.0  # TRL would open the reference as a causal model
        tokenizer = cast(PreTrainedTokenizerBase, processing_class)
        super().__init__(
            model=model,
            reward_funcs=[cast(Any, _graded_by_sid)],
            args=args,
            train_dataset=_encoded(train_dataset, tokenizer),
            eval_dataset=None if eval_dataset is None else _encoded(eval_dataset, tokenizer),
            processing_class=processing_class,
            peft_config=peft_config,
            **kwargs,
        )
        args.beta = self.beta = beta
        # TRL replaces `forward` on the instance by one with a head of its own, over the whole vocabulary. Without it the class's is found.
        vars(base).pop("forward", None)
        self._refuse_small(train_dataset)
        if beta and not is_adapted:
            self.ref_model = frozen_copy(self._policy()).to(self.accelerator.device)
            if args.sync_ref_model:
                self.add_callback(SyncRefModelCallback(ref_model=self.ref_model, accelerator=self.accelerator))
        self.add_callback(KeepEndOfGeneration(cast(PreTrainedModel, base)))
        self.add_callback(_CountSteps(self))

    def _refuse_small(self, dataset: Dataset | IterableDataset) -> None:
        """Refuse a dataset of which TRL's sampler makes no batch at all."""
        needed = self._requests_per_generation
        if isinstance(dataset, Dataset) and len(dataset) < needed:
            raise ValueError(
                f"the train dataset has {len(dataset):,} requests, and one generation of rollouts takes {needed:,}; lower "
                "per_device_train_batch_size, or raise num_generations"
            )

    @property
    def _requests_per_generation(self) -> int:
        """Requests that get a group in one generation, over all processes."""
        return cast(int, self.args.generation_batch_size) // cast(int, self.num_generations)

    def _policy(self) -> PreTrainedModel:
        """The policy without wrappers of distribution and adapters; adapters that it has stay active."""
        return base_of(cast(PreTrainedModel, self.model))

    # Rollouts

    def _get_train_sampler(self, dataset: Dataset | None = None) -> GroupSampler:
        return GroupSampler(
            cast(Any, self.train_dataset if dataset is None else dataset),
            mini_repeat_count=cast(int, self.num_generations),
            batch_size=self._requests_per_generation,
            repeat_count=self.args.steps_of_generation,
            shuffle=bool(self.shuffle_dataset),
            seed=self.args.seed,
        )

    def _prepare_inputs(self, generation_batch: Any) -> Batch:
        """As in TRL; the rollouts of a group stay together, so that its prompt is read once."""
        if not self.model.training:
            return self._generate_and_score_completions(generation_batch)
        slices = self.args.slices_per_generation
        if self._step % self.args.steps_of_generation == 0 or not self._slices:
            self._slices = _split(self._generate_and_score_completions(generation_batch), slices)
        return self._slices[self._step % slices]

    def _generate_and_score_completions(self, inputs: list[Example]) -> Batch:
        """Rollouts of the requests, their rewards and advantages, and the log-probabilities that the loss compares the policy's with.

        Args:
            inputs: the dataset's rows, each repeated for its group.
        """
        training = self.model.training
        group = cast(int, self.num_generations if training else self.num_generations_eval)
        examples = inputs[::group]
        prompts = self._prompts(examples)
        rollouts = self._rollouts(prompts, examples, group)
        rewards = self._rewards(rollouts)
        advantages = self._advantages(rollouts, rewards)
        levels = rollouts.codes.shape[2]
        mask = rollouts.is_sid.flatten()[:, None].long().expand(-1, levels)
        blank = mask.new_zeros(len(mask), 0)
        batch: Batch = {
            "prompts": prompts,
            "sids": rollouts.codes,
            "prompt_ids": blank,  # the loss reads prompts and SIDs from the entries above
            "prompt_mask": blank,
            "completion_ids": rollouts.codes.flatten(0, 1),
            "completion_mask": mask,
            "advantages": advantages.flatten(0, 1),
            "num_items_in_batch": self.accelerator.gather(mask.sum()).sum(),
        }
        if self.args.sft_weight and training:
            batch["targets"] = Targets.of(examples, levels).codes[:, :1].to(rollouts.codes.device)
        return self._with_log_probs(batch)

    def _prompts(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """Prompts of the examples, padded on the right, on the device."""
        rows = [torch.as_tensor(np.asarray(example["input_ids"], dtype=np.int64)) for example in examples]
        pad = int(cast(int, self._tokenizer.pad_token_id))
        prompts = {
            "input_ids": nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad),
            "attention_mask": nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
        }
        if self.history is not None:
            prompts |= {name: torch.from_numpy(array) for name, array in self.history(examples).items()}
        if self.long_view is not None:
            prompts["long_view_codes"] = torch.from_numpy(np.ascontiguousarray(self.long_view(examples), dtype=np.int64))
        return {name: tensor.to(self.accelerator.device) for name, tensor in prompts.items()}

    def _rollouts(self, prompts: dict[str, torch.Tensor], examples: Sequence[Example], group: int) -> Rollouts:
        """Groups of the requests; in an evaluation the best SIDs of the beam search."""
        model, training = cast(Any, self._policy()), self.model.training
        experts = None
        if training and self.args.expert_sids:
            experts = Targets.of(examples, len(model.config.sid_codebook_sizes)).codes[:, : self.args.expert_sids]
        first = self.accelerator.process_index * len(examples)
        generation = self._step // self.args.steps_of_generation
        seeds = [seed_of(self.args.seed, generation, first + place) for place in range(len(examples))]
        model.eval()
        try:
            how = self.args.rollouts if training else "beam"
            return draw_rollouts(model, prompts, examples, group, seeds, how, self.temperature, experts)
        finally:
            model.train(training)

    def _rewards(self, rollouts: Rollouts) -> torch.Tensor:
        """Rewards (rewards, requests, group), each by itself and without its weight; logs their means."""
        parts = []
        for own in self.rewards:
            found = torch.as_tensor(own.reward(rollouts), dtype=torch.float32, device=rollouts.codes.device)
            if found.shape != rollouts.is_sid.shape:
                raise ValueError(
                    f"the reward {own.name!r} has shape {tuple(found.shape)}; expected {tuple(rollouts.is_sid.shape)}, a number for each "
                    "SID of each request"
                )
            parts.append(found)
        rewards = torch.stack(parts)
        self._note_rewards(rollouts, rewards)
        return rewards

    def _advantages(self, rollouts: Rollouts, rewards: torch.Tensor) -> torch.Tensor:
        """Advantages (requests, group) of whole SIDs, or (requests, group, levels) of each position; logs the share of dead groups."""
        factors = torch.tensor([own.weight for own in self.rewards], device=rewards.device)[:, None, None]
        total, mix = (factors * rewards).sum(0), self.mix
        weights = rollouts.weights if self.args.sample_weights == "inclusion" else None
        settings: dict[str, Any] = {"is_sid": rollouts.is_sid, "scale": self.scale_rewards, "weights": weights}
        if mix is None or mix.advantages == "sequence":
            found = group_advantages(total, **settings)
            values = found.values
        else:
            place = [own.name for own in self.rewards].index("prefix")
            prefix = cast(PrefixReward, self.rewards[place].reward)
            found = position_advantages(prefix.increments(rollouts), **settings)
            values = found.values
            if mix.item_weight and len(self.rewards) > 1:
                whole = group_advantages(total - factors[place] * rewards[place], **settings)
                values = values + mix.item_weight * whole.values[..., None]
                found = found._replace(is_dead=found.is_dead & whole.is_dead)
            values = values * prefix.gates(rollouts)
        self._note("frac_reward_zero_std", found.is_dead.float())
        return values

    # Log-probabilities

    def _with_log_probs(self, batch: Batch) -> Batch:
        """Add the log-probabilities of the reference, and those of the policy that drew the rollouts where several steps use them."""
        slices = self.args.slices_per_generation if self.model.training else 1
        parts = _split(batch, slices)
        policy, softmax = self.accelerator.unwrap_model(self.model), self.args.sid_softmax
        if self.args.gradient_accumulation_steps % self.args.steps_of_generation and self.model.training:
            with torch.no_grad():
                found = [candidate_likelihoods(policy, part["prompts"], part["sids"], softmax).log_probs for part in parts]
            batch["old_per_token_logps"] = torch.cat(found).flatten(0, 1)
        if self.beta:
            found = [
                reference_likelihoods(policy, self.ref_model, part["prompts"], part["sids"], softmax).log_probs
                for part in parts
            ]
            batch["ref_per_token_logps"] = torch.cat(found).flatten(0, 1)
        return batch

    def _compute_loss(self, model: nn.Module, inputs: Batch) -> torch.Tensor:
        """TRL's loss, plus the supervised loss of the requests' first targets."""
        self._batch = inputs
        loss = super()._compute_loss(model, inputs)
        if self._target_log_probs is None:
            return loss
        # The mean over requests and codes, in the units of the policy's loss.
        nll = -self._target_log_probs.mean()
        self._note("sft_loss", nll.detach()[None])
        return loss + self.args.sft_weight * nll / self.current_gradient_accumulation_steps

    def _get_per_token_logps_and_entropies(
        self, model: nn.Module, *args: Any, compute_entropy: bool = False, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor | None, None]:
        """Log-probabilities and entropies of the current batch's codes, (rollouts, levels). TRL's tensors of tokens are not read."""
        sids, targets = self._batch["sids"], self._batch.get("targets")
        group = sids.shape[1]
        wanted = sids if targets is None else torch.cat([sids, targets], dim=1)
        found = candidate_likelihoods(model, self._batch["prompts"], wanted, self.args.sid_softmax)
        self._target_log_probs = None if targets is None else found.log_probs[:, group:]
        entropy = found.entropy[:, :group].flatten(0, 1) if compute_entropy else None
        return found.log_probs[:, :group].flatten(0, 1), entropy, None

    # Logging

    def _note(self, name: str, values: torch.Tensor) -> None:
        """Log the mean of values (n,) over all processes."""
        mode = "train" if self.model.training else "eval"
        sums = self.accelerator.reduce(torch.stack([values.sum(), values.new_tensor(float(len(values)))]), "sum")
        self._metrics[mode][name].append((sums[0] / sums[1].clamp(min=1)).item())

    def _note_rewards(self, rollouts: Rollouts, rewards: torch.Tensor) -> None:
        """Log the mean of every reward and of their sum, and how many SIDs of the batch are distinct or experts."""
        is_sid = rollouts.is_sid
        total = torch.zeros(is_sid.shape, device=rewards.device)
        for own, found in zip(self.rewards, rewards):
            total = total + own.weight * found
            self._note(f"rewards/{own.name}", found[is_sid])
        self._note("reward", total[is_sid])
        codes = self.accelerator.gather(rollouts.codes.flatten(0, 1).contiguous())
        codes = codes[codes[:, 0] >= 0]
        if self.model.training:
            mode = self._metrics["train"]
            mode["distinct_sids"].append(len(torch.unique(codes, dim=0)) / max(len(codes), 1))
            if self.args.expert_sids:
                self._note("expert_share", rollouts.is_expert[is_sid].float())
        else:
            self._top_sids.append(codes.cpu())

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """As in TRL; also counts the distinct SIDs among the best ones of all requests, and computes the retrieval metrics."""
        self._top_sids.clear()
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        distinct = len(torch.unique(torch.cat(self._top_sids), dim=0))
        return output._replace(metrics={**(output.metrics or {}), f"{metric_key_prefix}_distinct_sids": distinct})


class _CountSteps(TrainerCallback):
    """Gives a resumed trainer the number of its passes, which TRL counts from 0 and which seeds the rollouts."""

    def __init__(self, trainer: SidGRPOTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The trainer's state is that of the checkpoint."""
        self.trainer._step = state.global_step * args.gradient_accumulation_steps
        self.trainer._slices = []


def _graded_by_sid(**texts: Any) -> list[float]:
    """Stands for the rewards where TRL asks for functions of texts; `_rewards` grades SIDs instead."""
    raise RuntimeError("rewards of texts are not computed; see SidGRPOTrainer._rewards")


def _encoded(dataset: Dataset | IterableDataset, tokenizer: PreTrainedTokenizerBase) -> Dataset | IterableDataset:
    """The dataset with token ids; its texts are tokenised where it has none.

    Raises:
        ValueError: there is neither a column `input_ids` nor a column `prompt`.
    """
    columns = dataset.column_names or list(next(iter(dataset)))
    if "input_ids" not in columns:
        if "prompt" not in columns:
            raise ValueError(f"the dataset has columns {columns}; give input_ids, or prompt texts")
        dataset = dataset.map(lambda batch: {"input_ids": tokenizer(batch["prompt"]).input_ids}, batched=True)
    return dataset.with_format("numpy") if isinstance(dataset, Dataset) else dataset


def _split(batch: Batch, count: int) -> list[Batch]:
    """Cut a batch into equal parts; entries of the prompts and of the requests are cut by request, all others by rollout."""
    parts: list[Batch] = [{} for _ in range(count)]
    for name, value in batch.items():
        if name == "prompts":
            cuts = {key: tensor.chunk(count) for key, tensor in value.items()}
            pieces: Sequence[Any] = [{key: own[place] for key, own in cuts.items()} for place in range(count)]
        elif value.dim():
            pieces = value.chunk(count)
        else:
            pieces = [value] * count
        for part, piece in zip(parts, pieces):
            part[name] = piece
    return parts


__all__ = ["SidGRPOTrainer"]
