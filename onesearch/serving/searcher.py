"""Search with a checkpoint: a query and item ids in, items out.

`Searcher.search` (one query) and `Searcher.retrieve` (many requests, for the evaluator) are one path, so the measured hits are the served
hits.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onesearch.data.requests import Request, UserContext
from onesearch.evaluation.retrievers import Ranking
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.modeling_onesearch.sequences_onesearch import checked_texts
from onesearch.views.request_views import RequestViews

from .checks import check_events, checked_dense, checked_index, checked_reranker, checked_text_index, refuse_other_types
from .dense_index import prompt_states
from .dense_term import further_items, reads_vectors, with_dense_term
from .prompt_sizes import prompt_size
from .text_match import ranks_anew, reads_texts, with_text_match

if TYPE_CHECKING:
    from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex
    from onesearch.modeling_onesearch.filters_onesearch import ItemFilter
    from onesearch.modeling_onesearch.hits_onesearch import Hit
    from onesearch.modeling_onesearch.search_onesearch import SearchResult
    from onesearch.tokenization_sid.sids.sid_encoder import SidEncoder
    from onesearch.tokenization_sid.tokenization_sid import SidTokenizer
    from onesearch.views.default_histories import DefaultHistories
    from onesearch.views.history_table import HistoryTable

    from .dense_index import DenseIndex
    from .loading import OneSearchModel
    from .reranker import Reranker
    from .shown_items import ShownItems
    from .text_index import TextIndex


class Searcher:
    """A model with its tokenizer, catalogue and search settings. It is also a `Retriever`: the evaluator measures it as it is served.

    Args:
        model: the model, with its item index set.
        tokenizer: tokenizer made for the same codebooks as the model.
        config: search settings; default: the model's own, `model.search_config`, which its checkpoint saved.
        batch_size: number of requests that `retrieve` searches at once. A larger batch is faster and needs more memory.
        name: name in reports.
        query_encoder: makes the SIDs of queries. Needed if the tokenizer's prompts hold them.
        defaults: histories of users without one. Needed if the tokenizer's prompts use them.
        reranker: ranks hits by a reward model. Needed if the settings, or a call, ask for `rerank`.
        text_index: finds items by their texts. Needed if the settings, or a call, ask for the candidates `beam+text`. An item that was
            added to the catalogue without a text here is found by the beam alone.
        shown: titles, brands and prices that the hits of `search` carry; None leaves them out.
        history_table: what is known of the items of histories. Needed if the tokenizer's prompts show items as vectors.
        dense: vectors of items and queries. Needed if the settings, or a call, ask for a `dense_weight` or the candidates `beam+dense`.

    Raises:
        ValueError: model, tokenizer and item index do not belong together, a part that the prompts or the settings need is missing, or
            `batch_size` is below 1.
        MissingExtraError: the settings ask for the candidates `beam+text`, and the extra ``evaluation`` is not installed.
    """

    def __init__(
        self,
        model: OneSearchModel,
        tokenizer: SidTokenizer,
        config: SearchConfig | None = None,
        batch_size: int = 32,
        name: str = "onesearch",
        query_encoder: SidEncoder | None = None,
        defaults: DefaultHistories | None = None,
        reranker: Reranker | None = None,
        text_index: TextIndex | None = None,
        shown: ShownItems | None = None,
        history_table: HistoryTable | None = None,
        dense: DenseIndex | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1")
        self.views = RequestViews(checked_index(model, tokenizer), tokenizer, query_encoder, defaults, history_table)
        self.model = model
        self.tokenizer = tokenizer
        self.config = model.search_config if config is None else config
        self.batch_size = batch_size
        self.name = name
        self.reranker = reranker
        self.text_index = text_index
        self.shown = shown
        self.dense = dense
        if self.config.rerank:
            checked_reranker(reranker)
        if reads_texts(self.config):
            checked_text_index(self.config, text_index)
        if reads_vectors(self.config):
            checked_dense(self.config, dense)

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path,
        *,
        num_beams: int | None = None,
        rank_by: str | None = None,
        items_per_sid: int | None = None,
        exclude_history: bool | None = None,
        hidden_views: Sequence[str] | None = None,
        rerank: bool | None = None,
        candidates: str | None = None,
        text_items: int | None = None,
        text_weight: float | None = None,
        text_popularity: float | None = None,
        dense_weight: float | None = None,
        batch_size: int = 32,
        plain: bool = False,
        **kwargs: Any,
    ) -> Searcher:
        """Load a checkpoint folder or Hub repository, with the search settings that it was saved with.

        Args:
            checkpoint: folder or repository with config, weights, tokenizer, ``sid_index.safetensors`` and ``search_config.json``.
            num_beams: replaces the saved setting; see `SearchConfig`.
            rank_by: replaces the saved setting; see `SearchConfig`.
            items_per_sid: replaces the saved setting; see `SearchConfig`.
            exclude_history: replaces the saved setting; see `SearchConfig`.
            hidden_views: replaces the saved setting; see `SearchConfig`.
            rerank: replaces the saved setting; see `SearchConfig`.
            candidates: replaces the saved setting; see `SearchConfig`.
            text_items: replaces the saved setting; see `SearchConfig`.
            text_weight: replaces the saved setting; see `SearchConfig`.
            text_popularity: replaces the saved setting; see `SearchConfig`.
            dense_weight: replaces the saved setting; see `SearchConfig`.
            batch_size: number of requests that `retrieve` searches at once.
            plain: load generator and reward model without transformers' model classes, whose import takes about 2 CPU seconds, where the
                checkpoint is a folder on this machine with a plain encoder-decoder in float32. Such a searcher has the same hits; its
                model can search and nothing else.
            kwargs: passed to the Auto classes (``revision``, ``token``, ``dtype``, ...). ``dtype="fastest"`` takes bfloat16 where this
                processor multiplies it much faster than float32, which a short measurement tells; the scores are rounded then.

        Raises:
            OSError: a part is missing (FileNotFoundError), or the repository cannot be reached.
            ValueError: a file is damaged, the parts come from different codebooks, or a setting is not allowed.
        """
        from .loading import load_parts

        given = {
            "num_beams": num_beams,
            "rank_by": rank_by,
            "items_per_sid": items_per_sid,
            "exclude_history": exclude_history,
            "hidden_views": hidden_views,
            "rerank": rerank,
            "candidates": candidates,
            "text_items": text_items,
            "text_weight": text_weight,
            "text_popularity": text_popularity,
            "dense_weight": dense_weight,
        }
        _changed(SearchConfig(), **given)  # refuses wrong values before anything is loaded
        parts = load_parts(checkpoint, kwargs, plain=plain)
        config = _changed(parts.model.search_config, **given)
        return cls(
            parts.model,
            parts.tokenizer,
            config,
            batch_size,
            query_encoder=parts.query_encoder,
            defaults=parts.defaults,
            reranker=parts.reranker,
            text_index=parts.text_index,
            shown=parts.shown,
            history_table=parts.history_table,
            dense=parts.dense,
        )

    def arm(self, name: str, **settings: Any) -> Searcher:
        """The same searcher under another name and with other settings, for a comparison; nothing is loaded twice.

        Args:
            name: name in reports.
            settings: fields of `SearchConfig`.
        """
        other = copy(self)
        other.name, other.config = name, _changed(self.config, **settings)
        return other

    @property
    def index(self) -> SidIndex:
        """The model's item index: which item has which SID."""
        return self.views.index

    @property
    def num_beams(self) -> int:
        """Beams of `retrieve`: a report has no metric at a cut-off above it."""
        return self.config.num_beams

    def search(
        self,
        query: str,
        history: Sequence[str] = (),
        top_k: int = 10,
        num_beams: int | None = None,
        *,
        context: UserContext | None = None,
        items: Sequence[str] | np.ndarray | None = None,
        exclude: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
        rank_by: str | None = None,
        items_per_sid: int | None = None,
        exclude_history: bool | None = None,
        hidden_views: Sequence[str] | None = None,
        rerank: bool | None = None,
        candidates: str | None = None,
        text_items: int | None = None,
        text_weight: float | None = None,
        text_popularity: float | None = None,
        dense_weight: float | None = None,
        explain: bool = False,
    ) -> list[Hit]:
        """Find items for one query.

        Args:
            query: text to search for; cut to the prompt's limit of tokens.
            history: ids of items that the user clicked or purchased before, oldest first.
            top_k: number of items to return.
            num_beams: replaces the searcher's setting for this call. More beams find more items and take more time.
            context: the rest of what the prompts show of the user: recent queries, long sequences, profile. Default: the history as
                clicks.
            items: only these items may be found: ids, or a boolean mask; see `SidIndex.filter`.
            exclude: ids of items that must not be found.
            categories: only items with one of these on their category path may be found.
            rank_by: replaces the searcher's setting for this call: order of the hits, ``sid`` or ``item``.
            items_per_sid: replaces the searcher's setting for this call: number of items of one SID that may be among the hits.
            exclude_history: replaces the searcher's setting for this call: leave the items of `history` out of the hits.
            hidden_views: replaces the searcher's setting for this call: views of the user that the prompt leaves out.
            rerank: replaces the searcher's setting for this call: rank the hits of all beams by the reward model.
            candidates: replaces the searcher's setting for this call: `beam+text` lets the best items of the text index join those of the
                beams before the reward model ranks them.
            text_items: replaces the searcher's setting for this call: number of items of the text index, and of the dense index.
            text_weight: replaces the searcher's setting for this call: weight of the text match in the order of the hits.
            text_popularity: replaces the searcher's setting for this call: weight of an item's popularity in its text match.
            dense_weight: replaces the searcher's setting for this call: weight of the dense term in the order of the hits.
            explain: put the log-probability of each code, and the probabilities of the reward model, into the hits.

        Returns:
            Hits with `item_id`, `sid` and `score`, and with `title`, `brand` and `price` where the checkpoint knows them; best first.

        Raises:
            TypeError: the query is no text, or a text, a set or an iterator stands where a list belongs; the message names the argument.
            ValueError: the query is empty, no item passes the filter, or a count is below 1.
            KeyError: an item of the history or of `items` is not in the catalogue.
        """
        given = {
            "num_beams": num_beams,
            "rank_by": rank_by,
            "items_per_sid": items_per_sid,
            "exclude_history": exclude_history,
            "hidden_views": hidden_views,
            "rerank": rerank,
            "candidates": candidates,
            "text_items": text_items,
            "text_weight": text_weight,
            "text_popularity": text_popularity,
            "dense_weight": dense_weight,
        }
        config = _changed(self.config, **given)
        request = _request(query, history, context)
        item_filter = None
        excluded = [] if exclude is None else checked_texts(exclude, "exclude")
        wanted = None if categories is None else checked_texts(categories, "categories")
        if items is not None or excluded or wanted is not None:
            item_filter = self.index.filter(items, excluded, wanted)
        hits = self._find([request], top_k, config, item_filter, explain).hits[0]
        return hits if self.shown is None else self.shown.filled(hits)

    def search_batch(
        self,
        queries: Sequence[str],
        histories: Sequence[Sequence[str]] | None = None,
        top_k: int = 10,
        *,
        contexts: Sequence[UserContext | None] | None = None,
        item_filter: ItemFilter | Sequence[ItemFilter | None] | None = None,
        explain: bool = False,
        **settings: Any,
    ) -> list[list[Hit]]:
        """Find items for many queries: the hits of one `search` per query, in less time.

        Queries with prompts of a similar length are searched together, in batches of `batch_size`, so that little padding is read. Scores
        differ from those of `search` by rounding alone.

        Args:
            queries: n texts.
            histories: history of each query's user, oldest first; None for no history.
            top_k: largest number of hits per query.
            contexts: the rest of what is known of each user; None counts the history as clicks. See `search`.
            item_filter: only items that pass: one filter for all queries, or one (or None) per query. `index.filter` makes it.
            explain: put the log-probability of each code, and the probabilities of the reward model, into the hits.
            settings: fields of `SearchConfig` that replace the searcher's settings for this call, for example ``num_beams``.

        Returns:
            One list of hits per query, in the order of the queries, best first.

        Raises:
            TypeError, ValueError, KeyError: as `search`; a list does not have one entry per query.
        """
        config = _changed(self.config, **settings)
        queries = checked_texts(queries, "queries")
        filters: Sequence[ItemFilter | None] = [None] * len(queries)
        if item_filter is not None:
            filters = item_filter if isinstance(item_filter, Sequence) else [item_filter] * len(queries)
        histories = [()] * len(queries) if histories is None else histories
        contexts = [None] * len(queries) if contexts is None else contexts
        for name, given in {"histories": histories, "contexts": contexts, "item_filter": filters}.items():
            if isinstance(given, str) or len(given) != len(queries):
                raise ValueError(f"{name} has {len(given)} entries for {len(queries)} queries; give one per query")
        requests = [_request(*parts) for parts in zip(queries, histories, contexts)]
        hits: list[list[Hit]] = [[] for _ in requests]
        order = sorted(range(len(requests)), key=lambda place: prompt_size(requests[place], self.views.layout))
        for start in range(0, len(order), self.batch_size):
            places = order[start : start + self.batch_size]
            batch, own = [requests[place] for place in places], [filters[place] for place in places]
            found = self._find(batch, top_k, config, own if any(own) else None, explain)
            for place, of_query in zip(places, found.hits):
                hits[place] = of_query if self.shown is None else self.shown.filled(of_query)
        return hits

    def score(
        self, query: str, item_ids: Sequence[str], history: Sequence[str] = (), *, context: UserContext | None = None
    ) -> list[Hit]:
        """Score items under a query by teacher forcing: each gets the score that the beam search gives it if a beam reaches it.

        Args:
            query: text to search for.
            item_ids: the items. Those that are not in the catalogue are left out.
            history: as for `search`.
            context: as for `search`.

        Returns:
            Hits with the log-probability of each code, best first. The reward model does not rank them.
        """
        request = _request(query, history, context)
        found = self.model.retrieve(
            **self.model_inputs([request], self.config.hidden_views),
            num_beams=1,
            top_k=1,
            rank_by=self.config.rank_by,
            explain=True,
            also=[checked_texts(item_ids, "item_ids")],
        )
        wanted = set(item_ids)
        return [hit for hit in found.hits[0] if hit.item_id in wanted]

    def retrieve(self, requests: Sequence[Request], top_k: int) -> list[Ranking]:
        """Rank items for requests of a market whose items are in the catalogue.

        Args:
            requests: any number of requests; they are searched in batches of `batch_size`.
            top_k: number of items per ranking at most.

        Returns:
            One ranking per request, in order, with the SIDs and the counts of its beams.

        Raises:
            TypeError: the history or a part of the context of a request is no list.
        """
        rankings: list[Ranking] = []
        for request in requests:
            refuse_other_types(request)
        for start in range(0, len(requests), self.batch_size):
            result = self._find(requests[start : start + self.batch_size], top_k, self.config, with_sids=True)
            for hits, beams, invalid, sids in zip(result.hits, result.beams, result.invalid, result.sids):
                ranking = Ranking(
                    item_ids=tuple(hit.item_id for hit in hits),
                    scores=tuple(hit.score for hit in hits),
                    sids=tuple(hit.sid for hit in hits),
                    invalid=invalid,
                    beams=beams,
                    beam_sids=tuple(sids),
                )
                rankings.append(ranking)
        return rankings

    def hits(self, requests: Sequence[Request], top_k: int) -> list[list[Hit]]:
        """The hits of requests as `retrieve` finds them.

        Args:
            requests: any number of requests; they are searched in batches of `batch_size`.
            top_k: largest number of hits per request.
        """
        starts = range(0, len(requests), self.batch_size)
        batches = (requests[start : start + self.batch_size] for start in starts)
        return [hits for batch in batches for hits in self._find(batch, top_k, self.config).hits]

    def _find(
        self,
        requests: Sequence[Request],
        top_k: int,
        config: SearchConfig,
        item_filter: ItemFilter | Sequence[ItemFilter | None] | None = None,
        explain: bool = False,
        with_sids: bool = False,
    ) -> SearchResult:
        """Search for a batch of requests on one state of the catalogue: the one path from requests to hits."""
        if top_k < 1:
            raise ValueError(f"top_k={top_k} must be at least 1")
        excluded = [set(request.history if config.exclude_history else ()) for request in requests]
        inputs = self.model_inputs(requests, config.hidden_views)
        dense, vectors = None, None
        if reads_vectors(config):
            dense = checked_dense(config, self.dense)
            states = None if dense.projection is None else prompt_states(self.model, inputs)
            vectors = dense.queries([request.query for request in requests], states)
        also = None
        if config.candidates != "beam":
            filters = item_filter if isinstance(item_filter, Sequence) else [item_filter] * len(requests)
            texts = checked_text_index(config, self.text_index) if config.with_text else None
            also = further_items(
                requests, config, self.index, filters, excluded, texts, dense if config.with_dense else None, vectors
            )
        result = self.model.retrieve(
            **inputs,
            num_beams=config.num_beams,
            rank_by=config.rank_by,
            items_per_sid=config.items_per_sid,
            top_k=(config.num_beams * config.items_per_sid if ranks_anew(config) else top_k) + max(map(len, excluded)),
            item_filter=item_filter,
            explain=explain,
            with_sids=with_sids,
            also=also,
        )
        kept = [[hit for hit in hits if hit.item_id not in own] for hits, own in zip(result.hits, excluded)]
        if config.rerank:
            most = max(map(len, kept), default=0) if config.text_weight else top_k
            kept = checked_reranker(self.reranker).rerank(requests, kept, most, explain)
        elif dense is not None and vectors is not None:
            kept = [with_dense_term(dense, own, hits, config.dense_weight) for own, hits in zip(vectors, kept)]
        if config.text_weight:
            text_index = checked_text_index(config, self.text_index)
            kept = [with_text_match(text_index, request.query, hits, config) for request, hits in zip(requests, kept)]
        kept = [hits[:top_k] for hits in kept]
        sids = result.sids
        if with_sids and ranks_anew(config):  # in the order of the hits; those of the other beams follow
            sids = [list(dict.fromkeys([*(hit.sid for hit in hits), *beams])) for hits, beams in zip(kept, sids)]
        return replace(result, hits=kept, sids=sids)

    def model_inputs(self, requests: Sequence[Request], hidden: Sequence[str] = ()) -> dict[str, Any]:
        """Model inputs of a batch: `input_ids` and `attention_mask` (requests, length), with a long view also `long_view_codes`, with
        histories as vectors also `history_items` and `history_vectors`, and with the query's vector `query_vectors`."""
        import torch

        try:
            columns = self.views.fields(requests, hidden)
            codes = self.views.long_view_codes(requests, self.model.config.long_view_levels, hidden)
            arrays = self.views.tensors(requests, hidden)
        except KeyError as error:
            raise KeyError(f"{error.args[0]}; leave it out of the history") from None
        prompts, side = self.tokenizer.encode_fields(columns), self.tokenizer.padding_side
        arrays["input_ids"] = prompts.padded(self.tokenizer.pad_token_id, side).astype(np.int64)
        arrays["attention_mask"] = prompts.places(side).astype(np.int64)
        if codes is not None:
            arrays["long_view_codes"] = codes
        device = self.model.device
        return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}


def _changed(config: SearchConfig, **settings: Any) -> SearchConfig:
    """The config with those of `settings` that are not None."""
    return replace(config, **{name: value for name, value in settings.items() if value is not None})


def _request(query: str, history: Sequence[str], context: UserContext | None) -> Request:
    """The request of one query; TypeError and ValueError name what cannot be searched for."""
    if not isinstance(query, str):
        raise TypeError(f"query must be text, got {type(query).__name__}: {query!r}")
    if not query.strip():
        raise ValueError("the query is empty; pass the words to search for")
    items = tuple(checked_texts(history, "history"))
    if context is None:
        return Request("", "", query, items, context=UserContext(clicked=items))
    for part in fields(UserContext):
        if part.name != "ages":
            checked_texts(getattr(context, part.name), f"context.{part.name}")
    check_events(items, context)
    return Request("", "", query, items, context=context)


__all__ = ["Searcher"]
