"""The weights of a BART's layers for the plain functions of a search.

Where a layer is not the plain one of transformers (an adapter, a hook, another device), none are found, and the modules run.
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from transformers.models.bart.modeling_bart import BartAttention, BartDecoder, BartDecoderLayer, BartEncoderLayer, BartModel

from .bart_functions_onesearch import Affine, Attention, DecoderLayer, EncoderLayer, FeedForward, Norm, PlainBart
from .bart_onesearch import OneSearchEncoder
from .packing_onesearch import PACKED_SDPA


def plain_bart(backbone: BartModel) -> PlainBart | None:
    """The weights of a backbone's layers; None where its modules have to run.

    They have to run with gradients, while training, under autocast, on another device than the CPU, with an attention implementation
    other than `sdpa`, and where a module has a hook or is not transformers' own, as with adapters or quantised weights.
    """
    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling() or backbone.training:
        return None
    encoder, decoder = backbone.encoder, backbone.decoder
    if type(encoder) is not OneSearchEncoder or type(decoder) is not BartDecoder:
        return None
    if backbone.config._attn_implementation != PACKED_SDPA or backbone.shared.weight.device.type != "cpu":
        return None
    try:
        return PlainBart(
            [_encoder_layer(layer) for layer in encoder.layers], [_decoder_layer(layer) for layer in decoder.layers]
        )
    except _NotPlainError:
        return None


class _NotPlainError(Exception):
    """A module is not the plain one."""


def _encoder_layer(layer: nn.Module) -> EncoderLayer:
    layer = cast(BartEncoderLayer, _plain(layer, BartEncoderLayer))
    return EncoderLayer(_attention(layer.self_attn), _norm(layer.self_attn_layer_norm), _feed_forward(layer))


def _decoder_layer(layer: nn.Module) -> DecoderLayer:
    layer = cast(BartDecoderLayer, _plain(layer, BartDecoderLayer))
    return DecoderLayer(
        _attention(layer.self_attn),
        _norm(layer.self_attn_layer_norm),
        _attention(layer.encoder_attn),
        _norm(layer.encoder_attn_layer_norm),
        _feed_forward(layer),
    )


def _feed_forward(layer: BartEncoderLayer | BartDecoderLayer) -> FeedForward:
    return FeedForward(_affine(layer.fc1), layer.activation_fn, _affine(layer.fc2), _norm(layer.final_layer_norm))


def _attention(module: nn.Module) -> Attention:
    module = cast(BartAttention, _plain(module, BartAttention))
    query, key, value = _affine(module.q_proj), _affine(module.k_proj), _affine(module.v_proj)
    return Attention(query, key, value, _affine(module.out_proj), module.head_dim, module.scaling)


def _affine(module: nn.Module) -> Affine:
    parameters = _plain(module, nn.Linear)._parameters
    return Affine(cast(torch.Tensor, parameters["weight"]), cast(torch.Tensor, parameters["bias"]))


def _norm(module: nn.Module) -> Norm:
    parameters = _plain(module, nn.LayerNorm)._parameters
    return Norm(
        cast(torch.Tensor, parameters["weight"]), cast(torch.Tensor, parameters["bias"]), cast(nn.LayerNorm, module).eps
    )


def _plain(module: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """The module itself; an error where it is of another class, or has a hook or a `forward` of its own."""
    if type(module) is not kind or module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__:
        raise _NotPlainError
    return module


__all__ = ["plain_bart"]
