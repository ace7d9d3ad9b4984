"""The text vector of the query in the prompt: one place that holds a frozen text encoder's vector of the query, projected.

The vectors of queries and of items lie in one space, and the codes of items are made of their vectors, so a query of words that no training
example held still points at codes. Our addition; OneSearch (arXiv 2509.03236) gives the query's Semantic ID alone.
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from transformers import initialization as init
from transformers.utils import is_torchdynamo_compiling

from .history_onesearch import PromptModule


class QueryVectorReader(nn.Module):
    """Projects text vectors of queries to the model's width.

    Args:
        size: width of the text vectors.
        width: width of the model's hidden states.
        scale: initial size of the entries, that of the input embeddings which they stand among.
    """

    def __init__(self, size: int, width: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.text = nn.Linear(size, width)
        self.norm = nn.LayerNorm(width)

    def reset_parameters(self) -> None:
        """Draw initial weights: entries of about size `scale`, as those of the items of histories have."""
        init.normal_(self.text.weight, std=self.scale)
        init.zeros_(self.text.bias)
        init.constant_(self.norm.weight, self.scale)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """(batch, size) → (batch, width)."""
        projected: torch.Tensor = self.norm(self.text(vectors.to(self.text.weight.dtype)))
        return projected


class QueryVectorMixin(PromptModule):
    """The query's vector of the module that embeds the prompt (`embed_tokens`)."""

    query_reader: QueryVectorReader | None

    def _add_query_reader(self, width: int, scale: float) -> None:
        """Add the reader if the configuration asks for one. Without it no random number is drawn."""
        self.query_reader = None
        if self.config.query_vector_size:
            self.query_reader = QueryVectorReader(self.config.query_vector_size, width, scale)
            self.post_init()

    def place_query(
        self, input_ids: torch.Tensor, embeddings: torch.Tensor, query_vectors: torch.Tensor | None, is_start: bool
    ) -> torch.Tensor:
        """Put the projected vector of each query into the place of its placeholder.

        Args:
            input_ids: (batch, length) prompts.
            embeddings: (batch, length, width) their embeddings.
            query_vectors: (batch, size) text vectors; rows of prompts without a placeholder are not read.
            is_start: False in later steps of `generate`, whose inputs no longer hold the prompt.

        Returns:
            (batch, length, width).

        Raises:
            ValueError: placeholders and vectors do not fit each other, or the shape does not fit the model.
        """
        reader = self.query_reader
        if reader is None:
            if query_vectors is not None:
                raise ValueError("query_vectors for a model that reads none: its configuration has query_vector_size=0")
            return embeddings
        if not is_start:
            return embeddings
        is_place = input_ids == cast(int, self.config.query_vector_token_id)  # (batch, length)
        if not is_torchdynamo_compiling():
            self._check_query_places(is_place, query_vectors)
        if query_vectors is None:
            if not (self.training and torch.is_grad_enabled()):
                return embeddings
            # Data parallelism waits for every parameter, also in a batch of prompts without a place.
            query_vectors = embeddings.new_zeros(1, self.config.query_vector_size)
        vectors = reader(query_vectors).to(embeddings.dtype)
        return torch.where(is_place[..., None], vectors[:, None], embeddings)

    def _check_query_places(self, is_place: torch.Tensor, vectors: torch.Tensor | None) -> None:
        """Raise ValueError where places and vectors do not fit each other or the model."""
        counts = is_place.sum(1)
        if vectors is None:
            if bool(counts.any()):
                raise ValueError(
                    "the prompts hold a place of the query's vector (query_vector_token_id), but there are no query_vectors"
                )
            return
        expected = (len(is_place), self.config.query_vector_size)
        if tuple(vectors.shape) != expected:
            raise ValueError(f"query_vectors of shape {tuple(vectors.shape)}; expected {expected}, one vector per prompt")
        if bool((counts > 1).any()):
            row = int((counts > 1).nonzero()[0, 0])
            raise ValueError(f"row {row} has {int(counts[row])} places of the query's vector; a prompt has one at most")


__all__ = ["QueryVectorMixin", "QueryVectorReader"]
