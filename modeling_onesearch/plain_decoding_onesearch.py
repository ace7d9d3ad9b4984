"""BART, run for the beams of a search by plain functions. Everything that the beams of a query share is computed and kept once per query.

Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch

from .bart_functions_onesearch import PlainBart, encode
from .history_onesearch import NO_VIEWS, PromptViews
from .own_codes_onesearch import OwnCodes, Places, attend_own


class BeamDecoder(Protocol):
    """Runs a backbone for the active beams of a batch of queries, one level after the other."""

    def start(self) -> torch.Tensor:
        """Begin at level 0, without the codes of earlier steps; the states of the prompts are kept.

        Returns:
            Hidden states that predict the codes of level 0: (queries, width of the model).
        """

    def step(self, tokens: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """Hidden states that predict the codes of the next level.

        Args:
            tokens: (queries, beams) vocabulary ids of the beams' last codes.
            parents: (queries * beams,) rows of the previous step that the beams extend.

        Returns:
            (queries * beams, width of the model).
        """


class KeysValues(NamedTuple):
    """Keys and values of one attention layer, (rows, heads, length, head size) each."""

    keys: torch.Tensor
    values: torch.Tensor


class Backbone(Protocol):
    """What the plain functions need of a BART besides its layers."""

    config: Any
    encoder: Any
    decoder: Any


class PlainBartDecoder:
    """BART's decoder for beams without calls of modules in its layers.

    Args:
        backbone: embeddings and norms of encoder and decoder.
        plain: the weights of their layers.
        input_ids: (queries, length) prompts.
        attention_mask: (queries, length), 0 where padded.
        views: long view and history of each prompt.
    """

    def __init__(
        self,
        backbone: Backbone,
        plain: PlainBart,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        views: PromptViews = NO_VIEWS,
    ) -> None:
        self.decoder, self.layers, self.queries = backbone.decoder, plain.decoder, len(input_ids)
        self.start_token = backbone.config.decoder_start_token_id
        states = encode(backbone.encoder, plain.encoder, input_ids, attention_mask, views)
        self.mask = None if bool(attention_mask.all()) else attention_mask.bool()[:, None, None, :]  # (queries, 1, 1, length)
        attentions = [layer.cross for layer in self.layers]
        self.shared = [KeysValues(one.heads(one.key(states)), one.heads(one.value(states))) for one in attentions]

    def start(self) -> torch.Tensor:
        """See [`BeamDecoder`]."""
        self.own, self.places, self.position = [OwnCodes() for _ in self.layers], Places(self.queries), 0
        return self._run(torch.full((self.queries, 1), self.start_token))

    def step(self, tokens: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """See [`BeamDecoder`]."""
        self.places.extend(parents)
        return self._run(tokens)

    def _run(self, tokens: torch.Tensor) -> torch.Tensor:
        """Hidden states (rows, width) after the tokens (queries, beams)."""
        decoder, places = self.decoder, self.places.rows
        positions = decoder.embed_positions(tokens[:1, :1], self.position)  # (1, 1, width)
        hidden = decoder.layernorm_embedding(decoder.embed_tokens(tokens) + positions).flatten(0, 1)  # (rows, width)
        for layer, shared, own in zip(self.layers, self.shared, self.own):
            mixed = layer.own.value(hidden)
            own.append(layer.own.key(hidden), mixed)
            if places.shape[1] > 1:
                mixed = attend_own(layer.own.query(hidden), own, places, layer.own.head_size, layer.own.scaling)
            hidden = layer.own_norm(hidden + layer.own.out(mixed))
            query = layer.cross.query(hidden).view(self.queries, tokens.shape[1], -1)
            mixed = layer.cross.mix(query, *shared, self.mask).view(hidden.shape)
            hidden = layer.feed_forward(layer.cross_norm(hidden + layer.cross.out(mixed)))
        self.position += 1
        return hidden


__all__ = ["Backbone", "BeamDecoder", "KeysValues", "PlainBartDecoder"]
