"""OneSearch's reward model: three towers (click, purchase after a click, both) over a candidate, the query and the user's whole history.

The history is read as in SIM (arXiv 2006.05639): a general search keeps the events that share the candidate's category or the first code
of its Semantic ID, and an exact search attends from the candidate to them. A second attention reads the latest events.
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_reward_onesearch import OneSearchRewardConfig
from .publishing_onesearch import PublishMixin
from .reward_layers_onesearch import RewardLayers, StackedLinear

IGNORED = -100.0
"""Label of a candidate that a tower does not learn from."""


@dataclass
class RewardOutput(ModelOutput):
    """Output of `OneSearchRewardModel`.

    Args:
        loss: mean binary cross-entropy over the labels that are not ignored; None without labels.
        logits: log-odds of each tower, float ``(requests, candidates, 3)``, in the order of `TOWERS`.
        matches: how well each item of the batch fits each request's user and query, float ``(requests, items)``; None without labels.
    """

    loss: Tensor | None = None
    logits: Tensor | None = None
    matches: Tensor | None = None


class OneSearchRewardModel(RewardLayers, PublishMixin, PreTrainedModel):
    """Click, purchase and click-and-purchase probabilities of candidates (OneSearch, arXiv 2509.03236, PARS, reward model)."""

    config_class = OneSearchRewardConfig
    base_model_prefix = "reward"
    main_input_name = "candidates"

    def __init__(self, config: OneSearchRewardConfig) -> None:
        super().__init__(config)
        self._add_layers(config)
        self.post_init()

    def forward(
        self,
        candidates: Tensor,
        features: Tensor,
        query_vectors: Tensor,
        history: Tensor,
        kinds: Tensor,
        gaps: Tensor,
        item_groups: Tensor,
        item_vectors: Tensor | None = None,
        item_codes: Tensor | None = None,
        item_facets: Tensor | None = None,
        item_facet_offsets: Tensor | None = None,
        item_ids: Tensor | None = None,
        item_states: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> RewardOutput:
        """Score candidates. The items that the requests name are given once each; `candidates` and `history` hold their rows.

        Args:
            candidates: rows of items, -1 for padding, long ``(requests, candidates)``.
            features: cross features of the request and the candidate, float ``(requests, candidates, features)``.
            query_vectors: text vectors of the queries, float ``(requests, vector_size)``.
            history: rows of items, oldest first, -1 for padding, long ``(requests, events)``.
            kinds: number of each event's kind in `EVENT_KINDS`, long ``(requests, events)``.
            gaps: bucket of the time between each event and the request, 0 if unknown, long ``(requests, events)``.
            item_groups: numbers of each item's leaf category and of the first code of its Semantic ID, -1 without one, long ``(items, 2)``.
            item_vectors: text vectors, float ``(items, vector_size)``.
            item_codes: codes of the Semantic IDs, -1 where an item has none, long ``(items, levels)``.
            item_facets: facet numbers of all items one after the other, long ``(entries,)``.
            item_facet_offsets: where each item's facets begin, long ``(items,)``.
            item_ids: number of each item's own embedding, 0 for items without one, long ``(items,)``.
            item_states: states of the items, float ``(items, hidden_size)``, where `items` has computed them before; the five arguments
                above are not read then.
            labels: 0, 1 or `IGNORED` for each tower, float ``(requests, candidates, 3)``.
        """
        if item_states is None:
            item_states = self.items(item_vectors, item_codes, item_facets, item_facet_offsets, item_ids)
        rows, events = candidates.clamp(min=0), history.clamp(min=0)
        candidate = item_states[rows]  # (requests, candidates, hidden)
        past = item_states[events] + self.kinds(kinds) + self.gaps(gaps)  # (requests, events, hidden)
        query = self.query(query_vectors)[:, None].expand_as(candidate)
        there = (history >= 0)[:, None]  # (requests, 1, events)
        alike = _share_a_group(item_groups[rows], item_groups[events])
        remaining = there.flip(-1).cumsum(-1).flip(-1)  # events from this one on, counted from the latest
        recent = (there & (remaining <= self.config.recent)).expand_as(alike)
        similar, latest = self.history(candidate + query, past, torch.stack([there & alike, recent], dim=1))
        user = self._user(query[:, 0], past, recent[:, 0])  # (requests, hidden)
        match = candidate @ user[:, :, None]  # (requests, candidates, 1)
        cross = ((features - self.feature_mean) / self.feature_scale).clamp(-8, 8)
        cross = torch.cat([cross, match], dim=-1)
        parts = [candidate, query, candidate * query, similar, latest, candidate * similar, candidate * latest, cross]
        logits = self.towers(self.dropout(torch.cat(parts, dim=-1)), cross)
        if labels is None:
            return RewardOutput(logits=logits)
        known = labels != IGNORED
        loss = nn.functional.binary_cross_entropy_with_logits(logits[known], labels[known])
        return RewardOutput(loss=loss, logits=logits, matches=user @ item_states.T)

    def _user(self, query: Tensor, past: Tensor, recent: Tensor) -> Tensor:
        """State of each user before any candidate is known, from the query, the mean of the latest events and the very last one.

        Args:
            query: ``(requests, hidden)``.
            past: ``(requests, events, hidden)``.
            recent: whether each event is one of the latest, ``(requests, events)``.

        Returns:
            ``(requests, hidden)``, divided by √hidden, so that its inner products with items are of moderate size.
        """
        share = recent / recent.sum(-1, keepdim=True).clamp(min=1)  # (requests, events)
        end = recent.cumsum(-1) == recent.sum(-1, keepdim=True)
        last = (recent & end).to(past.dtype)  # 1 at the last event
        pooled = torch.stack([share, last], dim=1) @ past  # (requests, 2, hidden)
        return self.user(torch.cat([query, pooled.flatten(1)], dim=-1)) / query.shape[-1] ** 0.5

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, OneSearchRewardModel):
            init.zeros_(module.feature_mean)
            init.ones_(module.feature_scale)
        elif isinstance(module, nn.Linear):
            for part in module.weight.split(module.sizes) if isinstance(module, StackedLinear) else (module.weight,):
                nn.init.xavier_uniform_(part)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding | nn.EmbeddingBag):
            nn.init.normal_(module.weight, std=0.05)


def _share_a_group(candidates: Tensor, events: Tensor) -> Tensor:
    """Whether a candidate and an event have a number in common, bool ``(requests, candidates, events)``.

    Args:
        candidates: numbers of each candidate's groups, -1 without one, long ``(requests, candidates, groups)``.
        events: those of each event, long ``(requests, events, groups)``.
    """
    own = candidates.masked_fill(candidates < 0, -2)[:, :, None]  # an item without a group is like no other
    return (own == events[:, None]).any(-1)


OneSearchRewardConfig.register_for_auto_class()
OneSearchRewardModel.register_for_auto_class("AutoModel")

__all__ = ["IGNORED", "OneSearchRewardModel", "RewardOutput"]
