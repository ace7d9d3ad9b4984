"""The two backbones, run for the beams of a search. Everything that the beams of a query share is computed and kept once per query.

`generate` repeats the encoder's output, and with it the keys and values of the cross-attention, for each beam, and copies all of it
whenever the beams are reordered. Here a beam has keys and values of its own only for the codes of its Semantic ID, at most one per level.
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from transformers.models.qwen3.modeling_qwen3 import apply_rotary_pos_emb

from .history_onesearch import NO_VIEWS, PromptViews
from .plain_bart_onesearch import plain_bart
from .plain_decoding_onesearch import BeamDecoder, KeysValues, PlainBartDecoder

if TYPE_CHECKING:
    from transformers.models.bart.modeling_bart import BartAttention, BartDecoderLayer, BartModel
    from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention, Qwen3DecoderLayer, Qwen3Model


class _BeamCache:
    """Keys and values of the beams' own codes in one layer."""

    def __init__(self) -> None:
        self.stored: KeysValues | None = None

    def extend(self, keys: torch.Tensor, values: torch.Tensor, parents: torch.Tensor) -> KeysValues:
        """Append the keys and values of one code to those of the parents.

        Args:
            keys: (queries * beams, heads, head size).
            values: (queries * beams, heads, head size).
            parents: (queries * beams,) rows of the previous step that the beams extend.

        Returns:
            Keys and values of all codes so far; their length is the number of codes.
        """
        keys, values = keys[:, :, None], values[:, :, None]
        if self.stored is not None:
            keys = torch.cat([self.stored.keys.index_select(0, parents), keys], dim=2)
            values = torch.cat([self.stored.values.index_select(0, parents), values], dim=2)
        self.stored = KeysValues(keys, values)
        return self.stored


class BartBeamDecoder:
    """BART's decoder for beams. The encoder and the keys and values of the cross-attention are computed once per query.

    Args:
        backbone: a `OneSearchModel`, which may have adapters.
        input_ids: (queries, length) prompts.
        attention_mask: (queries, length), 0 where padded.
        views: long view and history of each prompt.
    """

    def __init__(
        self,
        backbone: BartModel,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        views: PromptViews = NO_VIEWS,
    ) -> None:
        self.decoder = backbone.decoder
        self.layers = list(cast("Iterable[BartDecoderLayer]", self.decoder.layers))
        self.start_token = cast(int, backbone.config.decoder_start_token_id)
        prompt = {"input_ids": input_ids, "attention_mask": attention_mask, **views._asdict()}
        states = backbone.encoder(**prompt, return_dict=True).last_hidden_state
        self.mask = None if bool(attention_mask.all()) else attention_mask.bool()[:, None, None, :]  # (queries, 1, 1, length)
        self.shared = [_prompt_keys_values(layer.encoder_attn, states) for layer in self.layers]
        self.queries = len(input_ids)

    def start(self) -> torch.Tensor:
        """See [`BeamDecoder`]."""
        self.own = [_BeamCache() for _ in self.layers]
        self.position = 0
        tokens = torch.full((self.queries, 1), self.start_token, device=self.decoder.embed_tokens.weight.device)
        return self.step(tokens, torch.arange(self.queries, device=tokens.device))

    def step(self, tokens: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """See [`BeamDecoder`]."""
        decoder = self.decoder
        positions = decoder.embed_positions(tokens[:, :1], self.position)  # (queries, 1, width)
        hidden = decoder.layernorm_embedding(decoder.embed_tokens(tokens) + positions[:1])  # (queries, beams, width)
        for layer, shared, own in zip(self.layers, self.shared, self.own):
            hidden = layer.self_attn_layer_norm(hidden + self._attend_self(layer.self_attn, hidden, own, parents))
            hidden = layer.encoder_attn_layer_norm(hidden + self._attend_prompt(layer.encoder_attn, hidden, shared))
            hidden = layer.final_layer_norm(hidden + layer.fc2(layer.activation_fn(layer.fc1(hidden))))
        self.position += 1
        return hidden.flatten(0, 1)

    def _attend_self(
        self, attention: BartAttention, hidden: torch.Tensor, own: _BeamCache, parents: torch.Tensor
    ) -> torch.Tensor:
        """Self-attention over the beam's own codes: (queries, beams, width) → (queries, beams, width)."""
        rows = hidden.shape[0] * hidden.shape[1]
        query, key, value = (
            part(hidden).view(rows, -1, attention.head_dim) for part in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        keys, values = own.extend(key, value, parents)
        mixed = value if keys.shape[2] == 1 else _attend_few(query, keys, values, attention.scaling)
        return attention.out_proj(mixed.reshape(hidden.shape))

    def _attend_prompt(self, attention: BartAttention, hidden: torch.Tensor, shared: KeysValues) -> torch.Tensor:
        """Cross-attention over the prompt, which the beams of a query share: (queries, beams, width) → (queries, beams, width)."""
        query = _heads(attention, attention.q_proj(hidden))  # (queries, heads, beams, head size)
        mixed = F.scaled_dot_product_attention(query, shared.keys, shared.values, attn_mask=self.mask, scale=attention.scaling)
        return attention.out_proj(mixed.transpose(1, 2).reshape(hidden.shape))


def bart_beam_decoder(
    backbone: BartModel,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    views: PromptViews = NO_VIEWS,
) -> BeamDecoder:
    """The decoder of a search: plain functions where they compute what the modules would, and the modules elsewhere."""
    plain = plain_bart(backbone)
    if plain is None:
        return BartBeamDecoder(backbone, input_ids, attention_mask, views)
    return PlainBartDecoder(backbone, plain, input_ids, attention_mask, views)


def _prompt_keys_values(attention: BartAttention, states: torch.Tensor) -> KeysValues:
    """Cross-attention's keys and values of the encoder's states (queries, length, width)."""
    return KeysValues(_heads(attention, attention.k_proj(states)), _heads(attention, attention.v_proj(states)))


def _heads(attention: BartAttention, states: torch.Tensor) -> torch.Tensor:
    """(rows, length, width) → (rows, heads, length, head size)."""
    return states.view(*states.shape[:2], -1, attention.head_dim).transpose(1, 2)


def _attend_few(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scaling: float) -> torch.Tensor:
    """Attention of one query per row over a few keys, without tensors larger than the keys.

    Args:
        query: (rows, heads, head size).
        keys: (rows, heads, codes, head size).
        values: (rows, heads, codes, head size).
        scaling: factor of the products.

    Returns:
        (rows, heads, head size).
    """
    weights = (keys * query[:, :, None]).sum(-1) * scaling
    return (values * weights.float().softmax(-1).to(values.dtype)[..., None]).sum(2)


class Qwen3BeamDecoder:
    """Qwen3 for beams. The prompt runs once per query, and all beams of a query read the same keys and values of it.

    Args:
        backbone: a `OneSearchQwen3Model`, which may have adapters.
        input_ids: (queries, length) prompts, padded on either side.
        attention_mask: (queries, length), 0 where padded.
        views: long view and history of each prompt.

    Raises:
        ValueError: a layer attends within a sliding window.
    """

    def __init__(
        self,
        backbone: Qwen3Model,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        views: PromptViews = NO_VIEWS,
    ) -> None:
        if backbone.has_sliding_layers:
            raise ValueError(
                "search needs full attention, and this configuration has sliding-window layers; set use_sliding_window to false"
            )
        self.backbone = backbone
        self.layers = list(cast("Iterable[Qwen3DecoderLayer]", backbone.layers))
        positions = (attention_mask.cumsum(1) - 1).clamp(min=0)
        prompt = {"input_ids": input_ids, "attention_mask": attention_mask, **views._asdict()}
        outputs = backbone(**prompt, position_ids=positions, use_cache=True, return_dict=True)
        self.shared = [KeysValues(layer.keys, layer.values) for layer in outputs.past_key_values.layers]
        self.mask = attention_mask.bool()[:, None, None, :]  # (queries, 1, 1, length)
        last = attention_mask.shape[1] - 1 - attention_mask.flip(1).argmax(1)  # place of each prompt's last token
        self.hidden = outputs.last_hidden_state[torch.arange(len(last), device=last.device), last]
        self.lengths = attention_mask.sum(1, keepdim=True)  # (queries, 1) tokens of each prompt

    def start(self) -> torch.Tensor:
        """See [`BeamDecoder`]."""
        self.own = [_BeamCache() for _ in self.shared]
        self.position = self.lengths  # (queries, 1) of the next token
        return self.hidden

    def step(self, tokens: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        """See [`BeamDecoder`]."""
        backbone = self.backbone
        hidden = backbone.embed_tokens(tokens)  # (queries, beams, width)
        rotary = backbone.rotary_emb(hidden, self.position)  # cosines and sines, (queries, 1, head size) each
        for layer, shared, own in zip(self.layers, self.shared, self.own):
            hidden = hidden + self._attend(layer.self_attn, layer.input_layernorm(hidden), rotary, shared, own, parents)
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        self.position = self.position + 1
        return backbone.norm(hidden).flatten(0, 1)

    def _attend(
        self,
        attention: Qwen3Attention,
        hidden: torch.Tensor,
        rotary: tuple[torch.Tensor, torch.Tensor],
        shared: KeysValues,
        own: _BeamCache,
        parents: torch.Tensor,
    ) -> torch.Tensor:
        """One softmax over the prompt's keys, which the beams of a query share, and the beam's own keys.

        Args:
            attention: the layer's attention.
            hidden: (queries, beams, width).
            rotary: cosines and sines of the position.
            shared: keys and values of the prompt, (queries, key heads, length, head size).
            own: keys and values of the beams' codes.
            parents: (queries * beams,) rows of the previous step that the beams extend.

        Returns:
            (queries, beams, width).
        """
        queries, beams, _ = hidden.shape
        shape = (queries, beams, -1, attention.head_dim)
        query = attention.q_norm(attention.q_proj(hidden).view(shape))
        key = attention.k_norm(attention.k_proj(hidden).view(shape))
        query, key = apply_rotary_pos_emb(query, key, *rotary, unsqueeze_dim=2)
        value = attention.v_proj(hidden).view(shape)
        keys, values = own.extend(key.flatten(0, 1), value.flatten(0, 1), parents)
        key_heads, codes, size = keys.shape[1:]
        query = query.view(queries, beams, key_heads, -1, size)  # query heads grouped by the key head that they read
        groups = query.shape[3]

        # The shared keys: all beams and groups of a query in one product. (queries, beams, key heads, groups, length)
        at_prompt = query.permute(0, 2, 1, 3, 4).reshape(queries, key_heads, beams * groups, size)
        weights = (at_prompt @ shared.keys.transpose(-1, -2)).masked_fill(~self.mask, -torch.inf)
        weights = weights.view(queries, key_heads, beams, groups, -1).transpose(1, 2)

        # The beams' own keys: a product per beam. (queries, beams, key heads, groups, codes)
        own_weights = query.view(queries * beams, key_heads, groups, size) @ keys.transpose(-1, -2)
        own_weights = own_weights.view(queries, beams, key_heads, groups, codes)

        weights = (torch.cat([weights, own_weights], -1).float() * attention.scaling).softmax(-1).to(values.dtype)
        of_prompt, of_own = weights.split([weights.shape[-1] - codes, codes], dim=-1)
        mixed = of_prompt.transpose(1, 2).reshape(queries, key_heads, beams * groups, -1) @ shared.values
        mixed = mixed.view(queries, key_heads, beams, groups, size).transpose(1, 2)
        mixed = mixed + (of_own.reshape(queries * beams, key_heads, groups, codes) @ values).view(mixed.shape)
        return attention.o_proj(mixed.reshape(queries, beams, -1))


__all__ = ["BartBeamDecoder", "Qwen3BeamDecoder", "bart_beam_decoder"]
