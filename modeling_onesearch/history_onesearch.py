"""Histories as vectors: one place of the prompt for each item of a user's history, instead of one per code of its Semantic ID.

The vector of an item is the sum of the embeddings of its codes (those of the vocabulary), its projected text vector, its facets (brand,
colour, price band, …), the kind and the age of the event, its place counted from the latest event, and optionally an embedding of its own.
All of them are inputs, so an item that is new to the model needs no training. Our addition; OneSearch (arXiv 2509.03236) writes SIDs.
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import nn
from transformers import initialization as init
from transformers.utils import is_torchdynamo_compiling

from .history_fields_onesearch import EVENT_KINDS, FIRST_FACET, GAP_BUCKETS, NO_ITEM

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from .configuration_onesearch import OneSearchConfig, OneSearchQwen3Config

    class PromptModule(PreTrainedModel):
        """For type checkers: the mixin stands before a model's class among its parents."""

        config: OneSearchConfig | OneSearchQwen3Config
        embed_tokens: nn.Embedding
else:
    PromptModule = object

LENGTH_BUCKETS = 12
"""Number of buckets of a history's length: bucket b holds lengths from 2 ** b to below 2 ** (b + 1). Our choice."""


class PromptViews(NamedTuple):
    """What prompts hold besides tokens, each with one row per prompt; None where the model reads none of it.

    Attributes:
        long_view_codes: (queries, sequences, items, levels) codes of the users' long sequences.
        history_items: (queries, items, columns) codes, kind, gap, own embedding and facets of the items of each history.
        history_vectors: (queries, items, size) their text vectors.
        query_vectors: (queries, size) text vectors of the queries.
    """

    long_view_codes: torch.Tensor | None = None
    history_items: torch.Tensor | None = None
    history_vectors: torch.Tensor | None = None
    query_vectors: torch.Tensor | None = None

    def rows(self, rows: list[int]) -> PromptViews:
        """The views of some of the prompts."""
        return PromptViews(*(None if view is None else view[rows] for view in self))

    def check_rows(self, prompts: int) -> None:
        """Raise ValueError if a view has another number of rows than there are prompts."""
        for name, view in self._asdict().items():
            if view is not None and len(view) != prompts:
                raise ValueError(f"{name} of {len(view)} rows for {prompts} prompts; give one per prompt")


NO_VIEWS = PromptViews()
"""Prompts that are tokens alone."""


class HistoryReader(nn.Module):
    """Turns the items of histories into vectors of the model's width.

    Args:
        config: configuration with the fields of the histories.
        width: width of the model's hidden states.
        scale: initial size of the vectors' entries, that of the input embeddings which they stand among.
    """

    def __init__(self, config: OneSearchConfig | OneSearchQwen3Config, width: int, scale: float) -> None:
        super().__init__()
        self.scale, self.levels = scale, len(config.sid_codebook_sizes)
        self.ranges = config.summary_ranges
        self.level_weights = nn.Parameter(torch.ones(self.levels, width))
        self.text = nn.Linear(config.history_vector_size, width, bias=False) if config.history_vector_size else None
        # Number 0 of each table stands for "unknown" and stays zero.
        self.facets = (
            nn.EmbeddingBag(config.history_facets + 1, width, mode="sum", padding_idx=0) if config.history_facets else None
        )
        self.ids = nn.Embedding(config.history_ids + 1, width, padding_idx=0) if config.history_ids else None
        self.kinds = nn.Embedding(len(EVENT_KINDS) + 1, width, padding_idx=0)
        self.gaps = nn.Embedding(GAP_BUCKETS, width, padding_idx=0)
        self.recency = nn.Embedding(config.history_places, width)
        self.norm = nn.LayerNorm(width)
        if self.ranges:
            self.summary = nn.Linear(width, width, bias=False)
            self.summary_kinds = nn.Parameter(torch.zeros(len(self.ranges), width))
            self.lengths = nn.Embedding(LENGTH_BUCKETS, width)
            self.summary_norm = nn.LayerNorm(width)

    def reset_parameters(self) -> None:
        """Draw initial weights. Each part of the sum gets entries of about size `scale`, and the vectors have size `scale`. Embeddings of
        an item's own, of kinds and of gaps begin at zero, so that those which training never meets change nothing. Our choice."""
        init.ones_(self.level_weights)
        if self.text is not None:
            init.normal_(self.text.weight, std=self.scale)
        for table in (self.facets, self.recency):
            if table is not None:
                init.normal_(table.weight, std=self.scale / 2)
        if self.facets is not None:
            with torch.no_grad():
                self.facets.weight[0].zero_()
        for table in (self.ids, self.kinds, self.gaps):
            if table is not None:
                init.zeros_(table.weight)
        init.constant_(self.norm.weight, self.scale)
        if self.ranges:
            init.normal_(self.summary.weight, std=self.summary.in_features**-0.5)
            init.normal_(self.summary_kinds)
            init.zeros_(self.lengths.weight)
            init.constant_(self.summary_norm.weight, self.scale)

    def forward(
        self, history_items: torch.Tensor, history_vectors: torch.Tensor | None, code_states: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Vectors of items and of summaries.

        Args:
            history_items: (batch, items, levels + 3 + facets) codes, kind, bucket of the gap, own embedding and facets, oldest item first,
                `NO_ITEM` throughout the codes behind the last item.
            history_vectors: (batch, items, size) text vectors; None stands for unknown ones.
            code_states: (batch, items, levels, width) embeddings of the codes.

        Returns:
            (batch, items, width) and, with summaries, (batch, summaries, width).
        """
        there = history_items[..., 0] >= 0  # (batch, items)
        kind, gap, own = history_items[..., self.levels : self.levels + FIRST_FACET].unbind(-1)
        facets = history_items[..., self.levels + FIRST_FACET :]
        state = (code_states * self.level_weights).sum(2)
        state = state + self.kinds(kind + 1) + self.gaps(gap)
        age = (there.sum(1, keepdim=True) - 1 - torch.arange(there.shape[1], device=there.device)).clamp(min=0)
        state = state + self.recency(age.clamp(max=self.recency.num_embeddings - 1))
        if self.text is not None and history_vectors is not None:
            state = state + self.text(history_vectors.to(state.dtype))
        if self.facets is not None and facets.shape[-1]:
            state = state + self.facets((facets + 1).flatten(0, 1)).view(state.shape)
        if self.ids is not None:
            state = state + self.ids(own)
        summaries = self._summaries(facets, there) if self.ranges else None
        return self.norm(state), summaries

    def _summaries(self, facets: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
        """Mean embedding of the facets of each kind over each history: counts of the facets times their embeddings.

        Args:
            facets: (batch, items, facets of an item), `NO_ITEM` for none.
            there: (batch, items), False behind the last item.

        Returns:
            (batch, summaries, width).
        """
        assert self.facets is not None
        table, lengths = self.facets.weight, there.sum(1, keepdim=True)  # lengths (batch, 1)
        numbers = ((facets + 1) * there[..., None]).flatten(1)  # 0 where there is none
        with torch.no_grad(), torch.autocast(facets.device.type, enabled=False):
            counts = torch.zeros(facets.shape[0], table.shape[0], device=facets.device)
            counts.scatter_add_(1, numbers, torch.ones_like(numbers, dtype=counts.dtype))
            shares = (counts / lengths.clamp(min=1)).to(table.dtype)
        means = torch.stack([shares[:, first + 1 : end + 1] @ table[first + 1 : end + 1] for first, end in self.ranges], dim=1)
        bucket = lengths.clamp(min=1).float().log2().long().clamp(max=LENGTH_BUCKETS - 1)
        # The means of long histories are small: of size 1 before the projection, they weigh as much as the kind of the facet.
        means = torch.layer_norm(means, list(self.norm.normalized_shape))
        return self.summary_norm(self.summary(means) + self.summary_kinds + self.lengths(bucket))


class HistoryMixin(PromptModule):
    """Histories as vectors of the module that embeds the prompt (`embed_tokens`)."""

    history_reader: HistoryReader | None

    def _add_history(self, width: int, scale: float) -> None:
        """Add the reader if the configuration asks for one. Without it no random number is drawn."""
        self.history_reader = None
        if self.config.history_places:
            self.history_reader = HistoryReader(self.config, width, scale)
            self.post_init()

    @torch.no_grad()
    def match_history_scale(self, size: torch.Tensor) -> None:
        """Set the initial size of the vectors to that of the embeddings, after trained embeddings were loaded."""
        if self.history_reader is not None:
            self.history_reader.norm.weight.fill_(size)
            if self.history_reader.ranges:
                self.history_reader.summary_norm.weight.fill_(size)

    def place_history(
        self,
        input_ids: torch.Tensor,
        embeddings: torch.Tensor,
        history_items: torch.Tensor | None,
        history_vectors: torch.Tensor | None,
        is_start: bool,
    ) -> torch.Tensor:
        """Put the vectors of the histories into the places of their placeholders.

        Args:
            input_ids: (batch, length) prompts.
            embeddings: (batch, length, width) embeddings of their tokens.
            history_items: see `HistoryReader.forward`; None where no prompt has a history.
            history_vectors: see `HistoryReader.forward`.
            is_start: False in later steps of `generate`, whose inputs no longer hold the prompt.

        Returns:
            (batch, length, width).

        Raises:
            ValueError: placeholders and items do not fit each other, or the shapes do not fit the model.
        """
        reader = self.history_reader
        if reader is None:
            if history_items is not None:
                raise ValueError(
                    "history_items for a model without histories as vectors: its configuration has history_places=0"
                )
            return embeddings
        is_item = input_ids == cast(int, self.config.history_token_id)  # (batch, length)
        is_summary = torch.zeros_like(is_item)
        if reader.ranges:
            is_summary = input_ids == cast(int, self.config.history_summary_token_id)
        if not is_start:
            return embeddings
        if not is_torchdynamo_compiling():
            self._check_history(is_item, is_summary, history_items, history_vectors)
        learns = self.training and torch.is_grad_enabled()
        if history_items is None and not learns:
            return embeddings
        if history_items is None:
            history_items = input_ids.new_full((1, 1, reader.levels + FIRST_FACET + 1), NO_ITEM)
            history_items[..., reader.levels + 1 : reader.levels + FIRST_FACET] = 0
        vectors, summaries = reader(history_items, self._known(history_vectors), self._code_states(history_items))
        embeddings = _placed(embeddings, is_item, vectors)
        return embeddings if summaries is None else _placed(embeddings, is_summary, summaries)

    def _known(self, vectors: torch.Tensor | None) -> torch.Tensor | None:
        """The text vectors; zeros stand for unknown ones, so that the projection takes part in every step."""
        size = self.config.history_vector_size
        if vectors is None and size and self.training:
            return self.embed_tokens.weight.new_zeros(1, 1, size)
        return vectors

    def _code_states(self, history_items: torch.Tensor) -> torch.Tensor:
        """(batch, items, levels, width) embeddings of the codes, those of the vocabulary."""
        sizes = self.config.sid_codebook_sizes
        starts = [self.config.sid_offset + sum(sizes[:level]) for level in range(len(sizes))]
        return self.embed_tokens(history_items[..., : len(sizes)].clamp(min=0) + history_items.new_tensor(starts))

    def _check_history(
        self, is_item: torch.Tensor, is_summary: torch.Tensor, items: torch.Tensor | None, vectors: torch.Tensor | None
    ) -> None:
        """Raise ValueError where places, items and vectors do not fit each other or the model."""
        levels, counts = len(self.config.sid_codebook_sizes), is_item.sum(1)
        if items is None:
            if bool(counts.any()):
                raise ValueError("the prompts hold places of history items (history_token_id), but there are no history_items")
            return
        if items.dim() != 3 or len(items) != len(is_item) or items.shape[2] < levels + FIRST_FACET:
            raise ValueError(
                f"history_items of shape {tuple(items.shape)} for {len(is_item)} prompts; expected (prompts, items, {levels + FIRST_FACET} "
                "or more): codes of all levels, kind of the event, bucket of its gap, number of the own embedding, facets"
            )
        if vectors is not None and vectors.shape != (*items.shape[:2], self.config.history_vector_size):
            raise ValueError(
                f"history_vectors of shape {tuple(vectors.shape)}; expected {(*items.shape[:2], self.config.history_vector_size)}"
            )
        there = (items[..., 0] >= 0).sum(1)
        wrong = (there != counts).nonzero()[:, 0]
        if len(wrong):
            row = int(wrong[0])
            raise ValueError(
                f"row {row} has {int(there[row])} history_items and {int(counts[row])} places for them (history_token_id="
                f"{self.config.history_token_id}); both numbers must be equal, and a prompt that was cut may have lost some"
            )
        places = is_summary.sum(1)
        if bool(((places != 0) & (places != len(self.config.summary_ranges))).any()):
            raise ValueError(f"a prompt holds {len(self.config.summary_ranges)} places of summaries, or none")
        self._check_columns(items)

    def _check_columns(self, items: torch.Tensor) -> None:
        """Raise ValueError where a number of an item lies outside its table."""
        sizes, facets = self.config.sid_codebook_sizes, self.config.history_facets
        names = [*(f"codes of level {level}" for level in range(len(sizes))), "kinds", "gaps", "own embeddings"]
        ends = [*sizes, len(EVENT_KINDS), GAP_BUCKETS, self.config.history_ids + 1]
        least = [NO_ITEM] * len(sizes) + [NO_ITEM, 0, 0]
        others = items.shape[-1] - len(names)
        names, ends, least = names + ["facets"] * others, ends + [facets] * others, least + [NO_ITEM] * others
        wrong = (items < items.new_tensor(least)) | (items >= items.new_tensor(ends))
        if bool(wrong.any()):
            column = int(wrong.flatten(0, 1).any(0).nonzero()[0])
            raise ValueError(f"history_items: {names[column]} lie outside {least[column]}..{ends[column] - 1}")


def _placed(embeddings: torch.Tensor, is_place: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Put the n-th vector of each row into its n-th place.

    Data parallelism waits for every parameter, so the vectors take part also where there is no place.

    Args:
        embeddings: (batch, length, width).
        is_place: (batch, length).
        vectors: (batch or 1, places, width).

    Returns:
        (batch, length, width).
    """
    vectors = vectors.to(embeddings.dtype)
    number = (is_place.long().cumsum(1) - 1).clamp(0, vectors.shape[1] - 1)[..., None]
    vectors = vectors.expand(embeddings.shape[0], -1, -1).gather(1, number.expand(-1, -1, vectors.shape[2]))
    return torch.where(is_place[..., None], vectors, embeddings)


__all__ = ["NO_VIEWS", "HistoryMixin", "HistoryReader", "PromptModule", "PromptViews"]
