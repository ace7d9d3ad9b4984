"""The reward model for a search without gradients: its layers as plain functions over their weights, and the items' states in one table.

A search scores some dozens of candidates, so calls of nested modules take more of its time than the products do. Here layers that read the
same input are one product, and padding of a batch is left out of everything but the attention. The results are those of
`OneSearchRewardModel.forward`, up to rounding.
Imports nothing of this package but the layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .configuration_reward_onesearch import OneSearchRewardConfig
from .products_onesearch import linear
from .reward_layers_onesearch import RewardLayers

if TYPE_CHECKING:
    from .modeling_reward_onesearch import OneSearchRewardModel

WEIGHTS_AT_ONCE = 1 << 22
"""Attention weights that are held at once; requests beyond them are scored in a further part."""

NEVER = np.float32(-1e9)
"""Added to the products of a candidate with events that it may not attend to; its exponential is 0."""


class PlainRewardModel(RewardLayers, nn.Module):
    """The layers without transformers' model class, which takes seconds to import: `RewardFunctions` reads their weights.

    Args:
        config: sizes of the layers.
    """

    def __init__(self, config: OneSearchRewardConfig) -> None:
        super().__init__()
        self.config = config
        self._add_layers(config)


class RewardFunctions:
    """Scores candidates as a reward model does. The model's weights are read once: later changes of the model are not seen.

    Args:
        model: an `OneSearchRewardModel` or `PlainRewardModel`, on the CPU in float32.
        states: states of all items, float ``(items, hidden_size)``.
        groups: numbers of each item's leaf category and of its first code, -1 without one, ``(items, 2)``.
    """

    def __init__(self, model: OneSearchRewardModel | PlainRewardModel, states: torch.Tensor, groups: np.ndarray) -> None:
        config, history, towers = model.config, model.history, model.towers
        self.states, self.heads, self.recent = states, history.heads, config.recent
        size = states.shape[1]
        # An item without a group is like no other: unequal numbers stand for "none" on the two sides, and behind the last item.
        self.candidate_groups = np.where(groups < 0, -2, groups).T.copy()  # (2, items)
        self.event_groups = np.append(groups.T, [[-1], [-1]], axis=1)  # (2, items + 1)
        with torch.no_grad():
            self.query, self.query_norm = (dict(module.named_parameters()) for module in model.query)
            self.events = (model.kinds.weight[:, None] + model.gaps.weight).flatten(0, 1).clone()  # (kinds · gaps, hidden)
            self.gaps = model.gaps.num_embeddings
            scale = (size // self.heads) ** -0.5
            hidden = towers.hidden.weight.split([size, size, towers.hidden.in_features - 2 * size], dim=1)
            of_candidate, of_query, self.of_rest = (part.contiguous() for part in hidden)
            self.of_candidate = torch.cat([history.query.weight * scale, of_candidate])
            self.of_query = torch.cat([history.query.weight * scale, of_query])
            self.query_bias = torch.cat([history.query.bias * scale, towers.hidden.bias])
            self.keys_values = torch.cat([history.key.weight, history.value.weight])
            self.keys_values_bias = torch.cat([history.key.bias, history.value.bias])
            self.out = torch.block_diag(*(out.weight for out in history.out))
            self.out_bias = torch.cat([cast(torch.Tensor, out.bias) for out in history.out])
            self.mean, self.scale = model.feature_mean.clone(), model.feature_scale.clone()
            self.first, self.second = (dict(model.user[place].named_parameters()) for place in (0, 2))
            self.to_logits = torch.block_diag(*towers.out.weight.split(1)).T.contiguous()  # (3 · tower_size, 3)
            self.wide, self.logits_bias = towers.wide.weight.clone(), towers.out.bias + towers.wide.bias

    def __call__(self, requests: Mapping[str, np.ndarray]) -> np.ndarray:
        """Log-odds of the towers, float32 ``(requests, candidates, 3)``; 0 where there is no candidate.

        Args:
            requests: the arguments ``candidates``, ``features``, ``query_vectors``, ``history``, ``kinds`` and ``gaps`` of
                `OneSearchRewardModel.forward`, which documents them. Candidates and events are rows of all items.
        """
        (count, width), events = requests["candidates"].shape, requests["history"].shape[1]
        at_once = max(1, WEIGHTS_AT_ONCE // max(2 * self.heads * width * events, 1))
        if count <= at_once:
            return self._score(requests)
        parts = [slice(start, start + at_once) for start in range(0, count, at_once)]
        return np.concatenate([self._score({name: array[part] for name, array in requests.items()}) for part in parts])

    @torch.inference_mode()
    def _score(self, requests: Mapping[str, np.ndarray]) -> np.ndarray:
        candidates, history = requests["candidates"], requests["history"]
        count, width = candidates.shape
        size = self.states.shape[1]
        places = np.flatnonzero(candidates >= 0)  # places in requests · candidates that hold a candidate
        logits = np.zeros((count * width, 3), dtype=np.float32)
        if not len(places):
            return logits.reshape(count, width, 3)
        rows, whole = candidates.ravel()[places], len(places) == count * width
        owner = None if count == 1 else torch.from_numpy(places // width)  # request of each candidate
        at = None if whole else torch.from_numpy(places)

        candidate = self.states.index_select(0, torch.from_numpy(rows))  # (all candidates, hidden)
        past = self._past(history, requests["kinds"], requests["gaps"])  # (requests, events, hidden)
        query = F.linear(torch.from_numpy(requests["query_vectors"]), **self.query)
        query = F.layer_norm(query, query.shape[1:], self.query_norm["weight"], self.query_norm["bias"])  # (requests, hidden)
        allowed, recent = self._allowed(candidates, history)
        user = self._user(query, past, recent)  # (requests, hidden)
        states = linear(candidate, self.of_candidate)  # (all candidates, 2 · hidden + 3 · tower_size)
        states += _spread(F.linear(query, self.of_query, self.query_bias), owner)
        found = self._attend(states[:, : 2 * size], past, allowed, at, (count, width))  # (all candidates, 2, hidden)

        features = torch.from_numpy(requests["features"]).view(count * width, -1)
        features = features if at is None else features.index_select(0, at)
        cross = features.sub(self.mean).div_(self.scale).clamp_(-8, 8)
        match = (candidate * _spread(user, owner)).sum(1, keepdim=True)
        rest = [candidate * _spread(query, owner), found.flatten(1), (found * candidate[:, None]).flatten(1), cross, match]
        inputs = torch.cat(rest, dim=1)
        hidden = F.gelu(linear(inputs, self.of_rest).add_(states[:, 2 * size :]))
        wide = F.linear(inputs[:, 5 * size :], self.wide, self.logits_bias)
        logits[places] = torch.addmm(wide, hidden, self.to_logits).numpy()
        return logits.reshape(count, width, 3)

    def _past(self, history: np.ndarray, kinds: np.ndarray, gaps: np.ndarray) -> torch.Tensor:
        """States of events, ``(requests, events, hidden)``; those of padding are arbitrary."""
        past = self.states.index_select(0, torch.from_numpy(np.maximum(history, 0).ravel()))
        past += self.events.index_select(0, torch.from_numpy((kinds * self.gaps + gaps).ravel()))
        return past.view(*history.shape, -1)

    def _allowed(self, candidates: np.ndarray, history: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which events each attention reads.

        Args:
            candidates: rows of items, -1 for padding, ``(requests, candidates)``.
            history: rows of items, oldest first, -1 for padding, ``(requests, events)``.

        Returns:
            bool ``(requests, 2, candidates, events)``, whether a candidate may attend to an event, and ``(requests, events)``, whether an
            event is one of the latest.
        """
        there = history >= 0
        first = there.sum(1, keepdims=True) - self.recent
        recent = there & (np.arange(history.shape[1]) >= first)
        allowed = np.empty((len(history), 2, candidates.shape[1], history.shape[1]), dtype=bool)
        own, events = self.candidate_groups[:, candidates, None], self.event_groups[:, history]
        np.equal(own[0], events[0][:, None], out=allowed[:, 0])
        allowed[:, 0] |= own[1] == events[1][:, None]
        allowed[:, 1] = recent[:, None]
        return allowed, recent

    def _user(self, query: torch.Tensor, past: torch.Tensor, recent: np.ndarray) -> torch.Tensor:
        """State of each user before any candidate is known, ``(requests, hidden)``; see `OneSearchRewardModel`.

        Args:
            query: ``(requests, hidden)``.
            past: ``(requests, events, hidden)``.
            recent: whether each event is one of the latest, ``(requests, events)``.
        """
        size, counts = query.shape[1], recent.sum(1)
        shares = np.zeros((len(recent), 2, recent.shape[1]), dtype=np.float32)  # of the mean, and 1 at the last event
        shares[:, 0] = recent / np.maximum(counts, 1)[:, None]
        last = recent.shape[1] - 1 - recent[:, ::-1].argmax(1)
        shares[np.arange(len(recent)), 1, last] = counts > 0
        pooled = torch.bmm(torch.from_numpy(shares), past).flatten(1)
        user = F.linear(torch.cat([query, pooled], dim=1), **self.first)
        return F.linear(F.gelu(user), **self.second) / size**0.5

    def _attend(
        self,
        query: torch.Tensor,
        past: torch.Tensor,
        allowed: np.ndarray,
        at: torch.Tensor | None,
        shape: tuple[int, int],
    ) -> torch.Tensor:
        """What both attentions found.

        Args:
            query: queries of both, ``(all candidates, 2 · hidden)``.
            past: ``(requests, events, hidden)``.
            allowed: ``(requests, 2, candidates, events)``.
            at: places of the candidates in requests · candidates; None where every place holds one.
            shape: requests and candidates.

        Returns:
            ``(all candidates, 2, hidden)``.
        """
        (count, width), size = shape, past.shape[2]
        if at is not None:
            query = query.new_zeros(count * width, 2 * size).index_copy_(0, at, query)
        heads = (count, -1, 2 * self.heads, size // self.heads)
        keys, values = linear(past, self.keys_values, self.keys_values_bias).split(2 * size, dim=2)
        query = query.view(heads).transpose(1, 2).flatten(0, 1)  # (requests · 2 · heads, candidates, head size)
        keys = keys.reshape(heads).permute(0, 2, 3, 1).flatten(0, 1)  # (requests · 2 · heads, head size, events)
        values = values.reshape(heads).transpose(1, 2).flatten(0, 1)
        weights = torch.bmm(query, keys)
        never = torch.from_numpy(np.where(allowed, np.float32(0), NEVER))
        weights.view(count, 2, self.heads, width, -1).add_(never[:, :, None])
        mixed = torch.bmm(weights.softmax(-1), values)
        mixed = mixed.view(count, 2 * self.heads, width, -1).transpose(1, 2).reshape(count * width, 2, size)
        any_allowed = np.asarray(allowed.any(-1))  # (requests, 2, candidates)
        if not any_allowed.all():  # without any event there is nothing to find
            mixed.mul_(torch.from_numpy(any_allowed.transpose(0, 2, 1).reshape(-1, 2, 1)))
        mixed = mixed if at is None else mixed.index_select(0, at)
        return linear(mixed.flatten(1), self.out, self.out_bias).view(-1, 2, size)


def _spread(states: torch.Tensor, owner: torch.Tensor | None) -> torch.Tensor:
    """Rows of requests for each of their candidates; None for a single request, whose row fits all."""
    return states if owner is None else states.index_select(0, owner)


__all__ = ["PlainRewardModel", "RewardFunctions"]
