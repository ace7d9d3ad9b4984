"""The generator of a checkpoint without transformers' model classes, for a process that searches once.

Importing transformers' models also imports torch's compiler and its distributed tensors, which takes longer than everything else that one
search does. The layers run as the plain functions of `bart_functions_onesearch.py` in any case, so their weights are enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from onesearch.files import read_json
from onesearch.modeling_onesearch.bart_functions_onesearch import (
    Affine,
    Attention,
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    Norm,
    PlainBart,
    encode,
)
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME, SidIndex
from onesearch.modeling_onesearch.configuration_onesearch import OneSearchConfig
from onesearch.modeling_onesearch.history_onesearch import NO_VIEWS, PromptViews
from onesearch.modeling_onesearch.long_view_onesearch import LongViewMixin
from onesearch.modeling_onesearch.places_onesearch import PositionsMixin
from onesearch.modeling_onesearch.plain_decoding_onesearch import PlainBartDecoder
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.modeling_onesearch.search_onesearch import SearchMixin
from onesearch.uninitialised import Uninitialised

ARCHITECTURE = "OneSearchForConditionalGeneration"

WEIGHTS_NAME = "model.safetensors"

OTHER_LOADERS = ("adapter_config.json", "model.safetensors.index.json")
"""Files of a checkpoint that only transformers and PEFT load."""

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}
"""Activations by transformers' names. A checkpoint with another one is loaded by transformers."""

EPSILON = 1e-5
"""Of BART's layer norms, which is that of torch."""

FIRST_POSITION = 2
"""Row of the first position in BART's table of positions."""

ENCODER_TENSORS, DECODER_TENSORS = 16, 26
"""Weights and biases of a layer."""

Tensors = Mapping[str, torch.Tensor]


class ScaledEmbedding(nn.Embedding):
    """Embeddings times a factor, as in BART."""

    scale: float = 1.0

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input) * self.scale


class Positions(nn.Embedding):
    """BART's learned positions."""

    def forward(self, input: torch.Tensor, first: int = 0, position_ids: torch.Tensor | None = None) -> torch.Tensor:
        """(batch, length) → (1 or batch, length, width); `first` is the position of the first token."""
        if position_ids is None:
            position_ids = torch.arange(first, first + input.shape[1])[None]
        return super().forward(position_ids + FIRST_POSITION)


class PlainEncoder(PositionsMixin, LongViewMixin, nn.Module):
    """Embeddings of prompts, with long view and history."""

    def __init__(self, config: OneSearchConfig, shared: ScaledEmbedding) -> None:
        nn.Module.__init__(self)
        width = cast(int, config.d_model)
        self.config, self.max_source_positions = config, config.max_position_embeddings
        self.embed_tokens = shared
        self.embed_positions = Positions(config.max_position_embeddings + FIRST_POSITION, width)
        self.layernorm_embedding = nn.LayerNorm(width, EPSILON)
        self._add_views(width, cast(int, config.encoder_attention_heads), 0.0, 1.0)

    def post_init(self) -> None:
        """Nothing is drawn: all weights are read from the checkpoint."""


class PlainDecoder(nn.Module):
    """Embeddings of codes."""

    def __init__(self, config: OneSearchConfig, shared: ScaledEmbedding) -> None:
        super().__init__()
        width = cast(int, config.d_model)
        self.embed_tokens = shared
        self.embed_positions = Positions(config.max_position_embeddings + FIRST_POSITION, width)
        self.layernorm_embedding = nn.LayerNorm(width, EPSILON)


class PlainBackbone(nn.Module):
    """Everything of the encoder-decoder but its layers."""

    def __init__(self, config: OneSearchConfig) -> None:
        super().__init__()
        self.config = config
        self.shared = ScaledEmbedding(config.vocab_size, cast(int, config.d_model), padding_idx=config.pad_token_id)
        self.shared.scale = math.sqrt(cast(int, config.d_model)) if config.scale_embedding else 1.0
        self.encoder = PlainEncoder(config, self.shared)
        self.decoder = PlainDecoder(config, self.shared)


class PlainSearchModel(SearchMixin, nn.Module):
    """A generator that searches, and can do nothing else; `load_plain_model` makes it."""

    def __init__(self, config: OneSearchConfig) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.model = PlainBackbone(config)
        self.lm_head = nn.Linear(cast(int, config.d_model), config.vocab_size, bias=False)
        self.layers = PlainBart([], [])

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def get_encoder(self) -> Callable[..., BaseModelOutput]:
        """A function of the model's inputs that gives the states of the prompts."""

        def read(input_ids: torch.Tensor, attention_mask: torch.Tensor, **views: torch.Tensor) -> BaseModelOutput:
            states = encode(
                cast(PlainBackbone, self.model).encoder, self.layers.encoder, input_ids, attention_mask, PromptViews(**views)
            )
            return BaseModelOutput(cast(torch.FloatTensor, states))

        return read

    def _beam_decoder(
        self,
        backbone: PlainBackbone,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        views: PromptViews = NO_VIEWS,
    ) -> PlainBartDecoder:
        return PlainBartDecoder(backbone, self.layers, input_ids, attention_mask, views)


def load_plain_model(folder: Path) -> PlainSearchModel | None:
    """Load the generator of a checkpoint with its item index and search settings.

    Args:
        folder: folder of the checkpoint on this machine.

    Returns:
        None where transformers has to load it: another architecture, an adapter, quantised weights, another precision than float32, a
        folder that does not exist, or weights that do not fit the configuration, for which transformers has the errors.

    Raises:
        ValueError: the item index is damaged or belongs to other codebooks.
    """
    if not is_plain(folder):
        return None
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = OneSearchConfig.from_pretrained(folder)
    try:
        tensors = load_file(folder / WEIGHTS_NAME)
        model = _model(config, tensors)
    except (SafetensorError, KeyError, RuntimeError):
        return None
    if any(tensor.dtype != torch.float32 for tensor in tensors.values()):
        return None
    model.search_config = SearchConfig.from_pretrained(folder)
    if (folder / SID_INDEX_NAME).is_file():
        model.set_sid_index(SidIndex.load(folder / SID_INDEX_NAME))
    return model.eval()


def is_plain(folder: Path) -> bool:
    """Whether the folder's generator is an encoder-decoder whose layers `PlainBart` describes, with its weights in one file."""
    if not (folder / "config.json").is_file() or not (folder / WEIGHTS_NAME).is_file():
        return False
    settings = read_json(folder / "config.json")
    return (
        settings.get("architectures") == [ARCHITECTURE]
        and "quantization_config" not in settings
        and settings.get("activation_function", "gelu") in ACTIVATIONS
        and not any((folder / name).is_file() for name in OTHER_LOADERS)
    )


def _model(config: OneSearchConfig, tensors: Tensors) -> PlainSearchModel:
    """The model with its weights; KeyError or RuntimeError where they do not fit the configuration."""
    with Uninitialised():
        model = PlainSearchModel(config)
    of_layers = tuple(f"model.{side}.layers." for side in ("encoder", "decoder"))
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith(of_layers)}
    for name in ("lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"):
        rest.setdefault(name, rest["model.shared.weight"])  # tied weights are saved once
    model.load_state_dict(rest, assign=True)
    layers = cast(int, config.encoder_layers), cast(int, config.decoder_layers)
    if sum(name.startswith(of_layers) for name in tensors) != ENCODER_TENSORS * layers[0] + DECODER_TENSORS * layers[1]:
        raise KeyError("the checkpoint has other layers than its configuration")
    heads = cast(int, config.encoder_attention_heads), cast(int, config.decoder_attention_heads)
    activation = ACTIVATIONS[cast(str, config.activation_function)]
    model.layers = PlainBart(
        [_encoder_layer(tensors, f"{of_layers[0]}{layer}", heads[0], activation) for layer in range(layers[0])],
        [_decoder_layer(tensors, f"{of_layers[1]}{layer}", heads[1], activation) for layer in range(layers[1])],
    )
    return model


def _encoder_layer(tensors: Tensors, name: str, heads: int, activation: Callable[[torch.Tensor], torch.Tensor]) -> EncoderLayer:
    attention = _attention(tensors, f"{name}.self_attn", heads)
    return EncoderLayer(attention, _norm(tensors, f"{name}.self_attn_layer_norm"), _feed_forward(tensors, name, activation))


def _decoder_layer(tensors: Tensors, name: str, heads: int, activation: Callable[[torch.Tensor], torch.Tensor]) -> DecoderLayer:
    return DecoderLayer(
        _attention(tensors, f"{name}.self_attn", heads),
        _norm(tensors, f"{name}.self_attn_layer_norm"),
        _attention(tensors, f"{name}.encoder_attn", heads),
        _norm(tensors, f"{name}.encoder_attn_layer_norm"),
        _feed_forward(tensors, name, activation),
    )


def _feed_forward(tensors: Tensors, name: str, activation: Callable[[torch.Tensor], torch.Tensor]) -> FeedForward:
    first, second = _affine(tensors, f"{name}.fc1"), _affine(tensors, f"{name}.fc2")
    return FeedForward(first, activation, second, _norm(tensors, f"{name}.final_layer_norm"))


def _attention(tensors: Tensors, name: str, heads: int) -> Attention:
    query, key, value, out = (_affine(tensors, f"{name}.{part}_proj") for part in ("q", "k", "v", "out"))
    size = query.weight.shape[0] // heads
    return Attention(query, key, value, out, size, size**-0.5)


def _affine(tensors: Tensors, name: str) -> Affine:
    return Affine(tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def _norm(tensors: Tensors, name: str) -> Norm:
    return Norm(tensors[f"{name}.weight"], tensors[f"{name}.bias"], EPSILON)


__all__ = ["PlainSearchModel", "is_plain", "load_plain_model"]
