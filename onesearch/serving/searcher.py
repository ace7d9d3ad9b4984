"""Search with a checkpoint: text and item ids in, items out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onesearch.data.requests import Request, UserContext
from onesearch.evaluation.retrievers import Ranking
from onesearch.views.default_histories import FILE_NAME as DEFAULTS_NAME
from onesearch.views.default_histories import DefaultHistories
from onesearch.views.request_views import RequestViews

if TYPE_CHECKING:
    from onesearch.modeling_onesearch.index_onesearch import Hit
    from onesearch.modeling_onesearch.modeling_onesearch import OneSearchForConditionalGeneration
    from onesearch.tokenization_sid.sids.sid_encoder import SidEncoder
    from onesearch.tokenization_sid.tokenization_sid import SidTokenizer

QUERY_ENCODER_NAME = "query_encoder"
"""Folder of a checkpoint with what makes SIDs of queries."""


class Searcher:
    """A model with its tokenizer and catalogue. Also a `Retriever`, so the evaluator measures exactly what is served.

    Args:
        model: with its item index set.
        tokenizer: made for the same codes as the model.
        num_beams: SIDs kept at each level of the beam search.
        batch_size: requests searched at once.
        name: in reports.
        query_encoder, defaults: what the tokenizer's prompts need besides: SIDs of queries, histories of users without one.
        exclude_history: never show an item of the user's own history; for markets where nobody buys a thing twice.
        rank_by: what hits are ranked by, the probability of their SID or their own; see `SidIndex.hits`.

    Raises:
        ValueError: model, tokenizer and item index do not belong together, or a part that the prompts need is missing.
    """

    def __init__(
        self,
        model: OneSearchForConditionalGeneration,
        tokenizer: SidTokenizer,
        num_beams: int = 50,
        batch_size: int = 32,
        name: str = "onesearch",
        query_encoder: SidEncoder | None = None,
        defaults: DefaultHistories | None = None,
        exclude_history: bool = False,
        rank_by: str = "sid",
    ):
        if num_beams < 1 or batch_size < 1:
            raise ValueError(f"num_beams={num_beams}, batch_size={batch_size}: both must be at least 1")
        _check_together(model, tokenizer)
        self.model = model
        self.tokenizer = tokenizer
        self.num_beams = num_beams
        self.batch_size = batch_size
        self.name = name
        self.exclude_history = exclude_history
        self.rank_by = rank_by
        self.views = RequestViews(model.sid_index, tokenizer, query_encoder, defaults)

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path,
        *,
        num_beams: int = 50,
        batch_size: int = 32,
        exclude_history: bool = False,
        rank_by: str = "sid",
        **kwargs: Any,
    ) -> Searcher:
        """Load a checkpoint folder or Hub repository.

        Args:
            checkpoint: holds config, weights, tokenizer and ``sid_index.safetensors``.
            num_beams, batch_size, exclude_history, rank_by: as above.
            kwargs: passed to the Auto classes (``revision``, ``token``, ``dtype``, ...).

        Raises:
            FileNotFoundError, OSError: a part is missing.
            ValueError: a file is damaged, or the parts come from different codebooks.
        """
        from safetensors import SafetensorError
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

        folder = Path(checkpoint, kwargs.get("subfolder") or "")
        if folder.is_dir() and not (folder / "tokenizer.json").is_file():
            raise FileNotFoundError(f"{folder / 'tokenizer.json'} does not exist; copy the checkpoint again")
        try:
            config = AutoConfig.from_pretrained(checkpoint, **{name: kwargs[name] for name in kwargs if name != "dtype"})
            auto_class = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
            model = auto_class.from_pretrained(checkpoint, **kwargs)
            kwargs.pop("dtype", None)
            tokenizer = AutoTokenizer.from_pretrained(checkpoint, **kwargs)
        except SafetensorError as error:
            raise ValueError(
                f"the weights in {checkpoint} (model.safetensors) are damaged ({error}); copy the checkpoint again"
            ) from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(
                f"a JSON file in {checkpoint} (tokenizer.json or tokenizer_config.json) is damaged ({error}); "
                "copy the checkpoint again"
            ) from error
        parts = _search_parts(checkpoint, tokenizer, kwargs)
        return cls(model.eval(), tokenizer, num_beams, batch_size, exclude_history=exclude_history, rank_by=rank_by, **parts)

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
        items_per_sid: int = 5,
        explain: bool = False,
    ) -> list[Hit]:
        """Find items for one query.

        Args:
            query: what is asked for; cut to the prompt's limit of tokens.
            history: ids of items the user clicked or purchased before, oldest first.
            top_k: items to return.
            num_beams: instead of the searcher's own.
            context: what else is known of the user: recent queries, long sequences, profile. Default: the history as clicks.
            items, exclude, categories: which items may be found; see `SidIndex.filter`.
            items_per_sid: items that one SID expands to at most.
            explain: put the log-probability of each code into the hits.

        Returns:
            Hits with `item_id`, `sid` and `score`, best first.

        Raises:
            TypeError: the query is no text, or the history no list of texts.
            ValueError: the query is empty, or no item passes the filter.
            KeyError: an item of the history or of `items` is not in the catalogue.
        """
        _check_query(query)
        index = self.model.sid_index
        history = tuple(_checked_history(history))
        request = Request("", "", query, history, context=context or UserContext(clicked=history))
        try:
            inputs = self._inputs([request])
        except KeyError as error:
            raise KeyError(f"{error.args[0]}; leave it out of the history") from None
        item_filter = None
        if items is not None or exclude or categories is not None:
            item_filter = index.filter(items, exclude, categories)
        seen = self._seen(request)
        hits = self.model.search(
            **inputs,
            num_beams=self.num_beams if num_beams is None else num_beams,
            top_k=top_k + len(seen) if top_k > 0 else top_k,
            items_per_sid=items_per_sid,
            item_filter=item_filter,
            explain=explain,
            rank_by=self.rank_by,
        )[0]
        return _unseen(hits, seen, top_k)

    def retrieve(self, requests: Sequence[Request], top_k: int) -> list[Ranking]:
        """Rank items for requests of a market whose items are in the catalogue."""
        rankings: list[Ranking] = []
        index = self.model.sid_index
        for start in range(0, len(requests), self.batch_size):
            batch = requests[start : start + self.batch_size]
            codes, scores = self.model.search_sids(**self._inputs(batch), num_beams=self.num_beams)
            alive = scores > float("-inf")
            leaves = index.trie.leaf_of(index.trie.walk(codes.flatten(0, 1))).view(scores.shape)
            invalid = alive & (leaves < 0)
            seen = [self._seen(request) for request in batch]
            found = index.hits(leaves, scores, top_k + max(map(len, seen)), rank_by=self.rank_by)
            for hits, own, beams, wrong in zip(found, seen, alive.sum(1).tolist(), invalid.sum(1).tolist()):
                hits = _unseen(hits, own, top_k)
                columns = zip(*((hit.item_id, hit.score, hit.sid) for hit in hits)) if hits else ((), (), ())
                rankings.append(Ranking(*columns, invalid=wrong, beams=beams))
        return rankings

    def _seen(self, request: Request) -> set[str]:
        """Items that are dropped from the hits of a request."""
        return set(request.history) if self.exclude_history else set()

    def _inputs(self, requests: Sequence[Request]) -> Mapping[str, Any]:
        import torch

        encoded = self.tokenizer.encode_fields(self.views.fields(requests))
        prompts = [encoded[row].tolist() for row in range(len(encoded))]
        padded = self.tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(self.model.device)
        inputs = {name: padded[name] for name in ("input_ids", "attention_mask")}
        codes = self.views.long_view_codes(requests, getattr(self.model.config, "long_view_levels", 0))
        if codes is not None:
            inputs["long_view_codes"] = torch.from_numpy(codes).to(self.model.device)
        return inputs


def _unseen(hits: Sequence[Hit], seen: set[str], top_k: int) -> list[Hit]:
    return [hit for hit in hits if hit.item_id not in seen][:top_k]


def _search_parts(checkpoint: str | Path, tokenizer: SidTokenizer, hub: Mapping[str, Any]) -> dict[str, Any]:
    """Query encoder and default histories of a checkpoint, where its prompts need them."""
    from transformers.utils import cached_file

    from onesearch.tokenization_sid.sids.sid_encoder import SidEncoder

    files = {name: hub[name] for name in ("cache_dir", "local_files_only", "token", "revision", "subfolder") if name in hub}
    parts: dict[str, Any] = {}
    if tokenizer.prompt.needs_query_sids:
        subfolder = "/".join(part for part in (hub.get("subfolder"), QUERY_ENCODER_NAME) if part)
        parts["query_encoder"] = SidEncoder.from_pretrained(checkpoint, subfolder, hub.get("revision"))
    if tokenizer.prompt.default_history:
        parts["defaults"] = DefaultHistories.load(cached_file(checkpoint, DEFAULTS_NAME, **files))
    return parts


def _checked_history(history: Sequence[str]) -> Sequence[str]:
    if isinstance(history, str) or not all(isinstance(item_id, str) for item_id in history):
        raise TypeError(f"history must be a list of item ids as text, got {history!r}")
    return history


def _check_query(query: str) -> None:
    if not isinstance(query, str):
        raise TypeError(f"query must be text, got {type(query).__name__}: {query!r}")
    if not query.strip():
        raise ValueError("the query is empty; pass the words to search for")


def _check_together(model: OneSearchForConditionalGeneration, tokenizer: SidTokenizer) -> None:
    """Refuse parts of different codebooks: their SIDs mean nothing to each other."""
    if model.sid_index is None:
        raise ValueError("the model has no item index: put sid_index.safetensors beside its weights or call set_sid_index")
    config = model.config
    ours, theirs = (tuple(config.sid_codebook_sizes), config.sid_offset), (tokenizer.sid_codebook_sizes, tokenizer.sid_offset)
    if ours != theirs:
        raise ValueError(f"model and tokenizer lay out SIDs differently: codebook sizes and offset {ours} and {theirs}")
    if tokenizer.sid_fingerprint and config.sid_fingerprint and tokenizer.sid_fingerprint != config.sid_fingerprint:
        raise ValueError(
            f"the tokenizer was made for codebooks {tokenizer.sid_fingerprint[:12]}…, the model for {config.sid_fingerprint[:12]}…; "
            "load both from the same checkpoint"
        )
