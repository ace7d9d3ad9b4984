r"""OneSearch-V2's self-distillation (arXiv 2603.24422, "Self-distillation"): keywords enter the weights, not the prompt.

One set of weights reads each example twice: the *teacher's* prompt holds keywords (column `teacher_input_ids`), the *student's* does not.

$$\mathcal L = \mathcal L^{focal}_{CE} + \alpha_{KL}\mathcal L_{KL} + \alpha_R\mathcal L_{RDrop} + \mathcal L_{adv}$$

Every term is a number per target token, of student and teacher at the position that predicts this very token. The loss is their sum over
the number of targets in the whole optimiser step, so accumulation and several processes give the loss of one large batch. (The authors'
code compares positions aligned at their tails, one off, and divides per batch.) Our choices where the paper gives none:
* with R-Drop, the cross entropy and the teacher's KL are means over both dropout passes;
* the teacher runs without dropout, unless its own cross entropy is trained (`teacher_ce_weight`);
* the perturbation is of prompt embeddings, with one norm per example, relative to that of the example's embeddings (`adversarial.py`);
* evaluation is plain: the student's negative log-likelihood.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from onesearch.modeling_onesearch.history_onesearch import PromptViews
from onesearch.modeling_onesearch.modeling_onesearch import IGNORED
from onesearch.modeling_onesearch.scores_onesearch import TargetGroup, TargetScores
from onesearch.modeling_onesearch.sid_model_onesearch import SidModelMixin

from ..lora import base_of
from ..sft.sft_trainer import COLUMNS, SidSFTTrainer
from .adversarial import LARGE_RATIO, SOUND_RATIO, perturb, prompt_embeddings, prompt_tokens
from .distillation_config import SidDistillationConfig
from .dropout_check import refuse_r_drop_without_dropout
from .losses import focal_cross_entropy, symmetric_kl, teacher_kl

logger = logging.getLogger(__name__)

Groups = list[TargetGroup]
"""Logits of targets per softmax; see `ScoringMixin.target_logits`."""

TEACHER = "teacher_"

RATIO = "adversarial_ratio"
"""Entry of the training log: mean norm of the perturbations, divided by the mean norm of the embeddings that they move."""


class SidDistillationTrainer(SidSFTTrainer):
    """[`SidSFTTrainer`] with the loss above.

    Args:
        args: a [`SidDistillationConfig`].
        train_dataset: also has the column `teacher_input_ids`: the prompts of `input_ids` with keywords.

    Raises:
        ValueError: a term needs the teacher and the column is missing, or R-Drop is on for a model without dropout.
    """

    _tag_names = ["onesearch", "sft", "self-distillation"]
    _name = "OneSearch self-distillation"
    _columns = (*COLUMNS, "teacher_input_ids")

    def __init__(self, model: PreTrainedModel, args: SidDistillationConfig, train_dataset: Any, **kwargs: Any) -> None:
        columns = train_dataset.column_names or list(next(iter(train_dataset)))
        if args.has_teacher and "teacher_input_ids" not in columns:
            raise ValueError(
                f"the train dataset has columns {columns}; kl_weight and teacher_ce_weight need teacher_input_ids (or set both to 0)"
            )
        self._terms: dict[str, torch.Tensor] = {}
        self._warned = False
        self._head = DistillationHead(args)
        self._objective = self._score
        super().__init__(model=model, args=args, train_dataset=train_dataset, **kwargs)
        refuse_r_drop_without_dropout(args, self.model, base_of(model).config)

    def _score(self, model: SidModelMixin, inputs: dict[str, Any], targets: torch.Tensor) -> TargetScores:
        """The objective that the model's `forward` calls."""
        scores, self._terms = self._head(model, inputs, targets)
        return scores

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """As in [`SidSFTTrainer`]; also logs the mean of each term per target, and warns once of a perturbation of the embeddings' size."""
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        means = self._log_terms(self._terms)
        if RATIO in means:
            self._watch_perturbation(means[RATIO])
        return loss

    def _watch_perturbation(self, ratio: float) -> None:
        """Warn once of perturbations that are so large that they hide the prompt."""
        if self._warned or ratio < LARGE_RATIO:
            return
        self._warned = True
        logger.warning(
            "the adversarial perturbation is %.2f times as large as a token's embedding (sound: below %.1f), so that the perturbed prompts "
            "say little: a model may then learn nothing but the popularity of items. Set adversarial_epsilon to %.3g or less",
            ratio,
            LARGE_RATIO,
            self._head.args.adversarial_epsilon * SOUND_RATIO / ratio,
        )


class DistillationHead:
    """Scores the targets of a batch by the terms of a [`SidDistillationConfig`]. In evaluation mode: plain log-probabilities.

    Args:
        args: weights and settings of the terms.
    """

    def __init__(self, args: SidDistillationConfig) -> None:
        self.args = args
        weights = {"kl": args.kl_weight, "r_drop": args.r_drop_weight}
        weights |= {"adversarial_ce": args.adversarial_weight, "teacher_ce": args.teacher_ce_weight}
        self.weights = {"ce": 1.0, **{name: weight for name, weight in weights.items() if weight}}
        self.noted = (*self.weights, RATIO) if args.adversarial_weight else tuple(self.weights)

    def __call__(
        self, model: SidModelMixin, inputs: dict[str, Any], targets: torch.Tensor
    ) -> tuple[TargetScores, dict[str, torch.Tensor]]:
        """Score a batch.

        Args:
            model: the model.
            inputs: inputs of the backbone, with `teacher_…` beside the student's.
            targets: (batch, length) on the positions that predict them, or -100.

        Returns:
            Scores whose "log-probability" of a target is minus the weighted sum of its terms; and, in training, the number of targets and
            the sum of each term over the batch, also of `RATIO`.
        """
        student = {name: value for name, value in inputs.items() if not name.startswith(TEACHER)}
        is_target = targets != IGNORED
        sums = {"targets": is_target.sum().float(), **dict.fromkeys(self.noted, torch.zeros((), device=targets.device))}
        if not model.training or not is_target.any():
            scores = model.score_targets(model.model(**student).last_hidden_state, targets)
            return scores, sums if model.training else {}
        terms, first = self._terms(model, student, self._teacher_inputs(inputs), is_target, targets[is_target])
        sums |= {name: term.detach().sum() for name, term in terms.items()}
        total = _total([weight * terms[name] for name, weight in self.weights.items()])
        blank = torch.zeros(targets.shape, dtype=total.dtype, device=total.device)
        log_probs, entropy, is_top = (blank.masked_scatter(is_target, column) for column in (-total, *_statistics(first)))
        return TargetScores(log_probs, entropy, is_top, is_target), sums

    def _teacher_inputs(self, inputs: dict[str, Any]) -> dict[str, Any] | None:
        """The student's inputs with the teacher's in their place; None without a teacher."""
        if not self.args.has_teacher:
            return None
        student = {name: value for name, value in inputs.items() if not name.startswith(TEACHER)}
        return {**student, **{name.removeprefix(TEACHER): inputs[name] for name in inputs if name.startswith(TEACHER)}}

    def _terms(
        self,
        model: SidModelMixin,
        student: dict[str, Any],
        teacher: dict[str, Any] | None,
        is_target: torch.Tensor,
        targets: torch.Tensor,
    ) -> tuple[dict[str, torch.Tensor], Groups]:
        """All terms (targets,) by name, with `RATIO` if the prompts are perturbed, and the student's first pass."""
        args, embeddings = self.args, None
        if args.adversarial_weight:
            views = {name: student.pop(name, None) for name in PromptViews._fields}
            embeddings = prompt_embeddings(model, student.pop("input_ids"), views)
            student = {**student, "inputs_embeds": embeddings}
        passes = [self._logits(model, student, is_target, targets) for _ in range(2 if args.r_drop_weight else 1)]
        terms = {"ce": _total([self._ce(own) for own in passes]) / len(passes)}
        if teacher is not None:
            terms |= self._teacher_terms(model, teacher, is_target, targets, passes)
        if args.r_drop_weight:
            terms["r_drop"] = _per_target(lambda one, other: symmetric_kl(one.logits, other.logits), *passes)
        if embeddings is not None:
            is_prompt = prompt_tokens(student["attention_mask"], is_target, model.config.is_encoder_decoder)
            moved = perturb(embeddings, terms["ce"].sum(), is_prompt, args)
            inputs = {**student, "inputs_embeds": moved.embeddings}
            terms["adversarial_ce"] = self._ce(self._logits(model, inputs, is_target, targets))
            terms[RATIO] = moved.ratios[:, None].expand(is_target.shape)[is_target]
        return terms, passes[0]

    def _teacher_terms(
        self,
        model: SidModelMixin,
        teacher: dict[str, Any],
        is_target: torch.Tensor,
        targets: torch.Tensor,
        passes: list[Groups],
    ) -> dict[str, torch.Tensor]:
        """The terms (targets,) that need the teacher, by name."""
        args = self.args
        shifted = teacher.pop("shift_labels", None)  # a decoder-only teacher's sequence is longer: its targets lie elsewhere
        is_target = is_target if shifted is None else shifted != IGNORED
        with _detached(model, not args.teacher_ce_weight):
            groups = self._logits(model, teacher, is_target, targets)
        terms = {}
        if args.kl_weight:
            terms["kl"] = _total([_per_target(self._kl, groups, own) for own in passes]) / len(passes)
        if args.teacher_ce_weight:
            terms["teacher_ce"] = _per_target(
                lambda group: F.cross_entropy(group.logits, group.places, reduction="none"), groups
            )
        return terms

    def _logits(self, model: SidModelMixin, inputs: dict[str, Any], is_target: torch.Tensor, targets: torch.Tensor) -> Groups:
        """One pass: logits of each target's own softmax. `targets` (n,) are those that `is_target` (batch, length) marks, in its order."""
        return model.target_logits(model.model(**inputs).last_hidden_state[is_target], targets)

    def _ce(self, groups: Groups) -> torch.Tensor:
        alpha, gamma = self.args.focal_alpha, self.args.focal_gamma
        return _per_target(lambda group: focal_cross_entropy(group.logits, group.places, alpha, gamma), groups)

    def _kl(self, teacher: TargetGroup, student: TargetGroup) -> torch.Tensor:
        return teacher_kl(teacher.logits, student.logits, self.args.kl_temperature, self.args.kl_over_vocabulary)


def _total(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Sum of at least one tensor."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _per_target(term: Callable[..., torch.Tensor], *passes: Groups) -> torch.Tensor:
    """`term` of the corresponding softmaxes of one or more passes, in the order of the targets: (n,)."""
    values = torch.cat([term(*groups) for groups in zip(*passes)])
    rows = torch.cat([group.rows for group in passes[0]])
    return torch.zeros_like(values).index_copy(0, rows, values)


@torch.no_grad()
def _statistics(groups: Groups) -> tuple[torch.Tensor, torch.Tensor]:
    """Entropy of each target's softmax, and whether the target is its most likely token: (n,) each."""
    entropy = _per_target(lambda group: torch.distributions.Categorical(logits=group.logits).entropy(), groups)
    return entropy, _per_target(lambda group: (group.logits.argmax(-1) == group.places).float(), groups)


@contextmanager
def _detached(model: SidModelMixin, detached: bool) -> Iterator[None]:
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
