r"""OneSearch-V2's self-distillation (arXiv 2603.24422, "Self-distillation"): keywords enter the weights, not the prompt.

One set of weights reads each example twice: the *teacher's* prompt holds keywords (column `teacher_input_ids`), the *student's* does not.

$$\mathcal L = \mathcal L^{focal}_{CE} + \alpha_{KL}\mathcal L_{KL} + \alpha_R\mathcal L_{RDrop} + \mathcal L_{adv}$$

Every term is a number per target token, of student and teacher at the position that predicts this very token; TRL then sums and divides by
the targets of the whole optimiser step, so accumulation and several processes give what one large batch gives. (The authors' code compares
positions aligned at their tails, one off, and divides per batch.) Ours where the paper is silent:
* with R-Drop, cross entropy and teacher's KL are the mean over both dropout passes;
* the teacher runs without dropout, unless its own cross entropy is trained (`teacher_ce_weight`);
* the perturbation is of prompt embeddings, one norm per example;
* evaluation is plain: the student's negative log-likelihood.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel
from trl.trainer.utils import FusedCausalLMOutput

from onesearch.modeling_onesearch.modeling_onesearch import IGNORED

from ..sft.losses import install_head, target_states
from ..sft.sft_trainer import COLUMNS, SidSFTTrainer
from .distillation_config import SidDistillationConfig
from .losses import fgm_step, focal_cross_entropy, symmetric_kl, teacher_kl

Groups = list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
"""Rows, logits and targets per softmax; see `SidModelMixin.target_logits`."""

TEACHER = "teacher_"


class SidDistillationTrainer(SidSFTTrainer):
    """[`SidSFTTrainer`] with the loss above.

    Args:
        args: a [`SidDistillationConfig`].
        train_dataset: also has the column `teacher_input_ids`: the prompts of `input_ids` with keywords.

    Raises:
        ValueError: a term needs the teacher and the column is missing.
    """

    _tag_names = ["onesearch", "sft", "self-distillation"]
    _name = "OneSearch self-distillation"
    _columns = (*COLUMNS, "teacher_input_ids")

    def __init__(self, model: PreTrainedModel, args: SidDistillationConfig, train_dataset: Any, **kwargs: Any):
        columns = train_dataset.column_names or list(next(iter(train_dataset)))
        if args.has_teacher and "teacher_input_ids" not in columns:
            raise ValueError(
                f"the train dataset has columns {columns}; kl_weight and teacher_ce_weight need teacher_input_ids (or set both to 0)"
            )
        self._terms: dict[str, torch.Tensor] = {}
        super().__init__(model=model, args=args, train_dataset=train_dataset, **kwargs)

    def _install_head(self, model: PreTrainedModel) -> None:
        head = DistillationHead(self.args)

        def score(model: PreTrainedModel, inputs: dict[str, Any], targets: torch.Tensor) -> FusedCausalLMOutput:
            output, self._terms = head(model, inputs, targets)
            return output

        install_head(model, score)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):  # noqa: ANN001, ANN201 - parent's
        """As in TRL; logs the mean of each term per target."""
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if self._terms:
            sums = self.accelerator.reduce(torch.stack(list(self._terms.values())), "sum").tolist()
            for name, value in zip(list(self._terms)[1:], sums[1:]):
                self._metrics["train"][name].append(value / max(sums[0], 1))
        return loss


class DistillationHead:
    """Scores the targets of a batch by the terms of a [`SidDistillationConfig`]. In evaluation mode: plain log-probabilities."""

    def __init__(self, args: SidDistillationConfig):
        self.args = args
        weights = {"kl": args.kl_weight, "r_drop": args.r_drop_weight}
        weights |= {"adversarial_ce": args.adversarial_weight, "teacher_ce": args.teacher_ce_weight}
        self.weights = {"ce": 1.0, **{name: weight for name, weight in weights.items() if weight}}

    def __call__(
        self, model: PreTrainedModel, inputs: dict[str, Any], targets: torch.Tensor
    ) -> tuple[FusedCausalLMOutput, dict[str, torch.Tensor]]:
        """Score a batch.

        Args:
            inputs: of the backbone, with `teacher_…` beside the student's.
            targets: (batch, length) on the positions that predict them, or -100.

        Returns:
            What TRL's loss takes, where the "log-probability" of a target is minus the weighted sum of its terms; and, in training, the
            sum of each term over the batch, after the number of targets.
        """
        student = {name: value for name, value in inputs.items() if not name.startswith(TEACHER)}
        is_target = targets != IGNORED
        sums = {"targets": is_target.sum().float(), **dict.fromkeys(self.weights, torch.zeros((), device=targets.device))}
        if not model.training or not is_target.any():
            log_probs, entropy, is_top = model.score_targets(target_states(model, student), targets, self.args.sid_softmax)
            sums = sums if model.training else {}
        else:
            terms, first = self._terms(model, student, self._teacher_inputs(inputs), is_target, targets[is_target])
            sums |= {name: term.detach().sum() for name, term in terms.items()}
            total = sum(weight * terms[name] for name, weight in self.weights.items())
            columns = (-total, *_statistics(first))
            blank = torch.zeros(targets.shape, dtype=total.dtype, device=total.device)
            log_probs, entropy, is_top = (blank.masked_scatter(is_target, column) for column in columns)
        return FusedCausalLMOutput(log_probs=log_probs, entropy=entropy, is_top1=is_top, label_mask=is_target), sums

    def _teacher_inputs(self, inputs: dict[str, Any]) -> dict[str, Any] | None:
        """The student's inputs with the teacher's in their place; None without a teacher."""
        if not self.args.has_teacher:
            return None
        teacher = {name.removeprefix(TEACHER): value for name, value in inputs.items() if name.startswith(TEACHER)}
        return {**{name: value for name, value in inputs.items() if not name.startswith(TEACHER)}, **teacher}

    def _terms(
        self,
        model: PreTrainedModel,
        student: dict[str, Any],
        teacher: dict[str, Any] | None,
        is_target: torch.Tensor,
        targets: torch.Tensor,
    ) -> tuple[dict[str, torch.Tensor], Groups]:
        """All terms (targets,) by name, and the student's first pass."""
        args, embeddings = self.args, None
        if args.adversarial_weight:
            embeddings = _embeddings(model, student.pop("input_ids"), student.pop("long_view_codes", None))
            student = {**student, "inputs_embeds": embeddings}
        passes = [self._logits(model, student, is_target, targets) for _ in range(2 if args.r_drop_weight else 1)]
        terms = {"ce": sum(map(self._ce, passes)) / len(passes)}
        if teacher is not None:
            terms |= self._teacher_terms(model, teacher, is_target, targets, passes)
        if args.r_drop_weight:
            terms["r_drop"] = _per_target(lambda one, other: symmetric_kl(one[1], other[1]), *passes)
        if embeddings is not None:
            (gradient,) = torch.autograd.grad(terms["ce"].sum(), embeddings, retain_graph=True)
            if not model.config.is_encoder_decoder:
                gradient = _prompt_only(gradient, is_target)
            moved = {**student, "inputs_embeds": embeddings + fgm_step(gradient, args.adversarial_epsilon)}
            terms["adversarial_ce"] = self._ce(self._logits(model, moved, is_target, targets))
        return terms, passes[0]

    def _teacher_terms(
        self,
        model: PreTrainedModel,
        teacher: dict[str, Any],
        is_target: torch.Tensor,
        targets: torch.Tensor,
        passes: list[Groups],
    ) -> dict[str, torch.Tensor]:
        args = self.args
        shifted = teacher.pop("shift_labels", None)  # a decoder-only teacher's sequence is longer: its targets lie elsewhere
        is_target = is_target if shifted is None else shifted != IGNORED
        with _detached(model, not args.teacher_ce_weight):
            groups = self._logits(model, teacher, is_target, targets)
        terms = {}
        if args.kl_weight:
            kls = [_per_target(self._kl, groups, own) for own in passes]
            terms["kl"] = sum(kls) / len(kls)
        if args.teacher_ce_weight:
            terms["teacher_ce"] = _per_target(lambda part: F.cross_entropy(part[1], part[2], reduction="none"), groups)
        return terms

    def _logits(self, model: PreTrainedModel, inputs: dict[str, Any], is_target: torch.Tensor, targets: torch.Tensor) -> Groups:
        """One pass: logits of each target's own softmax. `targets` (n,) are those that `is_target` (batch, length) marks, in its order."""
        return model.target_logits(target_states(model, inputs)[is_target], targets, self.args.sid_softmax)

    def _ce(self, groups: Groups) -> torch.Tensor:
        alpha, gamma = self.args.focal_alpha, self.args.focal_gamma
        return _per_target(lambda part: focal_cross_entropy(part[1], part[2], alpha, gamma), groups)

    def _kl(self, teacher: tuple[torch.Tensor, ...], student: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return teacher_kl(teacher[1], student[1], self.args.kl_temperature, self.args.kl_over_vocabulary)


def _per_target(term: Callable[..., torch.Tensor], *groups: Groups) -> torch.Tensor:
    """`term` of the corresponding softmaxes of one or more passes, in the order of the targets: (n,)."""
    values = torch.cat([term(*parts) for parts in zip(*groups)])
    return torch.zeros_like(values).index_copy(0, torch.cat([rows for rows, _, _ in groups[0]]), values)


@torch.no_grad()
def _statistics(groups: Groups) -> tuple[torch.Tensor, torch.Tensor]:
    """Entropy of each target's softmax, and whether the target is its most likely token: (n,) each."""
    entropy = _per_target(lambda part: torch.distributions.Categorical(logits=part[1]).entropy(), groups)
    return entropy, _per_target(lambda part: (part[1].argmax(-1) == part[2]).float(), groups)


def _embeddings(model: PreTrainedModel, input_ids: torch.Tensor, long_view_codes: torch.Tensor | None) -> torch.Tensor:
    """(batch, length, d_model), the long view in place, with a gradient also where the embedding is frozen."""
    embeddings = model.embed_prompts(input_ids, long_view_codes)
    return embeddings if embeddings.requires_grad else embeddings.requires_grad_()


def _prompt_only(gradient: torch.Tensor, is_target: torch.Tensor) -> torch.Tensor:
    """Zero at the targets among the inputs of a decoder-only model: each stands one place after the position that predicts it."""
    after = F.pad(is_target[:, :-1], (1, 0))
    return gradient.masked_fill(after[..., None], 0.0)


@contextmanager
def _detached(model: PreTrainedModel, detached: bool) -> Iterator[None]:
    """Without gradient and without dropout, if `detached`."""
    if not detached:
        yield
        return
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train()


__all__ = ["DistillationHead", "SidDistillationConfig", "SidDistillationTrainer"]
