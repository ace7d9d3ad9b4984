"""Places of tokens: how many a model has positions for, which position a token has, and which places of a batch are padding.

Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from transformers.utils import is_torchdynamo_compiling


def check_length(name: str, length: int, longest: int) -> None:
    """Raise ValueError if inputs have more places than the model has positions.

    Args:
        name: name of the inputs in the error.
        length: number of their places.
        longest: the model's `max_position_embeddings`.
    """
    if length > longest:
        raise ValueError(f"{name} of {length} tokens, max_position_embeddings={longest}: cut them to at most {longest} tokens")


MANY_TOKENS, STEP = 1024, 64
"""A packed batch of at least `MANY_TOKENS` tokens is filled up to a multiple of `STEP` rows, because oneDNN compiles code for every new
number of rows. Our choice."""


class Packing(NamedTuple):
    """Places of the real tokens of a batch.

    Args:
        shape: batch and length of the padded batch.
        places: (rows,) places in batch · length, ascending; behind those of the tokens that of the first token again, as filling.
        tokens: number of real tokens.
    """

    shape: tuple[int, int]
    places: torch.Tensor
    tokens: int

    @classmethod
    def of(cls, shape: tuple[int, int], places: torch.Tensor) -> Packing:
        """A packing of the tokens at these places, which are ascending and at least one."""
        tokens = len(places)
        filling = -tokens % STEP if tokens >= MANY_TOKENS else 0
        return cls(shape, torch.cat([places, places[:1].expand(filling)]) if filling else places, tokens)

    def pack(self, states: torch.Tensor) -> torch.Tensor:
        """(batch, length, width) → (1, rows, width)."""
        return states.flatten(0, 1).index_select(0, self.places)[None]

    def unpack(self, states: torch.Tensor) -> torch.Tensor:
        """(1, rows, width) → (batch, length, width), 0 where padded."""
        batch, length = self.shape
        padded = states.new_zeros(batch * length, states.shape[2])
        return padded.index_copy(0, self.places[: self.tokens], states[0, : self.tokens]).view(batch, length, -1)


class PositionsMixin:
    """Positions of an encoder that are counted over the tokens and not over the padding before them."""

    if TYPE_CHECKING:
        embed_positions: Any

    def _from_first_token(self, embeddings: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Embeddings to which the layers add the positions of the tokens, which start at 0 at each row's first token.

        BART adds the position of the place, so each token gets the difference of both beforehand. Padding on the right makes none: then
        the embeddings are returned as they are, bit by bit.

        Args:
            embeddings: (batch, length, width).
            attention_mask: (batch, length), 0 where padded.

        Returns:
            (batch, length, width).
        """
        if attention_mask is None or attention_mask.dim() != 2:
            return embeddings
        is_token = attention_mask.bool()
        places = torch.arange(is_token.shape[1], device=is_token.device).expand(is_token.shape)
        positions = torch.where(is_token, is_token.cumsum(1) - 1, places)
        if not is_torchdynamo_compiling() and torch.equal(positions, places):
            return embeddings
        return embeddings + self._position_vectors(positions) - self._position_vectors(places)

    def _position_vectors(self, positions: torch.Tensor) -> torch.Tensor:
        """Position embeddings (batch, length, width) of `positions` (batch, length)."""
        return self.embed_positions(positions, position_ids=positions)[0]


__all__ = ["Packing", "PositionsMixin", "check_length"]
