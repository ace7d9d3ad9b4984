"""Search of a model that emits Semantic IDs: prompts in, items of the catalogue out.

Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .catalogue_onesearch import SidIndex
from .filters_onesearch import ItemFilter
from .free_search_onesearch import free_beams
from .generation_onesearch import Beams, StepFunction, beam_search
from .given_items_onesearch import merged
from .given_scores_onesearch import GivenScores, score_given
from .history_onesearch import PromptViews
from .hits_onesearch import Hit
from .logits_processor_onesearch import TrieLogitsProcessor
from .plain_decoding_onesearch import BeamDecoder
from .sampling_onesearch import SidSamples, sample_without_replacement
from .scores_onesearch import ScoringMixin
from .search_config_onesearch import SearchConfig, check_count
from .trie_onesearch import SidTrie
from .trie_view_onesearch import TrieView

if TYPE_CHECKING:
    from torch import nn
    from transformers import GenerationConfig

NORMALISATIONS = ("children", "level", "vocabulary")
"""Sets of codes that a search can take the probability of a code over."""

ROWS_AT_ONCE = 128
"""Number of rows whose logits over the whole vocabulary are held at once."""


@dataclass(frozen=True)
class SearchResult:
    """Result of `SearchMixin.retrieve`, one entry per query in each list.

    Args:
        hits: the hits of each query, best first, without duplicates.
        beams: number of Semantic IDs that the beam search returned for each query.
        invalid: number of those that are not in the catalogue. The trie allows none, so a number above 0 is a defect.
        sids: those in the catalogue, best first, each the codes of its levels; empty unless `with_sids` asks for them.
    """

    hits: list[list[Hit]]
    beams: list[int]
    invalid: list[int]
    sids: list[list[tuple[int, ...]]]


class SearchMixin(ScoringMixin):
    """Beam search over the Semantic IDs of a catalogue."""

    if TYPE_CHECKING:
        model: nn.Module
        generation_config: GenerationConfig
        _beam_decoder: Callable[[Any, torch.Tensor, torch.Tensor, PromptViews], BeamDecoder]
        """Runs the backbone for the beams of a search."""

    search_config: SearchConfig = SearchConfig()
    """Defaults of `search`, `retrieve` and `search_sids`; saved and loaded with the weights. `exclude_history` is applied by `Searcher`,
    which knows the items of the history."""

    def logits_processor(self, prompt_length: int | None = None, item_filter: ItemFilter | None = None) -> TrieLogitsProcessor:
        """A logits processor with which `generate` emits Semantic IDs of the catalogue only.

        Args:
            prompt_length: number of tokens of `input_ids` that precede the SID; see [`TrieLogitsProcessor`].
            item_filter: only SIDs of items that pass the filter.
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
        history_items: torch.Tensor | None = None,
        history_vectors: torch.Tensor | None = None,
        query_vectors: torch.Tensor | None = None,
        rank_by: str | None = None,
        with_sids: bool = False,
        also: Sequence[Sequence[str]] | None = None,
    ) -> SearchResult:
        """Find items by beam search over the catalogue's SIDs, on one state of the catalogue.

        Args:
            input_ids: (queries, length) prompts, padded on either side.
            attention_mask: (queries, length), 1 for tokens, 0 for padding.
            num_beams: SIDs kept at each level. More beams find more items and cost more time; more than the catalogue has SIDs are not
                kept. Default: the model's `search_config`.
            top_k: number of items returned per query.
            items_per_sid: number of items that one SID expands to at most, most popular first. Default: the model's `search_config`.
            item_filter: only items that pass the filter, or one filter (or None) per query; see `SidIndex.filter`. The beam search runs
                over the SIDs of those items alone, so no beam is spent on other items.
            normalize: the set of codes that a code's probability is taken over: the `children` that the trie allows (as `generate` with
                `renormalize_logits=True`), the codes of the `level`, or the whole `vocabulary` (as `generate` without it; slower).
            explain: put the log-probability of each code into the hits.
            long_view_codes: (queries, sequences, items, levels) codes of the users' long sequences, -1 where there is no item, for prompts
                with placeholders; see `forward`.
            history_items: items of the users' histories, for prompts with placeholders of items; see `forward`.
            history_vectors: text vectors of these items.
            query_vectors: (queries, size) text vectors of the queries, for prompts with a placeholder of them; see `forward`.
            rank_by: `sid`, or `item`, which counts an item's share of its SID's popularity; see `SidIndex.hits`. Default: the model's
                `search_config`.
            with_sids: return the Semantic IDs of the beams as well, which the evaluation compares with those of the targets.
            also: ids of further items for each query, such as those that a text index found. They join the hits of the beams beyond
                `top_k`, scored by teacher forcing under the same trie, so that their scores are those that the beam search would give
                them. Items that are not in the catalogue, or do not pass the filter, are left out. The prompt is not read again.

        Returns:
            Hits and numbers of beams of each query; fewer than `top_k` hits where the beams hold fewer items.

        Raises:
            ValueError: an argument is not allowed, the shapes do not fit, a token is outside the vocabulary, or the model has no item
                index.
            TypeError: a count is no whole number.
        """
        config = self.search_config
        num_beams = config.num_beams if num_beams is None else num_beams
        items_per_sid = config.items_per_sid if items_per_sid is None else items_per_sid
        rank_by = config.rank_by if rank_by is None else rank_by
        check_count("num_beams", num_beams)
        check_count("top_k", top_k)
        check_count("items_per_sid", items_per_sid)
        attention_mask = self._checked_mask(input_ids, attention_mask)
        views = PromptViews(long_view_codes, history_items, history_vectors, query_vectors)
        views.check_rows(len(input_ids))
        if also is not None and len(also) != len(input_ids):
            raise ValueError(f"also of {len(also)} rows for {len(input_ids)} prompts; give one per prompt")
        index, queries = self._require_index().snapshot(), len(input_ids)
        result = SearchResult([[] for _ in range(queries)], [0] * queries, [0] * queries, [[] for _ in range(queries)])
        if item_filter is None or isinstance(item_filter, ItemFilter):
            groups = [(list(range(queries)), item_filter)]
        else:
            groups = _by_filter(item_filter, queries)
        for rows, own in groups:
            trie = _trie(index, own, input_ids.device)
            step = self._step(input_ids[rows], attention_mask[rows], normalize, views.rows(rows))
            beams = beam_search(step, trie, len(rows), num_beams, finish_early=normalize == "children")
            parts = beams.level_scores if explain else None
            found = index.hits(beams.leaves, beams.scores, top_k, items_per_sid, own, parts, rank_by)
            if also is not None:
                items = index.given([also[row] for row in rows], own)
                scored = score_given(step, trie, items.sids(input_ids.device), finish_early=normalize == "children")
                named = items.hits(scored.log_probs, rank_by, explain)
                found = [merged(hits, given_hits) for hits, given_hits in zip(found, named)]
            active = beams.scores > -torch.inf  # (queries, beams)
            invalid = active & (beams.leaves < 0)
            for row, hits, count, wrong in zip(rows, found, active.sum(1).tolist(), invalid.sum(1).tolist()):
                result.hits[row], result.beams[row], result.invalid[row] = hits, count, wrong
            if with_sids:
                trie = (index.trie if own is None else own.state.trie).to(input_ids.device)
                for row, sids in zip(rows, _sids(trie, beams)):
                    result.sids[row] = sids
        return result

    @torch.no_grad()
    def search_sids(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        num_beams: int | None = None,
        item_filter: ItemFilter | None = None,
        normalize: str = "children",
        long_view_codes: torch.Tensor | None = None,
        history_items: torch.Tensor | None = None,
        history_vectors: torch.Tensor | None = None,
        query_vectors: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The Semantic IDs behind the hits of `retrieve`, which documents the arguments.

        Returns:
            codes (queries, beams, levels), -1 throughout where there is no SID, and scores (queries, beams), -inf there; best first.
        """
        index = self._require_index().snapshot()
        num_beams = self.search_config.num_beams if num_beams is None else num_beams
        attention_mask = self._checked_mask(input_ids, attention_mask)
        check_count("num_beams", num_beams)
        allowed = _trie(index, item_filter, input_ids.device)
        views = PromptViews(long_view_codes, history_items, history_vectors, query_vectors)
        step = self._step(input_ids, attention_mask, normalize, views)
        beams = beam_search(step, allowed, len(input_ids), num_beams, finish_early=normalize == "children")
        trie = index.trie if item_filter is None else item_filter.state.trie  # the filter's own numbers of SIDs
        return trie.sids_of(beams.leaves.flatten()).view(*beams.leaves.shape, -1), beams.scores

    @torch.no_grad()
    def sample_sids(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        num_samples: int = 8,
        seeds: Sequence[int] | None = None,
        temperature: float = 1.0,
        item_filter: ItemFilter | None = None,
        long_view_codes: torch.Tensor | None = None,
        history_items: torch.Tensor | None = None,
        history_vectors: torch.Tensor | None = None,
        query_vectors: torch.Tensor | None = None,
    ) -> SidSamples:
        """Sample distinct Semantic IDs of the catalogue for each query, without replacement (stochastic beam search, Kool et al. 2019).

        Args:
            input_ids: as for `retrieve`.
            attention_mask: as for `retrieve`.
            num_samples: number of SIDs for each query.
            seeds: a number for each query; equal seeds give equal samples. Default: the place of each query.
            temperature: the logits are divided by it; see `sample_without_replacement`.
            item_filter: as for `retrieve`.
            long_view_codes: as for `retrieve`.
            history_items: as for `retrieve`.
            history_vectors: as for `retrieve`.
            query_vectors: as for `retrieve`.

        Raises:
            ValueError: the shapes do not fit, a number is out of range, or as for `retrieve`.
        """
        index = self._require_index().snapshot()
        attention_mask = self._checked_mask(input_ids, attention_mask)
        seeds = range(len(input_ids)) if seeds is None else seeds
        if len(seeds) != len(input_ids):
            raise ValueError(f"{len(seeds)} seeds for {len(input_ids)} prompts; give one per prompt")
        step = self._step(
            input_ids, attention_mask, "children", PromptViews(long_view_codes, history_items, history_vectors, query_vectors)
        )
        allowed = _trie(index, item_filter, input_ids.device)
        found = sample_without_replacement(step, allowed, num_samples, seeds, temperature)
        trie = index.trie if item_filter is None else item_filter.state.trie  # the filter's own numbers of SIDs
        codes = trie.sids_of(found.leaves.flatten()).view(*found.leaves.shape, -1)
        return SidSamples(codes, found.scores, found.level_scores, found.log_inclusion)

    @torch.no_grad()
    def free_sids(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        num_beams: int = 50,
        long_view_codes: torch.Tensor | None = None,
        history_items: torch.Tensor | None = None,
        history_vectors: torch.Tensor | None = None,
        query_vectors: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Most likely sequences of codes without a trie; many of them may belong to no item. The arguments are those of `retrieve`.

        Returns:
            codes (queries, beams, levels) and scores (queries, beams), best first.
        """
        check_count("num_beams", num_beams)
        mask = self._checked_mask(input_ids, attention_mask)
        step = self._step(input_ids, mask, "level", PromptViews(long_view_codes, history_items, history_vectors, query_vectors))
        return free_beams(step, self.config.sid_levels, num_beams)

    @torch.no_grad()
    def score_sids(
        self,
        input_ids: torch.Tensor,
        sids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        item_filter: ItemFilter | None = None,
        normalize: str = "children",
        long_view_codes: torch.Tensor | None = None,
        history_items: torch.Tensor | None = None,
        history_vectors: torch.Tensor | None = None,
        query_vectors: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Log-probabilities of given Semantic IDs by teacher forcing under the trie; their sums are the scores of `search_sids`.

        Args:
            input_ids: as for `retrieve`.
            sids: (queries, sids, levels) codes; -1 throughout where a query has fewer.
            attention_mask: as for `retrieve`.
            item_filter: as for `retrieve`.
            normalize: as for `retrieve`.
            long_view_codes: as for `retrieve`.
            history_items: as for `retrieve`.
            history_vectors: as for `retrieve`.
            query_vectors: as for `retrieve`.

        Returns:
            (queries, sids, levels), the log-probability of each code given the codes before it; -inf at the first code of a Semantic ID
            that no item has.

        Raises:
            ValueError: the shapes do not fit, or as for `retrieve`.
        """
        views = PromptViews(long_view_codes, history_items, history_vectors, query_vectors)._asdict()
        return self.given_scores(input_ids, sids, attention_mask, item_filter, normalize, **views).log_probs

    def given_scores(
        self,
        input_ids: torch.Tensor,
        sids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        item_filter: ItemFilter | None = None,
        normalize: str = "children",
        long_view_codes: torch.Tensor | None = None,
        history_items: torch.Tensor | None = None,
        history_vectors: torch.Tensor | None = None,
        query_vectors: torch.Tensor | None = None,
        with_statistics: bool = False,
    ) -> GivenScores:
        """Scores of given Semantic IDs with gradients, for training; `score_sids` documents the arguments and errors.

        Each prompt is read once, however many Semantic IDs it has, and Semantic IDs of a query share the prefixes that they have in common.
        The decoder's own dropout is not applied.

        Args:
            input_ids: as for `retrieve`.
            sids: as for `score_sids`.
            attention_mask: as for `retrieve`.
            item_filter: as for `retrieve`.
            normalize: as for `retrieve`.
            long_view_codes: as for `retrieve`.
            history_items: as for `retrieve`.
            history_vectors: as for `retrieve`.
            query_vectors: as for `retrieve`.
            with_statistics: also return the entropy of each softmax, and whether the code is its most likely one.
        """
        index, levels = self._require_index().snapshot(), self.config.sid_levels
        if sids.dim() != 3 or len(sids) != len(input_ids) or sids.shape[2] != levels:
            raise ValueError(
                f"sids {tuple(sids.shape)}: expected ({len(input_ids)}, any number, {levels}), (queries, sids, levels)"
            )
        trie = _trie(index, item_filter, input_ids.device)
        views = PromptViews(long_view_codes, history_items, history_vectors, query_vectors)
        step = self._step(input_ids, self._checked_mask(input_ids, attention_mask), normalize, views)
        return score_given(step, trie, sids.to(input_ids.device), normalize == "children", with_statistics)

    def _step(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, normalize: str, views: PromptViews) -> StepFunction:
        """The model on some prompts, which are read here, once. Level 0 begins anew, so several searches can use it one after the other."""
        if normalize not in NORMALISATIONS:
            raise ValueError(f"normalize={normalize!r}: allowed are {', '.join(map(repr, NORMALISATIONS))}")
        decoder = self._beam_decoder(self.model, input_ids, attention_mask, views)

        def step(
            codes: torch.Tensor | None, parents: torch.Tensor | None, level: int
        ) -> tuple[torch.Tensor, torch.Tensor | None]:
            """See `StepFunction`."""
            if codes is None or parents is None:
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

    def _checked_mask(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """The attention mask (queries, length), 1 everywhere by default; an error if prompts or mask do not fit the model or each other."""
        if input_ids.dim() != 2 or not input_ids.shape[1] or input_ids.dtype not in (torch.long, torch.int):
            raise ValueError(
                f"input_ids {tuple(input_ids.shape)} of {input_ids.dtype}: expected whole numbers of shape (queries, length), with at "
                "least one token"
            )
        if len(input_ids):
            low, high = input_ids.aminmax()
            if low < 0 or high >= self.config.vocab_size:
                raise ValueError(
                    f"input_ids lie in [{low}, {high}], allowed are 0..{self.config.vocab_size - 1}: use the model's own tokenizer"
                )
        if attention_mask is None:
            return torch.ones_like(input_ids)
        if attention_mask.shape != input_ids.shape or not bool(attention_mask.any(1).all()):
            raise ValueError(
                f"input_ids {tuple(input_ids.shape)} and attention_mask {tuple(attention_mask.shape)} must have the same shape, and every "
                "query at least one token"
            )
        return attention_mask


def _trie(index: SidIndex, item_filter: ItemFilter | None, device: torch.device) -> SidTrie | TrieView:
    """The trie of the SIDs of `index` that pass the filter; ValueError for a filter of another catalogue."""
    return (index.trie if item_filter is None else index.checked(item_filter).trie).to(device)


def _sids(trie: SidTrie | TrieView, beams: Beams) -> list[list[tuple[int, ...]]]:
    """The Semantic IDs of each query's beams, best first; `trie` gives the SIDs of their numbers."""
    codes = trie.sids_of(beams.leaves.flatten()).view(*beams.leaves.shape, -1).tolist()
    found = ((beams.leaves >= 0) & (beams.scores > -torch.inf)).tolist()
    return [[tuple(sid) for sid, is_sid in zip(row, own) if is_sid] for row, own in zip(codes, found)]


def _by_filter(item_filters: Sequence[ItemFilter | None], queries: int) -> list[tuple[list[int], ItemFilter | None]]:
    """Rows of the queries that are searched together, with their filter; TypeError for anything but a sequence of filters and None."""
    if not isinstance(item_filters, Sequence) or not all(own is None or isinstance(own, ItemFilter) for own in item_filters):
        raise TypeError(f"item_filter={item_filters!r}: expected a filter of SidIndex.filter, or a list of filters and None")
    if len(item_filters) != queries:
        raise ValueError(
            f"{len(item_filters)} filters for {queries} queries: give one per query (None for no filter), or one for all"
        )
    groups: dict[int, tuple[list[int], ItemFilter | None]] = {}
    for row, own in enumerate(item_filters):
        groups.setdefault(id(own), ([], own))[0].append(row)
    return list(groups.values())


__all__ = ["NORMALISATIONS", "SearchMixin", "SearchResult"]
