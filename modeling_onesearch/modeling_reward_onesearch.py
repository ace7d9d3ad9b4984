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

from .configuration_reward_onesearch import EVENT_KINDS, GAP_BUCKETS, TOWERS, OneSearchRewardConfig
from .publishing_onesearch import PublishMixin

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


class OneSearchRewardModel(PublishMixin, PreTrainedModel):
    """Click, purchase and click-and-purchase probabilities of candidates (OneSearch, arXiv 2509.03236, PARS, reward model)."""

    config_class = OneSearchRewardConfig
    base_model_prefix = "reward"
    main_input_name = "candidates"
    feature_mean: Tensor
    feature_scale: Tensor

    def __init__(self, config: OneSearchRewardConfig) -> None:
        super().__init__(config)
        size = config.hidden_size
        self.items = ItemEncoder(config)
        self.query = nn.Sequential(nn.Linear(config.vector_size, size), nn.LayerNorm(size))
        self.kinds = nn.Embedding(len(EVENT_KINDS), size)
        self.gaps = nn.Embedding(GAP_BUCKETS, size)
        self.history = HistoryAttention(config)
        self.register_buffer("feature_mean", torch.zeros(len(config.features)))
        self.register_buffer("feature_scale", torch.ones(len(config.features)))
        self.user = nn.Sequential(nn.Linear(3 * size, size), nn.GELU(), nn.Linear(size, size))
        self.towers = Towers(7 * size, len(config.features) + 1, config)
        self.dropout = nn.Dropout(config.dropout)
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


class ItemEncoder(nn.Module):
    """State of an item from its text vector, its codes, its facets and, if it was seen often enough, its own embedding."""

    def __init__(self, config: OneSearchRewardConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.vector = nn.Linear(config.vector_size, size)
        self.codes = nn.ModuleList(nn.Embedding(count + 1, size, padding_idx=0) for count in config.codebook_sizes)
        self.facets = nn.EmbeddingBag(max(config.num_facets, 1), size, mode="sum")
        self.ids = nn.Embedding(config.num_ids + 1, size, padding_idx=0)
        self.norm = nn.LayerNorm(size)

    def forward(self, vectors: Tensor, codes: Tensor, facets: Tensor, facet_offsets: Tensor, ids: Tensor) -> Tensor:
        """States, float ``(items, hidden_size)``; the arguments are those of `OneSearchRewardModel.forward`."""
        state = self.vector(vectors) + self.facets(facets, facet_offsets) + self.ids(ids)
        for level, table in enumerate(self.codes):
            state = state + table(codes[:, level] + 1)
        return self.norm(state)


class HistoryAttention(nn.Module):
    """Two multi-head attentions from candidates to events: to those that are like the candidate, and to the latest ones.

    The projections of both lie in one matrix each, so that a search runs few operations. A candidate without any allowed event gets zeros.
    """

    def __init__(self, config: OneSearchRewardConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads = config.attention_heads
        self.query, self.key, self.value = (StackedLinear(size, 2 * [size]) for _ in range(3))
        self.out = nn.ModuleList(nn.Linear(size, size) for _ in range(2))

    def forward(self, candidates: Tensor, events: Tensor, allowed: Tensor) -> list[Tensor]:
        """Attend.

        Args:
            candidates: ``(requests, candidates, hidden)``.
            events: ``(requests, events, hidden)``.
            allowed: whether each attention may go from a candidate to an event, ``(requests, 2, candidates, events)``.

        Returns:
            What each attention found, ``(requests, candidates, hidden)`` each.
        """
        shape = (2, self.heads, -1)
        projected = (self.query(candidates), self.key(events), self.value(events))
        query, key, value = (part.unflatten(-1, shape).permute(0, 2, 3, 1, 4).flatten(0, 1) for part in projected)
        mask = allowed.flatten(0, 1)[:, None]  # (requests × 2, 1, candidates, events)
        found = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        found = torch.where(mask.any(-1, keepdim=True), found, 0.0).transpose(1, 2).flatten(-2)
        return [out(part) for out, part in zip(self.out, found.unflatten(0, (-1, 2)).unbind(1))]


class Towers(nn.Module):
    """The three outputs: for each a hidden layer over everything, and a linear layer over the cross features alone.

    The layers of all towers lie in one matrix each; no tower reads the hidden layer of another.
    """

    def __init__(self, width: int, features: int, config: OneSearchRewardConfig) -> None:
        super().__init__()
        self.hidden = StackedLinear(width + features, len(TOWERS) * [config.tower_size])
        self.dropout = nn.Dropout(config.dropout)
        self.out = StackedLinear(config.tower_size, len(TOWERS) * [1])
        self.wide = StackedLinear(features, len(TOWERS) * [1])

    def forward(self, state: Tensor, cross: Tensor) -> Tensor:
        """Log-odds, ``(requests, candidates, 3)``."""
        hidden = self.dropout(nn.functional.gelu(self.hidden(state))).unflatten(-1, (len(TOWERS), -1))
        return (hidden * self.out.weight).sum(-1) + self.out.bias + self.wide(cross)


class StackedLinear(nn.Linear):
    """Several linear layers of one input as one: their outputs stand side by side. Each gets the initial weights of its own size.

    Args:
        inputs: width of the input.
        outputs: width of each layer's output.
    """

    def __init__(self, inputs: int, outputs: list[int]) -> None:
        super().__init__(inputs, sum(outputs))
        self.sizes = outputs


OneSearchRewardConfig.register_for_auto_class()
OneSearchRewardModel.register_for_auto_class("AutoModel")

__all__ = ["IGNORED", "OneSearchRewardModel", "RewardOutput"]
