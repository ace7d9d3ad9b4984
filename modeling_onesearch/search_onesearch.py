"""What every model that emits Semantic IDs can do: hold a catalogue, score SIDs over their level's slice, and search.

Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers.utils import cached_file

from .decoding_onesearch import BeamDecoder
from .generation_onesearch import Beams, StepFunction, TrieLogitsProcessor, beam_search
from .index_onesearch import SID_INDEX_NAME, SID_UPDATES_NAME, Hit, ItemFilter, SidIndex
from .long_view_onesearch import LongViewMixin
from .search_config_onesearch import SearchConfig
from .trie_onesearch import SidTrie, TrieView

IGNORED = -100
"""Label of positions that do not count in the loss."""

HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")

NORMALISATIONS = ("children", "level", "vocabulary")

TARGET_NORMALISATIONS = ("level", "children")
"""Those of them that training can take; see `SidModelMixin.target_logits`."""

ROWS_AT_ONCE = 128
"""Rows whose logits over the whole vocabulary are held at once."""


@dataclass(frozen=True)
class SearchResult:
    """Result of `SidModelMixin.retrieve`, one entry per query in each list.

    Args:
        hits: the hits of each query, best first, without duplicates.
        beams: number of Semantic IDs that the beam search returned for each query.
        invalid: number of those that are not in the catalogue. The trie allows none, so a number above 0 is a defect.
    """

    hits: list[list[Hit]]
    beams: list[int]
    invalid: list[int]


class SidModelMixin:
    """Catalogue, SID scores and search of a language model with a plain `lm_head` and the SID layout in its configuration.

    Stands before the model's class among the parents. A subclass says how its backbone runs for beams (`_beam_decoder`) and which of its
    modules embeds the prompt (`_prompt_reader`).
    """

    sid_index: SidIndex | None = None
    """The item index: which item has which Semantic ID."""

    search_config: SearchConfig = SearchConfig()
    """Defaults of `search`, `retrieve` and `search_sids`; saved and loaded with the weights."""

    def _beam_decoder(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, long_view_codes: torch.Tensor | None = None
    ) -> BeamDecoder:
        raise NotImplementedError

    def _prompt_reader(self) -> LongViewMixin:
        raise NotImplementedError

    def _finish(self, backbone: type) -> None:
        """The end of a model's `__init__`: weights, where `AutoModel` finds the backbone, and how `generate` emits one SID."""
        config = self.config
        config.auto_map = {**(getattr(config, "auto_map", None) or {}), "AutoModel": f"modeling_onesearch.{backbone.__name__}"}
        self.post_init()
        self.generation_config.update(**_sid_generation(config.sid_levels))
        self.generation_config._from_model_config = False  # or the settings above would be dropped when loading

    # Loading and saving

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):  # noqa: ANN206 - parent's contract
        """As in transformers; also loads the search settings and the item index that lie beside the weights.

        Raises:
            ValueError: the index belongs to other codebooks than the weights, or a file is damaged.
        """
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.search_config = SearchConfig.from_pretrained(pretrained_model_name_or_path, **_hub_arguments(kwargs))
        if model.sid_index is None:  # an adapter has brought its own already
            model.load_sid_index(pretrained_model_name_or_path, **kwargs)
        return loaded

    def load_adapter(self, peft_model_id: str | None = None, *args, **kwargs):  # noqa: ANN201 - parent's
        """As in transformers; also takes over the item index that lies beside the adapter, if there is one."""
        found = super().load_adapter(peft_model_id, *args, **kwargs)
        if peft_model_id is not None:
            self.load_sid_index(peft_model_id, **{**kwargs, **(kwargs.get("adapter_kwargs") or {})})
        return found

    def load_sid_index(self, folder_or_repo: str | os.PathLike, **kwargs) -> bool:
        """Attach the item index in a folder or Hub repository, with its updates; False if there is none.

        `peft.PeftModel.from_pretrained(base, adapter)` leaves `base` with its own index: `load_sid_index(adapter)` gives it the adapter's.

        Args:
            kwargs: of these `cache_dir`, `force_download`, `local_files_only`, `token`, `revision` and `subfolder` are used.

        Raises:
            ValueError: the index belongs to other codebooks than the weights, or is damaged.
        """
        hub = _hub_arguments(kwargs)
        paths = [
            cached_file(folder_or_repo, name, _raise_exceptions_for_missing_entries=False, **hub)
            for name in (SID_UPDATES_NAME, SID_INDEX_NAME)  # the index looks for its updates beside it
        ]
        if paths[1] is not None:
            self.set_sid_index(SidIndex.load(paths[1]))
        return paths[1] is not None

    def save_pretrained(self, save_directory: str | os.PathLike, *args, **kwargs) -> None:
        """As in transformers; also writes the search settings, and the item index if one is set."""
        super().save_pretrained(save_directory, *args, **kwargs)
        if not kwargs.get("is_main_process", True):
            return
        self.search_config.save_pretrained(save_directory)
        if self.sid_index is not None:
            self.sid_index.save(os.path.join(save_directory, SID_INDEX_NAME))

    def set_sid_index(self, index: SidIndex) -> None:
        """Attach the catalogue that `search` returns items of; ValueError if its codebook sizes or its
        fingerprint differ from the model's."""
        if tuple(index.codebook_sizes) != tuple(self.config.sid_codebook_sizes):
            raise ValueError(
                f"the item index has level codebook sizes {list(index.codebook_sizes)}, the model {self.config.sid_codebook_sizes}"
            )
        if self.config.sid_fingerprint is not None and index.fingerprint != self.config.sid_fingerprint:
            raise ValueError(
                f"the item index was made with codebooks {index.fingerprint[:12]}…, the model was trained on "
                f"{self.config.sid_fingerprint[:12]}…: "
                "SIDs of one mean nothing to the other. Encode this catalogue with the model's codebooks, or train on these"
            )
        self.sid_index = index

    def embed_prompts(self, input_ids: torch.LongTensor, long_view_codes: torch.LongTensor | None = None) -> torch.Tensor:
        """Input embeddings (batch, length, width of the model) of prompts (batch, length), the long view in place of its placeholders; see
        `forward`."""
        reader = self._prompt_reader()
        return reader._embedded(reader._placed(input_ids, None, long_view_codes))

    def set_long_view_centroids(self, tables: Sequence[np.ndarray | torch.Tensor]) -> None:
        """Fill the long view's frozen codebooks, which then belong to the checkpoint.

        Args:
            tables: (sid_codebook_sizes[level], long_view_dim) centroids of each of the first `long_view_levels` levels; for residual levels
                those of the residuals, as the codebooks hold them.

        Raises:
            ValueError: the model has no long view, or the shapes are not its own.
        """
        if self._prompt_reader().long_view is None:
            raise ValueError("the model has no long view: its configuration has long_view_tokens=0")
        self._prompt_reader().long_view_pooling.set_centroids(tables)

    # Scores

    def score_targets(
        self, hidden_states: torch.Tensor, targets: torch.Tensor, normalize: str = "level"
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Log-probability of each target under its own softmax: its level's slice for SID tokens, the vocabulary for text.

        Args:
            hidden_states: (batch, length, d_model) of the decoder; targets: (batch, length) vocabulary ids or -100.
            normalize: `level`, or `children`; see `target_logits`.

        Returns:
            log-probabilities with gradient, entropies and whether the target is the most likely token, each (batch, length); zero
            where ignored.
        """
        places, columns = [], []
        for rows, logits, target in self.target_logits(hidden_states, targets, normalize):
            log_probs = logits.log_softmax(-1)
            with torch.no_grad():
                entropy = -torch.linalg.vecdot(log_probs.exp(), log_probs)
                is_top = (logits.argmax(-1) == target).float()
            places.append(rows)
            columns.append((log_probs.gather(-1, target[:, None])[:, 0], entropy, is_top))
        log_probs, entropy, is_top = (
            self._spread(hidden_states, targets, places, [row[k] for row in columns]) for k in range(3)
        )
        return log_probs, entropy.detach(), is_top.detach()

    def target_logits(
        self, hidden_states: torch.Tensor, targets: torch.Tensor, normalize: str = "level"
    ) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Logits of each target's own softmax, gathered per softmax: the levels that occur, after the vocabulary if a target is text.

        Args:
            hidden_states: (..., d_model); targets: (...) vocabulary ids or -100.
            normalize: what a SID token competes with: all codes of its `level`, or the `children` that the catalogue's trie allows
                after the codes before it, as in `search`; all others have the lowest float for a logit then. Targets that are no whole SID
                of the catalogue (a query's, say) compete with their level.

        Returns:
            Per softmax: rows (n,) in `targets.flatten()`, ascending; logits (n, width) in float32; and the targets' places in the softmax
            (n,). Empty without any target. Equal targets give equal rows, so two calls can be compared entry by entry.
        """
        if normalize not in TARGET_NORMALISATIONS:
            raise ValueError(f"normalize={normalize!r}: allowed are {' and '.join(map(repr, TARGET_NORMALISATIONS))}")
        codebook_sizes, flat = list(self.config.sid_codebook_sizes), targets.flatten()
        starts = [self.config.sid_offset + sum(codebook_sizes[:level]) for level in range(len(codebook_sizes) + 1)]
        group = torch.bucketize(flat, torch.tensor(starts, device=flat.device), right=True)
        group = group % len(starts)  # 0: text, below or above the SIDs; from 1: levels
        trie = self._require_index().trie.to(flat.device) if normalize == "children" else None
        states = None if trie is None else _states_before(trie, flat, group, starts)
        counts = group.masked_fill_(flat == IGNORED, len(starts)).bincount(minlength=len(starts) + 1).tolist()[:-1]
        order = group.argsort(stable=True)[: sum(counts)]
        hidden = hidden_states.flatten(0, -2).index_select(0, order).split(counts)
        # One cut for all levels: its gradient is written into the vocabulary's once, not once per level.
        heads = self._head_rows(starts[0], starts[-1]) if any(counts[1:]) else None
        heads = [None] * len(starts) if heads is None else [None, *heads.split(codebook_sizes)]
        ranges = [(0, self.config.vocab_size), *zip(starts, starts[1:])]
        found = []
        for level, (rows, part, head, (start, stop)) in enumerate(zip(order.split(counts), hidden, heads, ranges), -1):
            if len(rows):
                logits = (self.project(part, start, stop) if head is None else F.linear(part, head)).float()
                if states is not None and level >= 0:
                    logits = _only_children(trie, level, states[rows], logits)
                found.append((rows, logits, flat[rows] - start))
        return found

    def _spread(
        self, hidden_states: torch.Tensor, targets: torch.Tensor, places: list[torch.Tensor], values: list[torch.Tensor]
    ) -> torch.Tensor:
        """What belongs to the targets, in the shape of `targets`; zero elsewhere."""
        scores = torch.zeros(targets.numel(), dtype=torch.float32, device=targets.device)
        if places:
            return scores.index_copy(0, torch.cat(places), torch.cat(values)).view(targets.shape)
        # A batch without any target still reaches the head and all before it, which data parallelism waits for.
        return (scores + 0.0 * self.project(hidden_states.flatten(0, -2)[:1], 0, 1).float().sum()).view(targets.shape)

    def sid_loss(
        self, hidden_states: torch.Tensor, targets: torch.Tensor, num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        """Summed negative log-likelihood of `targets` over `num_items_in_batch`, or over their number in this call; see
        `score_targets`."""
        parts = self.target_logits(hidden_states, targets)
        places, columns = [rows for rows, _, _ in parts], [F.cross_entropy(*part[1:], reduction="none") for part in parts]
        count = (targets != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        total = self._spread(hidden_states, targets, places, columns).sum()
        return total / torch.as_tensor(count, device=total.device).clamp(min=1)

    def project(self, hidden_states: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Logits of the vocabulary slice [start, stop): (..., d_model) → (..., stop - start)."""
        rows = self._head_rows(start, stop)
        if rows is not None:
            return F.linear(hidden_states, rows)
        return self.lm_head(hidden_states)[..., start:stop]  # an adapter wraps the head: go through it

    def _head_rows(self, start: int, stop: int) -> torch.Tensor | None:
        """Rows [start, stop) of the head; None where they cannot be had without the others."""
        if type(self.lm_head) is nn.Linear:
            return self.lm_head.weight[start:stop]
        if type(self.lm_head).__name__ == "TrainableTokensWrapper":
            return _trained_rows(self.lm_head, start, stop)
        return None

    # Search

    def logits_processor(self, prompt_length: int | None = None, item_filter: ItemFilter | None = None) -> TrieLogitsProcessor:
        """A processor that holds `generate` to the catalogue.

        Args:
            prompt_length: tokens of `input_ids` that are no part of the SID; see [`TrieLogitsProcessor`].
            keep: only items that pass.
        """
        trie = self._require_index().trie if item_filter is None else item_filter.trie
        return TrieLogitsProcessor(trie, self.config.sid_offset, self.generation_config.eos_token_id, prompt_length)

    def search(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        num_beams: int | None = None,
        top_k: int = 10,
        **settings: Any,
    ) -> list[list[Hit]]:
        """Find items by beam search over the catalogue's SIDs: the hits of `retrieve`, which takes the same arguments.

        Returns:
            One list of [`Hit`] per query, best first, without duplicates; fewer than `top_k` where the beams hold fewer items.
        """
        return self.retrieve(input_ids, attention_mask, num_beams, top_k, **settings).hits

    @torch.no_grad()
    def retrieve(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        num_beams: int | None = None,
        top_k: int = 10,
        items_per_sid: int | None = None,
        item_filter: ItemFilter | Sequence[ItemFilter | None] | None = None,
        normalize: str = "children",
        explain: bool = False,
        long_view_codes: torch.Tensor | None = None,
        rank_by: str | None = None,
    ) -> SearchResult:
        """Find items by beam search over the catalogue's SIDs, on one state of the catalogue.

        Args:
            input_ids: (queries, length) prompts, padded on either side.
            attention_mask: (queries, length), 1 for tokens, 0 for padding.
            num_beams: SIDs kept at each level. More beams find more items and cost more time. Default: the model's `search_config`.
            top_k: number of items returned per query.
            items_per_sid: number of items that one SID expands to at most, most popular first. Default: the model's `search_config`.
            item_filter: only items that pass the filter, or one filter (or None) per query; see `SidIndex.filter`. The beam search runs
                over the SIDs of those items alone, so no beam is spent on other items.
            normalize: the set of codes that a code's probability is taken over: the `children` that the trie allows (as `generate` with
                `renormalize_logits=True`), the codes of the `level`, or the whole `vocabulary` (as `generate` without it; slower).
            explain: put the log-probability of each code into the hits.
            long_view_codes: (queries, sequences, items, levels) codes of the users' long sequences, -1 where there is no item, for prompts
                with placeholders; see `forward`.
            rank_by: `sid`, or `item`, which counts an item's share of its SID's popularity; see `SidIndex.hits`. Default: the model's
                `search_config`.

        Returns:
            Hits and numbers of beams of each query; fewer than `top_k` hits where the beams hold fewer items.

        Raises:
            ValueError: an argument is not allowed, the shapes do not fit, or the model has no item index.
        """
        items_per_sid = self.search_config.items_per_sid if items_per_sid is None else items_per_sid
        if top_k < 1 or items_per_sid < 1:
            raise ValueError(f"top_k={top_k}, items_per_sid={items_per_sid}: both must be at least 1")
        attention_mask = _checked_mask(input_ids, attention_mask)
        if long_view_codes is not None and len(long_view_codes) != len(input_ids):
            raise ValueError(f"long_view_codes of {len(long_view_codes)} rows for {len(input_ids)} prompts")
        rank_by = self.search_config.rank_by if rank_by is None else rank_by
        index = self._require_index().snapshot()
        queries = len(input_ids)
        result = SearchResult([[] for _ in range(queries)], [0] * queries, [0] * queries)
        for rows, own in _by_filter(item_filter, queries):
            codes = None if long_view_codes is None else long_view_codes[rows]
            beams = self._beams(index, input_ids[rows], attention_mask[rows], num_beams, own, normalize, codes)
            parts = beams.level_scores if explain else None
            found = index.hits(beams.leaves, beams.scores, top_k, items_per_sid, own, parts, rank_by)
            active = beams.scores > -torch.inf  # (queries, beams)
            invalid = active & (beams.leaves < 0)
            for row, hits, count, wrong in zip(rows, found, active.sum(1).tolist(), invalid.sum(1).tolist()):
                result.hits[row], result.beams[row], result.invalid[row] = hits, count, wrong
        return result

    @torch.no_grad()
    def search_sids(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        num_beams: int | None = None,
        item_filter: ItemFilter | None = None,
        normalize: str = "children",
        long_view_codes: torch.LongTensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The SIDs behind `search`.

        Returns:
            codes (queries, beams, levels), -1 throughout where there is no SID, and scores (queries, beams), -inf there; best first.
        """
        index = self._require_index().snapshot()
        attention_mask = _checked_mask(input_ids, attention_mask)
        beams = self._beams(index, input_ids, attention_mask, num_beams, item_filter, normalize, long_view_codes)
        return index.trie.sids_of(beams.leaves.flatten()).view(*beams.leaves.shape, -1), beams.scores

    def _beams(
        self,
        index: SidIndex,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        num_beams: int | None,
        item_filter: ItemFilter | None,
        normalize: str,
        long_view_codes: torch.Tensor | None,
    ) -> Beams:
        num_beams = self.search_config.num_beams if num_beams is None else num_beams
        if num_beams < 1:
            raise ValueError(f"num_beams={num_beams} must be at least 1")
        if normalize not in NORMALISATIONS:
            raise ValueError(f"normalize={normalize!r}: allowed are {', '.join(map(repr, NORMALISATIONS))}")
        trie = (index.trie if item_filter is None else index.checked(item_filter).trie).to(input_ids.device)
        step = self._beam_step(self._beam_decoder(input_ids, attention_mask, long_view_codes), normalize)
        return beam_search(step, trie, len(input_ids), num_beams, settle=normalize == "children")

    def _beam_step(self, decoder: BeamDecoder, normalize: str) -> StepFunction:
        def step(codes: torch.Tensor | None, parents: torch.Tensor | None, level: int):  # noqa: ANN202 - see StepFunction
            if codes is None:
                hidden = decoder.start()
            else:
                hidden = decoder.step(codes + self.config.sid_slice(level - 1)[0], parents)
            logits = self.project(hidden, *self.config.sid_slice(level)).float()
            if normalize == "children":
                return logits, None
            if normalize == "level":
                return logits, logits.logsumexp(-1)
            parts = [self.project(part, 0, self.config.vocab_size) for part in hidden.split(ROWS_AT_ONCE)]
            return logits, torch.cat([part.float().logsumexp(-1) for part in parts])

        return step

    def _require_index(self) -> SidIndex:
        if self.sid_index is None:
            raise ValueError(f"the model has no item index: put {SID_INDEX_NAME} beside its weights or call set_sid_index")
        return self.sid_index


def _trained_rows(head: nn.Module, start: int, stop: int) -> torch.Tensor | None:
    """Rows [start, stop) of a head whose new rows are trained by PEFT: what its `get_merged_weights` copies the whole vocabulary for.

    None while the adapter is merged, switched off or one of several.
    """
    adapter, active = head.token_adapter, head.active_adapters
    if head.disable_adapters or adapter.disable_adapters or adapter.merged or len(active) != 1:
        return None
    rows = adapter.base_layer.weight[start:stop]
    trained = torch.tensor(adapter.token_indices[active[0]], device=rows.device)
    (inside,) = torch.where((trained >= start) & (trained < stop))
    delta = adapter.trainable_tokens_delta[active[0]][inside].to(rows)
    return rows.index_copy(0, trained[inside] - start, delta)


OUTSIDE = torch.iinfo(torch.long).min
"""In place of a trie's state, where a target belongs to no SID of the catalogue."""


def _states_before(trie: SidTrie | TrieView, flat: torch.Tensor, group: torch.Tensor, starts: list[int]) -> torch.Tensor:
    """State of the trie before each target (n,), `OUTSIDE` where it belongs to no whole SID of the catalogue.

    Args:
        flat: (n,) targets, the codes of a SID one after another; group: (n,) level + 1 of each; starts: first token of each level, and the
            end.
    """
    steps = torch.arange(trie.levels, device=flat.device)
    first = (group[: max(0, len(flat) - trie.levels + 1)] == 1).nonzero()  # (SIDs, 1)
    first = first[(group[first + steps] == steps + 1).all(1)]
    codes = flat[first + steps] - torch.tensor(starts[:-1], device=flat.device)  # (SIDs, levels)
    before = [trie.start(len(codes))]
    for level in range(trie.levels):
        before.append(trie.child(level, before[-1], codes[:, level]))
    whole = trie.leaf_of(before[-1]) >= 0
    states = torch.full_like(flat, OUTSIDE)
    states[(first + steps)[whole]] = torch.stack(before[:-1], 1)[whole]
    return states


def _only_children(trie: SidTrie | TrieView, level: int, states: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Logits (n, width) of a level with the lowest float wherever `states` (n,) have no child."""
    inside = (states != OUTSIDE).nonzero()[:, 0]
    rows, codes, _ = trie.expand(level, states[inside])
    barred = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
    barred[inside] = True
    barred[inside[rows], codes] = False
    return logits.masked_fill(barred, torch.finfo(logits.dtype).min)


def _hub_arguments(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `kwargs` that say where a file of the checkpoint is loaded from."""
    return {name: kwargs[name] for name in HUB_ARGUMENTS if kwargs.get(name) is not None}


def _checked_mask(input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
    if attention_mask is None:
        return torch.ones_like(input_ids)
    if attention_mask.shape != input_ids.shape or not bool(attention_mask.any(1).all()):
        raise ValueError(
            f"input_ids {tuple(input_ids.shape)} and attention_mask {tuple(attention_mask.shape)} must have the same shape, and every "
            "query at least one token"
        )
    return attention_mask


def _sid_generation(levels: int) -> dict[str, object]:
    """Settings under which `generate` with `logits_processor` finds what `search` finds: one SID, renormalised over the trie."""
    fixed = {
        "max_new_tokens": levels or None,
        "min_new_tokens": levels or None,
        "eos_token_id": None,
        "forced_eos_token_id": None,
    }
    return {**fixed, "renormalize_logits": True}


def _by_filter(
    item_filter: ItemFilter | Sequence[ItemFilter | None] | None, queries: int
) -> list[tuple[list[int], ItemFilter | None]]:
    """Queries that are searched together, with their filter."""
    if item_filter is None or isinstance(item_filter, ItemFilter):
        return [(list(range(queries)), item_filter)]
    if len(item_filter) != queries:
        raise ValueError(
            f"{len(item_filter)} filters for {queries} queries: give one per query (None for no filter), or one for all"
        )
    groups: dict[int, tuple[list[int], ItemFilter | None]] = {}
    for row, own in enumerate(item_filter):
        groups.setdefault(id(own), ([], own))[0].append(row)
    return list(groups.values())


__all__ = ["IGNORED", "SearchResult", "SidModelMixin"]
