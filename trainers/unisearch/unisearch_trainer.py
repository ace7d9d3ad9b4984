"""Joint training of UniSearch on transformers' `Trainer`: contrast, codebooks and tokens in one step, and Semantic IDs that move."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments, get_scheduler

from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex
from onesearch.modeling_onesearch.item_encoder_unisearch import partial_sums
from onesearch.modeling_onesearch.modeling_unisearch import UniSearchForConditionalGeneration, UniSearchOutput

from ..sft.sft_trainer import KeepEndOfGeneration
from ..trainer_mixins import CompleteCheckpointsMixin
from .cached_gradients import RandomState, parts_of
from .catalogue import Catalogue
from .examples import JointExamples, collate_rows
from .gathering import gathered, process_number
from .losses import codebook_loss, contrastive_loss, token_loss
from .moving_sids import STATE_NAME, MovingSids
from .negatives import HardNegatives
from .schedule import CONTRAST, GENERATOR, Schedule
from .unisearch_config import UniSearchTrainingConfig

logger = logging.getLogger(__name__)

Metrics = Callable[[UniSearchForConditionalGeneration], dict[str, float]]


class UniSearchTrainer(CompleteCheckpointsMixin, Trainer):
    """transformers' [`~transformers.Trainer`] with UniSearch's losses; see `UniSearchTrainingConfig`.

    Args:
        model: the model.
        args: training arguments. Incomplete last batches are dropped, because every process needs as many negatives.
        config: losses, negatives and phases.
        examples: examples of the training.
        make_index: makes the item index of new codes (items, levels).
        categories: (items,) number of each item's category, -1 without one, for hard negatives.
        retrieval_metrics: called with the model at every evaluation; its metrics are logged under `eval_`.
        kwargs: as in transformers.

    Raises:
        ValueError: the best checkpoint is asked for: its Semantic IDs are not those of the end.
    """

    args: TrainingArguments
    model: nn.Module
    schedule: Schedule

    def __init__(
        self,
        model: UniSearchForConditionalGeneration,
        args: TrainingArguments,
        config: UniSearchTrainingConfig,
        examples: JointExamples,
        make_index: Callable[[np.ndarray], SidIndex],
        categories: np.ndarray | None = None,
        retrieval_metrics: Metrics | None = None,
        **kwargs: Any,
    ) -> None:
        if args.load_best_model_at_end:
            raise ValueError(
                "load_best_model_at_end=True: each checkpoint has Semantic IDs of its own, and the catalogue is encoded by the last; set "
                "it to false"
            )
        args.remove_unused_columns, args.dataloader_drop_last = False, True
        args.dataloader_pin_memory = False
        if config.warm_up > 0 or config.freeze < 1:
            args.ddp_find_unused_parameters = True  # a phase leaves the decoder or the item encoder out
        self.config, self.examples = config, examples
        self.retrieval_metrics = retrieval_metrics
        count = len(examples.inputs)
        self.catalogue = Catalogue(examples.inputs, config, make_index)
        self.negatives = HardNegatives(config.negatives, np.full(count, -1) if categories is None else categories)
        self.sids: MovingSids | None = None
        self._micro_step = (-1, 0)
        super().__init__(model, args, train_dataset=examples, eval_dataset=examples, data_collator=collate_rows, **kwargs)
        self.model_accepts_loss_kwargs = False
        self.add_callback(_Refreshes(self))
        self.add_callback(KeepEndOfGeneration(model))

    @property
    def base(self) -> UniSearchForConditionalGeneration:
        """The model without the wrappers of distribution."""
        return cast(UniSearchForConditionalGeneration, self.accelerator.unwrap_model(self.model, keep_torch_compile=False))

    @property
    def phase(self) -> str:
        """Phase of the current step."""
        return self.schedule.phase(self.state.global_step)

    # Losses

    def _prepare_inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        rows = inputs.get("rows")
        return super()._prepare_inputs(inputs if rows is None else self.examples.batch(rows.cpu().numpy()))

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """λ₁ L_contrast + λ₂ L_codebook + λ₃ L_NTP of a batch; each phase has those that it trains.

        Args:
            model: the model, wrapped for distribution.
            inputs: batch of `JointExamples.batch`.
            return_outputs: also return the model's outputs.
            num_items_in_batch: not used; losses are means over the batch.
        """
        outputs = self._outputs(model, inputs)
        loss = self._own_losses(outputs, inputs)
        if self.phase != GENERATOR:
            vectors, quantised = cast(torch.Tensor, outputs.item_vectors), outputs.quantised
            code_vectors = None if quantised is None else quantised.vectors
            loss = loss + self._contrast(cast(torch.Tensor, outputs.query_vectors), vectors, code_vectors, inputs)
        return (loss, outputs) if return_outputs else loss

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """As in transformers; with `cache_rows`, a large batch by `cached_gradients`."""
        step, count = self._micro_step
        self._micro_step = (self.state.global_step, count + 1 if step == self.state.global_step else 0)
        rows = self.config.cache_rows
        if not rows or self.phase == GENERATOR or len(inputs["rows"]) <= rows:
            return super().training_step(model, inputs, num_items_in_batch)
        model.train()
        batch = self._prepare_inputs(inputs)
        parts = parts_of(batch, rows)
        states, queries, vectors, code_vectors = [], [], [], []
        for part in parts:
            states.append(RandomState(self.args.device))
            with torch.no_grad(), self.compute_loss_context_manager():
                found = self.base(part["input_ids"], part["attention_mask"], items=part["items"], contrast_only=True)
            queries.append(cast(torch.Tensor, found.query_vectors).float())
            vectors.append(cast(torch.Tensor, found.item_vectors).float())
            code_vectors.append(found.quantised.vectors.float())
        leaves = torch.cat(queries).requires_grad_(), torch.cat(vectors).requires_grad_()
        loss = self._contrast(*leaves, torch.cat(code_vectors), batch)
        gradients = torch.autograd.grad(loss, leaves)
        total = loss.detach()
        scale = 1 / self.current_gradient_accumulation_steps
        sizes = [len(part["item_rows"]) for part in parts]
        pairs = list(zip(*(gradient.split(sizes) for gradient in gradients)))
        for place, (part, state, pair) in enumerate(zip(parts, states, pairs)):
            is_last = place == len(parts) - 1
            waits = nullcontext() if is_last else self.accelerator.no_sync(model)
            with waits, state.restored():
                with self.compute_loss_context_manager():
                    outputs = self._outputs(model, part)
                    own = self._own_losses(outputs, part) * (sizes[place] / sum(sizes))
                made = cast(torch.Tensor, outputs.query_vectors), cast(torch.Tensor, outputs.item_vectors)
                passed_on = sum((vector.float() * gradient).sum() for vector, gradient in zip(made, pair))
                self.accelerator.backward((own + passed_on) * scale)
            total = total + own.detach()
        return total * scale

    def _outputs(self, model: nn.Module, inputs: dict[str, Any]) -> UniSearchOutput:
        """Outputs of the model for the phase's losses."""
        arguments = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        if self.phase == CONTRAST:
            return model(**arguments, items=inputs["items"], contrast_only=True)
        if self.phase == GENERATOR:
            return model(**arguments, labels=inputs["labels"], return_logits=False, return_dict=True)
        soft = 0.0 if self.config.stop_gradient else self.config.soft_temperature
        given = {"labels": inputs["labels"], "items": inputs["items"], "soft_targets": soft}
        return model(**arguments, **given, return_logits=False, return_dict=True)

    def _own_losses(self, outputs: UniSearchOutput, inputs: dict[str, Any]) -> torch.Tensor:
        """The losses that are sums over the examples: codebooks and tokens."""
        config, loss = self.config, torch.zeros((), device=self.args.device)
        if self.phase != CONTRAST and outputs.quantised is not None:
            loss = loss + config.codebook_weight * codebook_loss(outputs.quantised, config.commitment)
        if outputs.target_scores is not None:
            weight = 1.0 if self.phase == GENERATOR else config.token_weight
            loss = loss + weight * token_loss(outputs.target_scores.log_probs, inputs["weights"])
        return loss

    def _contrast(
        self, queries: torch.Tensor, vectors: torch.Tensor, code_vectors: torch.Tensor | None, inputs: dict[str, Any]
    ) -> torch.Tensor:
        """λ₁ L_contrast of this process's queries against the items of all processes; the memory bank takes the vectors over."""
        config, sids = self.config, cast(MovingSids, self.sids)
        rows, bound = inputs["item_rows"], self.base.config.vector_bound
        all_vectors, all_rows = gathered(vectors.float()), gathered(rows)
        positives = torch.arange(len(rows), device=rows.device) + process_number() * len(rows)
        is_same = rows[:, None] == all_rows[None]
        uses_vectors = config.residual != "codes" or self.phase == CONTRAST or code_vectors is None
        hard = None
        if config.coarse_to_fine and self.state.global_step >= self.schedule.hard and self.model.training:
            items = rows.cpu().numpy()
            seed = [self.args.seed, self.state.global_step, self._micro_step[1], process_number()]
            beams = sids.beams[inputs["examples"].cpu().numpy()] if sids.beams.shape[1] else None
            before = self._before(sids.bank, None if uses_vectors else self.catalogue.code_vectors(self.base.model, sids.codes))
            hard = self.negatives.draw(items, sids.bank, beams, np.random.default_rng(seed), before, bound)
        with torch.no_grad():
            sids.bank[all_rows] = all_vectors.detach().to(sids.bank.dtype)
        sums = partial_sums(
            all_vectors,
            self._before(all_vectors, None if uses_vectors or code_vectors is None else gathered(code_vectors)),
            bound,
        )
        shared = positives, is_same, config.temperature
        loss = config.contrast_weight * contrastive_loss(queries, sums, *shared, hard or ())
        if config.quantised_weight and code_vectors is not None and self.phase != CONTRAST:
            whole = gathered(code_vectors.float()).sum(1, keepdim=True)
            whole = nn.functional.normalize(whole, dim=-1) if bound == "sphere" else whole
            loss = loss + config.quantised_weight * contrastive_loss(queries, whole, *shared)
        return loss

    def _before(self, vectors: torch.Tensor, code_vectors: torch.Tensor | None) -> torch.Tensor | None:
        """What `partial_sums` sums of the levels before: vectors or code vectors, (items, levels, dim); None without a residual."""
        if self.config.residual == "none":
            return None
        return vectors if code_vectors is None else code_vectors

    # Semantic IDs

    def refresh(self, start: bool = False) -> None:
        """Encode the catalogue again: targets, histories, index, trie, memory bank and mined negatives change together.

        Args:
            start: the codebooks start from the catalogue's vectors; otherwise they follow them, with `refit`.
        """
        previous, seed = self.sids, [self.args.seed, self.state.global_step]
        encoded = self.catalogue.encode(self.base, self.accelerator, previous.averages if previous else {})
        beams = np.full((len(self.examples), 0), -1, dtype=np.int64)
        averages, history = (previous.averages, previous.history) if previous else ({}, [])
        if self.config.momentum and not averages:
            averages = self.catalogue.start_averages(self.base.model)
        bank, codes = torch.from_numpy(encoded.vectors).to(self.args.device), encoded.codes
        if start:
            codes = self.catalogue.start_codebooks(self.base.model, bank, seed)
        elif previous and self.config.refit:
            codes = self.catalogue.refit_codebooks(self.base.model, bank, previous.codes, seed)
        if averages and (start or self.config.refit):
            averages |= self.catalogue.start_averages(self.base.model, ("quantizer",))
        self.sids = MovingSids(codes, bank, beams, averages, history)
        compared = previous.codes if previous and not start else None
        report = self.catalogue.report(codes, compared, self.state.global_step, warns=self.phase != CONTRAST)
        history.append(report)
        self._publish_codes()
        if self.phase != GENERATOR:
            self.sids.beams = self.catalogue.mine(self.base, self.examples, self.config.negatives)
        self.log({name: float(value) for name, value in report.items()})

    def _publish_codes(self) -> None:
        """Let the model's index, the examples and the negatives use the codes of `sids`."""
        codes = cast(MovingSids, self.sids).codes
        self.base.set_sid_index(self.catalogue.make_index(codes))
        self.examples.set_codes(codes)
        self.negatives.set_codes(codes, self.base.config.sid_codebook_sizes)

    def freeze(self) -> None:
        """Keep item encoder and quantizer as they are from now on; their codes are those of the last weights."""
        averages = cast(MovingSids, self.sids).averages
        self.catalogue.use_averages(self.base.model, averages)
        averages.clear()
        for module in (self.base.model.item_encoder, self.base.model.quantizer, self.base.model.query_head):
            module.requires_grad_(False)
            for parameter in module.parameters():
                parameter.grad = None

    def finish(self) -> None:
        """Leave the moving averages, if there are any, in the model: they made the last SIDs, and publish the final ones."""
        self.catalogue.use_averages(self.base.model, cast(MovingSids, self.sids).averages)

    # Schedule, evaluation and checkpoints

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """As in transformers; the learning rate of the item encoder is `item_rate` times that of all other weights."""
        if self.optimizer is not None:
            return super().create_optimizer(model)
        optimizer = super().create_optimizer(model)
        if self.config.item_rate != 1:
            own = {id(weight) for weight in self.base.model.item_encoder.parameters()}
            groups = []
            for is_item, rate in ((False, 1.0), (True, self.config.item_rate)):  # the log shows the rate of the first group
                for group in optimizer.param_groups:
                    weights = [weight for weight in group["params"] if (id(weight) in own) == is_item]
                    groups += [{**group, "params": weights, "lr": rate * group["lr"]}] if weights else []
            optimizer.param_groups[:] = groups
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """As in transformers; where `freeze` cuts the training in two, the learning rate begins anew behind it."""
        cut = round(self.config.freeze * num_training_steps)
        if self.lr_scheduler is not None or not 0 < cut < num_training_steps:
            return super().create_scheduler(num_training_steps, optimizer)
        own = cast(torch.optim.Optimizer, optimizer or self.optimizer)
        lengths = cut, num_training_steps - cut
        first, second = (
            cast(
                LambdaLR,
                get_scheduler(
                    self.args.lr_scheduler_type,
                    own,
                    num_warmup_steps=min(self.args.get_warmup_steps(num_training_steps), length // 2),
                    num_training_steps=length,
                    scheduler_specific_kwargs=cast("dict[str, Any] | None", self.args.lr_scheduler_kwargs),
                ),
            ).lr_lambdas[0]
            for length in lengths
        )
        self.lr_scheduler = LambdaLR(own, lambda step: first(step) if step < cut else second(step - cut))
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Measure the retrieval metrics in the main process; without a function for them there are none."""
        metrics: dict[str, float] = {}
        if self.retrieval_metrics is not None and self.is_world_process_zero():
            was_training = self.model.training
            self.base.eval()
            with torch.no_grad():
                metrics = {f"eval_{name}": value for name, value in self.retrieval_metrics(self.base).items()}
            self.base.train(was_training)
        self.accelerator.wait_for_everyone()
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.sids = MovingSids.load(Path(resume_from_checkpoint) / STATE_NAME, self.args.device)
        self._publish_codes()

    def _save_rng_state(self, output_dir: str) -> None:
        if self.is_world_process_zero():
            cast(MovingSids, self.sids).save(Path(output_dir) / STATE_NAME)
        super()._save_rng_state(output_dir)


class _Refreshes(TrainerCallback):
    """Changes the Semantic IDs at the steps of the schedule, before a checkpoint of the same step is saved."""

    def __init__(self, trainer: UniSearchTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Encode the catalogue for the first time, or return to the phase of a resumed training."""
        trainer = self.trainer
        per_epoch = max(round(state.max_steps / max(float(state.num_train_epochs or 1), 1)), 1)
        schedule = trainer.schedule = Schedule.of(trainer.config, state.max_steps, per_epoch)
        if trainer.sids is None:
            trainer.refresh(start=trainer.config.codebook_start != "random")
            if schedule.freeze == 0:
                trainer.freeze()
        else:
            trainer.sids.history += [entry for entry in state.log_history if "sid_step" in entry]
            if trainer.phase == GENERATOR:
                trainer.freeze()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the averages, start or freeze the codebooks, and refresh, as the schedule says."""
        trainer, schedule, step = self.trainer, self.trainer.schedule, state.global_step
        if step <= schedule.freeze:
            trainer.catalogue.move_averages(trainer.base.model, cast(MovingSids, trainer.sids).averages)
        if step == schedule.freeze < schedule.total:
            trainer.freeze()
        if schedule.refreshes(step) and step < schedule.total:
            logs = control.should_log
            trainer.refresh(start=step == schedule.start and trainer.config.codebook_start != "random")
            control.should_log = logs  # the log of the refresh has reset it, and the loss of this step would be left out


__all__ = ["Metrics", "UniSearchTrainer"]
