r"""The loss of a Semantic ID with soft targets: cross-entropy and divergence from the teacher, node by node along its path.

$$\ell = \sum_l (1 - w) \cdot \bigl(-\log p(c_l \mid c_1 \dots c_{l-1})\bigr)
+ w \cdot KL\bigl(q(\cdot \mid c_1 \dots c_{l-1}) \,\|\, p(\cdot \mid c_1 \dots c_{l-1})\bigr)$$

The teacher's lists were made before the training, so that the teacher costs no forward pass here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

from onesearch.modeling_onesearch.modeling_onesearch import IGNORED
from onesearch.modeling_onesearch.scores_onesearch import TargetGroup, TargetScores
from onesearch.modeling_onesearch.sid_model_onesearch import SidModelMixin

from ..sft.objectives import LabelLosses, scores_of
from ..sft.target_paths import TEXT, SidLayout, TargetPaths
from .node_targets import code_distribution, divergence, node_weights

SOFT = "soft_"
"""First letters of the entries of a batch that `SoftCollator` adds."""


class SoftRows(NamedTuple):
    """The rows of a batch with a teacher's list.

    Args:
        paths: their rows in the batch, and the codes of their targets, (n, levels).
        sids: (n, items, levels) codes of the teacher's items.
        masses: (n, items) masses.
        alone: (n,) whether no target was observed: then the teacher's share is 1.
    """

    paths: TargetPaths
    sids: torch.Tensor
    masses: torch.Tensor
    alone: torch.Tensor


class SoftObjective:
    """Scores the targets of a batch; an [`Objective`] of the model's `forward`. In evaluation mode: plain log-probabilities.

    Args:
        weight: w, share of the teacher.
        paths: number of further paths per row, drawn from the teacher's masses by torch's generator.
        smoothing: ε of the labels of the cross-entropy; see `onesearch.trainers.sft.objectives`.
    """

    def __init__(self, weight: float, paths: int = 0, smoothing: float = 0.0) -> None:
        self.weight, self.paths, self.smoothing = weight, paths, smoothing
        self.terms: dict[str, torch.Tensor] = {}

    def __call__(self, model: SidModelMixin, inputs: dict[str, Any], targets: torch.Tensor) -> TargetScores:
        """Score a batch.

        Args:
            model: the model.
            inputs: inputs of the backbone, and what `SoftCollator` adds.
            targets: (batch, length) on the positions that predict them, or -100.

        Returns:
            Scores whose "log-probability" of a target is minus its loss. `terms` then holds the number of targets with a soft target, and
            the sum of their divergences.
        """
        soft = {name: inputs.pop(name) for name in list(inputs) if name.startswith(SOFT)}
        outputs = model.model(**inputs)
        hidden = outputs.last_hidden_state
        groups = model.target_logits(hidden, targets) if model.training else []
        self.terms = dict.fromkeys(("targets", "soft_kl"), hidden.new_zeros(())) if model.training else {}
        if not groups:
            return model.score_targets(hidden, targets)
        rows = self._rows(model, targets, soft)
        further = None
        if self.paths and len(rows.alone):
            drawn = rows.masses.multinomial(self.paths, replacement=True)
            codes = rows.sids.gather(1, drawn[..., None].expand(-1, -1, rows.sids.shape[2]))  # (n, paths, levels)
            further = _divergences_of_paths(model, inputs, outputs, targets, rows, codes)
        losses = SoftLosses(LabelLosses(model, targets, self.smoothing), rows, self.weight, self.paths, further)
        scores = scores_of(groups, targets, losses)
        self.terms = {"targets": losses.count, "soft_kl": losses.total}
        return scores

    def _rows(self, model: SidModelMixin, targets: torch.Tensor, soft: dict[str, torch.Tensor]) -> SoftRows:
        """The rows with a list; a row of the batch without one has masses of 0."""
        layout = SidLayout.of(model.config)
        found = TargetPaths.of(targets, layout)
        listed = soft["soft_masses"][found.rows].sum(1) > 0
        rows, codes = found.rows[listed], found.codes[listed]
        place = torch.full_like(found.place, -1).index_copy(0, rows, torch.arange(len(rows), device=rows.device))
        return SoftRows(
            TargetPaths(rows, codes, place), soft["soft_sids"][rows], soft["soft_masses"][rows], soft["soft_alone"][rows]
        )


class SoftLosses:
    """Loss of each target of one batch; see the formula above.

    Args:
        labels: cross-entropy of the targets; it is a `LabelLosses`.
        rows: the rows with a teacher's list.
        weight: w, share of the teacher.
        paths: number of further paths per row.
        further: (n, levels) sum of the divergences of the further paths; None without any.
    """

    def __init__(self, labels: LabelLosses, rows: SoftRows, weight: float, paths: int, further: torch.Tensor | None) -> None:
        self.labels, self.rows, self.weight, self.paths, self.further = labels, rows, weight, paths, further
        self.weights = node_weights(rows.sids, rows.masses, rows.paths.codes[:, None])[:, 0]  # (n, levels, items)
        self.count = self.total = rows.masses.new_zeros(())

    def __call__(self, group: TargetGroup, log_probs: torch.Tensor) -> torch.Tensor:
        """See `LabelLosses`."""
        loss = self.labels(group, log_probs)
        level = self.labels.layout.level_of(group, self.labels.targets)
        path = self.rows.paths.place[group.rows // self.labels.targets.shape[1]]
        inside = (path >= 0).nonzero()[:, 0]
        if level == TEXT or not len(inside):
            return loss
        path = path[inside]
        weights = self.weights[path, level]
        expected = code_distribution(weights, self.rows.sids[path, :, level], log_probs.shape[1])
        taught = divergence(expected, log_probs[inside])
        if self.further is not None:
            taught = (taught + self.further[path, level]) / (1 + self.paths)
        alone = self.rows.alone[path]
        # An observed target keeps its whole cross-entropy where the teacher has no item under the node.
        whole = (weights.sum(-1) == 0) & ~alone
        share = torch.where(alone, 1.0, self.weight)
        removed = torch.where(whole, 0.0, share)
        self.count = self.count + len(inside)
        self.total = self.total + taught.detach().sum()
        return loss.index_add(0, inside, share * taught - removed * loss[inside])


def _divergences_of_paths(
    model: Any, inputs: dict[str, Any], outputs: Any, targets: torch.Tensor, rows: SoftRows, codes: torch.Tensor
) -> torch.Tensor:
    """Sum over the further paths of a row of the divergence at each level, (n, levels).

    Args:
        model: the model.
        inputs: inputs of the backbone for the batch.
        outputs: its outputs; an encoder's states are used again.
        targets: (batch, length) vocabulary ids, or -100.
        rows: the rows with a teacher's list.
        codes: (n, paths, levels) codes of the further paths.
    """
    count, paths, levels = codes.shape
    layout = SidLayout.of(model.config)
    tokens = layout.tokens(codes)
    if model.config.is_encoder_decoder:
        states, mask = outputs.encoder_last_hidden_state[rows.paths.rows], inputs["attention_mask"][rows.paths.rows]
        hidden = _states_of_paths(model, tokens, states, mask)
    else:
        hidden = _states_of_sequences(model, inputs, targets, rows.paths.rows, tokens)
    weights = node_weights(rows.sids, rows.masses, codes)  # (n, paths, levels, items)
    wanted = tokens.view(count * paths, levels)
    found = hidden.new_zeros((count * paths, levels), dtype=torch.float32)
    for group in model.target_logits(hidden, wanted):
        level, path = layout.level_of(group, wanted), group.rows // levels
        expected = code_distribution(
            weights.flatten(0, 1)[path, level], rows.sids[path // paths, :, level], group.logits.shape[1]
        )
        values = divergence(expected, group.logits.log_softmax(-1))
        found = found.index_put((path, torch.full_like(path, level)), values)
    return found.view(count, paths, levels).sum(1)


def _states_of_paths(model: Any, tokens: torch.Tensor, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """States of a decoder at the nodes of several paths per prompt, in one pass: the paths stand behind each other in one sequence.

    A node attends to the nodes before it on its own path alone, and each path begins at the first position. Keys and values of the prompt
    are therefore computed once, not once per path.

    Args:
        model: an encoder-decoder.
        tokens: (n, paths, levels) vocabulary ids of the paths.
        states: (n, source, d_model) states of the encoder.
        mask: (n, source) its attention mask.

    Returns:
        (n · paths, levels, d_model) states that predict the tokens.
    """
    count, paths, levels = tokens.shape
    decoder = model.model.decoder
    read = torch.full_like(tokens, model.config.decoder_start_token_id)
    read[..., 1:] = tokens[..., :-1]
    place = torch.arange(paths * levels, device=tokens.device)
    moved = decoder.embed_positions(tokens, position_ids=place % levels) - decoder.embed_positions(tokens, position_ids=place)
    seen = (place[:, None] // levels == place // levels) & (place[:, None] >= place)
    blocked = torch.zeros(seen.shape, dtype=states.dtype, device=states.device).masked_fill(
        ~seen, torch.finfo(states.dtype).min
    )
    outputs = decoder(
        inputs_embeds=decoder.embed_tokens(read.flatten(1)) + moved,
        attention_mask=blocked.expand(count, 1, -1, -1),
        encoder_hidden_states=states,
        encoder_attention_mask=mask,
        use_cache=False,
    )
    return outputs.last_hidden_state.unflatten(1, (paths, levels)).flatten(0, 1)


def _states_of_sequences(
    model: Any, inputs: dict[str, Any], targets: torch.Tensor, rows: torch.Tensor, tokens: torch.Tensor
) -> torch.Tensor:
    """States of a decoder-only model at the nodes of several paths per prompt: each path is a sequence of its own behind the prompt.

    Args:
        model: a decoder-only model.
        inputs: inputs of the backbone for the batch.
        targets: (batch, length) vocabulary ids, or -100.
        rows: (n,) rows of the batch that have the paths.
        tokens: (n, paths, levels) vocabulary ids of the paths.

    Returns:
        (n · paths, levels, d_model) states that predict the tokens.
    """
    owner = rows.repeat_interleave(tokens.shape[1])  # row of the batch of each path
    is_target = targets[owner] != IGNORED
    behind = nn.functional.pad(is_target[:, :-1], (1, 0))  # a target stands one place behind the position that predicts it
    given = {name: value[owner] if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
    given["input_ids"] = given["input_ids"].masked_scatter(behind, tokens.flatten())
    hidden = model.model(**given).last_hidden_state
    return hidden[is_target].view(len(owner), tokens.shape[2], -1)


__all__ = ["SoftObjective"]
