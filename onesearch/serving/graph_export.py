"""Export of a searchable encoder-decoder as two ONNX graphs: the encoder with the cross-attention's keys and values, and one decoder step.

``encoder.onnx``: `input_ids`, `attention_mask` (queries, length) → `cross_keys`, `cross_values` (layers, queries, heads, length,
head size). A model whose prompts hold more than tokens has further inputs, as in `OneSearchForConditionalGeneration.forward`:
`history_items` (queries, items, columns), `history_vectors` (queries, items, size), `query_vectors` (queries, size), `long_view_codes`
(queries, sequences, items, levels).

``step.onnx``: `tokens` (queries, beams), `position` (1, 1), `attention_mask`, `cross_keys`, `cross_values`, `own_keys`, `own_values`
(layers, rows, heads, codes so far, head size), `parents` (queries · beams,), `vocabulary` (codes,) → `logits` (queries · beams, codes) of
the tokens in `vocabulary`, and the new `own_keys` and `own_values`. At the first step the length of `own_keys` is 0.

``graph.json`` holds what a program needs beside them: codebook sizes, offset, start token, sizes, and of each further input the shape that
stands for nothing and its value. ``sid_index.safetensors`` and
``search_config.json`` are those of the checkpoint.
"""

from __future__ import annotations

import copy
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from onesearch.extras import require
from onesearch.files import atomic_folder, write_json
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME
from onesearch.modeling_onesearch.history_fields_onesearch import FIRST_FACET, NO_ITEM
from onesearch.modeling_onesearch.history_onesearch import PromptViews
from onesearch.modeling_onesearch.resampler_onesearch import EMPTY

if TYPE_CHECKING:
    from onesearch.modeling_onesearch.modeling_onesearch import OneSearchForConditionalGeneration

ENCODER_NAME, STEP_NAME, GRAPH_NAME = "encoder.onnx", "step.onnx", "graph.json"
"""Files of an export."""

FORMAT = "onesearch-graphs/2"


def export_graphs(model: OneSearchForConditionalGeneration, folder: str | Path) -> Path:
    """Write encoder and decoder step of a model as ONNX graphs, with its item index and search settings.

    Args:
        model: encoder-decoder with an item index.
        folder: new or empty folder; it appears whole or not at all.

    Returns:
        The folder. `GraphSearcher.from_pretrained` searches with it through onnxruntime.

    Raises:
        MissingExtraError: the extra ``onnx`` is not installed.
        ValueError: the model is decoder-only, or has no item index.
    """
    require("onnx", "onnx", "onnxscript", needed_by="the export of graphs")
    _check(model)
    model = model.eval()
    with atomic_folder(folder, replaces=[GRAPH_NAME]) as temporary:
        encoder, step = _Encoder(model), _Step(model)
        inputs = ["input_ids", "attention_mask", *encoder.views]
        cross = _export(encoder, encoder.example(), temporary / ENCODER_NAME, inputs, ["cross_keys", "cross_values"])
        names = [
            "tokens",
            "position",
            "attention_mask",
            "cross_keys",
            "cross_values",
            "own_keys",
            "own_values",
            "parents",
            "vocabulary",
        ]
        _export(step, step.example(*cross), temporary / STEP_NAME, names, ["logits", "new_keys", "new_values"])
        write_json(temporary / GRAPH_NAME, _description(model))
        model.search_config.save_pretrained(temporary)
        assert model.sid_index is not None
        model.sid_index.save(temporary / SID_INDEX_NAME)
    return Path(folder)


def _check(model: OneSearchForConditionalGeneration) -> None:
    config = model.config
    if not config.is_encoder_decoder:
        raise ValueError(
            "only encoder-decoders are exported as graphs; export_backbone writes a plain Qwen3 checkpoint for servers"
        )
    if model.sid_index is None:
        raise ValueError("the model has no item index: put sid_index.safetensors beside its weights or call set_sid_index")


def _description(model: OneSearchForConditionalGeneration) -> dict[str, Any]:
    """Contents of ``graph.json``."""
    config = model.config
    heads = int(config.decoder_attention_heads or 1)
    return {
        "format": FORMAT,
        "sid_codebook_sizes": list(config.sid_codebook_sizes),
        "sid_offset": config.sid_offset,
        "decoder_start_token_id": config.decoder_start_token_id,
        "vocab_size": config.vocab_size,
        "layers": config.decoder_layers,
        "heads": heads,
        "head_size": int(config.d_model or heads) // heads,
        "views": {name: [list(shape), value] for name, (shape, value) in views_of(config).items()},
    }


def views_of(config: Any) -> dict[str, tuple[tuple[int, ...], int]]:
    """Input of the prompts beside tokens → its shape for one query that has nothing of it, and the value that it is filled with."""
    found: dict[str, tuple[tuple[int, ...], int]] = {}
    if config.history_places:
        found["history_items"] = (1, len(config.sid_codebook_sizes) + FIRST_FACET + 1), NO_ITEM
        if config.history_vector_size:
            found["history_vectors"] = (1, config.history_vector_size), 0
    if config.query_vector_size:
        found["query_vectors"] = (config.query_vector_size,), 0
    if config.long_view_tokens:
        found["long_view_codes"] = (config.long_view_sequences, 1, config.long_view_levels), EMPTY
    return found


class _Encoder(nn.Module):
    """Prompts → the keys and values of the decoder's cross-attention."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder, self.decoder = copy.deepcopy(model.model.encoder), model.model.decoder
        self.views = views_of(model.config)
        reader = self.encoder.history_reader
        if reader is not None and reader.facets is not None:
            reader.facets = _Summed(reader.facets.weight)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, *views: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        encoder, given = self.encoder, PromptViews(**dict(zip(self.views, views)))
        places = (torch.ones_like(attention_mask).cumsum(1) - 1)[:1]  # (1, length)
        positions = torch.where(attention_mask > 0, attention_mask.cumsum(1) - 1, places)  # counted over the tokens
        hidden = encoder.embed_prompt(input_ids, None, given) + encoder.embed_positions(positions, position_ids=positions)[0]
        hidden = encoder.layernorm_embedding(hidden)  # (queries, length, width)
        mask = _mask(attention_mask, hidden.dtype)
        for layer in encoder.layers:
            one = layer.self_attn
            query, key, value = (_heads(part(hidden), one.head_dim) for part in (one.q_proj, one.k_proj, one.v_proj))
            weights = (query * one.scaling @ key.transpose(-1, -2) + mask).softmax(-1)
            mixed = (weights @ value).transpose(1, 2).flatten(2)
            hidden = layer.self_attn_layer_norm(hidden + one.out_proj(mixed))
            hidden = layer.final_layer_norm(hidden + layer.fc2(layer.activation_fn(layer.fc1(hidden))))
        attentions = [layer.encoder_attn for layer in self.decoder.layers]
        keys = torch.stack([_heads(one.k_proj(hidden), one.head_dim) for one in attentions])
        return keys, torch.stack([_heads(one.v_proj(hidden), one.head_dim) for one in attentions])

    def example(self) -> tuple[torch.Tensor, ...]:
        """Two prompts, one of them padded; the first has one place of everything that the model reads."""
        config = self.encoder.config
        places = [config.history_token_id] if config.history_places else []
        places += [config.history_summary_token_id] * len(config.summary_ranges if config.history_places else ())
        places += [config.query_vector_token_id] if config.query_vector_size else []
        places += [config.long_view_token_id] * config.long_view_tokens
        word = next(token for token in range(len(places) + 1) if token not in places)
        ids = torch.full((2, len(places) + 5), word)
        ids[0, 1 : len(places) + 1] = torch.tensor(places, dtype=torch.long)
        mask = torch.ones_like(ids)
        mask[1, -2:] = 0
        views = []
        for name, (shape, value) in self.views.items():
            view = torch.full((2, *shape), value, dtype=torch.long if value < 0 else torch.float)
            if name == "history_items":
                view[:, :, len(config.sid_codebook_sizes) + 1 : -1] = 0
                view[0, :, : len(config.sid_codebook_sizes) + 1] = 0
            elif name == "long_view_codes":
                view[0] = 0
            views.append(view)
        return ids, mask, *views


class _Summed(nn.Module):
    """An `EmbeddingBag` that adds, as operations that ONNX has.

    Args:
        weight: its embeddings, (entries, width), row 0 of which is zero.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """(rows, entries of a row) → (rows, width)."""
        return self.weight[numbers].sum(1)


class _Step(nn.Module):
    """One code for each beam: `BartBeamDecoder.step` and the head, with the state as inputs and outputs."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder, self.head = model.model.decoder, model.lm_head.weight

    def forward(
        self,
        tokens: torch.Tensor,
        position: torch.Tensor,
        attention_mask: torch.Tensor,
        cross_keys: torch.Tensor,
        cross_values: torch.Tensor,
        own_keys: torch.Tensor,
        own_values: torch.Tensor,
        parents: torch.Tensor,
        vocabulary: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        decoder = self.decoder
        hidden = decoder.embed_tokens(tokens) + decoder.embed_positions(position, position_ids=position)[0]
        hidden = decoder.layernorm_embedding(hidden)  # (queries, beams, width)
        mask = _mask(attention_mask, hidden.dtype)
        own_keys, own_values = own_keys.index_select(1, parents), own_values.index_select(1, parents)
        new_keys, new_values = [], []
        for number, layer in enumerate(decoder.layers):
            one = layer.self_attn
            query, key, value = (
                part(hidden).flatten(0, 1).unflatten(-1, (-1, one.head_dim)) for part in (one.q_proj, one.k_proj, one.v_proj)
            )
            keys = torch.cat([own_keys[number], key[:, :, None]], dim=2)  # (rows, heads, codes, head size)
            values = torch.cat([own_values[number], value[:, :, None]], dim=2)
            weights = ((keys * query[:, :, None]).sum(-1) * one.scaling).softmax(-1)
            mixed = (values * weights[..., None]).sum(2).flatten(1).view(hidden.shape)
            hidden = layer.self_attn_layer_norm(hidden + one.out_proj(mixed))
            cross = layer.encoder_attn
            query = _heads(cross.q_proj(hidden), cross.head_dim) * cross.scaling  # (queries, heads, beams, head size)
            weights = (query @ cross_keys[number].transpose(-1, -2) + mask).softmax(-1)
            mixed = (weights @ cross_values[number]).transpose(1, 2).flatten(2)
            hidden = layer.encoder_attn_layer_norm(hidden + cross.out_proj(mixed))
            hidden = layer.final_layer_norm(hidden + layer.fc2(layer.activation_fn(layer.fc1(hidden))))
            new_keys.append(keys)
            new_values.append(values)
        logits = hidden.flatten(0, 1) @ self.head.index_select(0, vocabulary).t()
        return logits, torch.stack(new_keys), torch.stack(new_values)

    def example(self, cross_keys: torch.Tensor, cross_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The third step of two queries with three beams each."""
        layers, queries, heads, length, size = cross_keys.shape
        own = torch.zeros(layers, 6, heads, 2, size)
        mask = torch.ones(queries, length, dtype=torch.long)
        tokens, position = torch.full((queries, 3), 3), torch.tensor([[2]])
        return tokens, position, mask, cross_keys, cross_values, own, own.clone(), torch.arange(6), torch.arange(4)


def _mask(attention_mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What is added to the products with the keys of a prompt: 0, and the lowest number where padded; (queries, 1, 1, length)."""
    return (1.0 - attention_mask.to(dtype))[:, None, None, :] * torch.finfo(dtype).min


def _heads(states: torch.Tensor, size: int) -> torch.Tensor:
    """(rows, length, width) → (rows, heads, length, head size)."""
    return states.unflatten(-1, (-1, size)).transpose(1, 2)


AXES = {
    "input_ids": {0: "queries", 1: "length"},
    "attention_mask": {0: "queries", 1: "length"},
    "history_items": {0: "queries", 1: "items", 2: "columns"},
    "history_vectors": {0: "queries", 1: "items"},
    "query_vectors": {0: "queries"},
    "long_view_codes": {0: "queries", 2: "long_items"},
    "cross_keys": {1: "queries", 3: "length"},
    "cross_values": {1: "queries", 3: "length"},
    "tokens": {0: "queries", 1: "beams"},
    "own_keys": {1: "before", 3: "codes"},
    "own_values": {1: "before", 3: "codes"},
    "parents": {0: "rows"},
    "vocabulary": {0: "vocabulary"},
    "logits": {0: "rows", 1: "vocabulary"},
    "new_keys": {1: "rows", 3: "longer"},
    "new_values": {1: "rows", 3: "longer"},
}
"""Axes of each input and output whose length varies."""


@torch.no_grad()
def _export(module: nn.Module, example: tuple[torch.Tensor, ...], path: Path, inputs: list[str], outputs: list[str]) -> Any:
    """Write one graph and return the module's outputs on the example."""
    found = module(*example)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            example,
            str(path),
            input_names=inputs,
            output_names=outputs,
            dynamic_axes={name: AXES[name] for name in (*inputs, *outputs) if name in AXES},
            opset_version=18,
            dynamo=False,
        )
    return found


__all__ = ["ENCODER_NAME", "FORMAT", "GRAPH_NAME", "STEP_NAME", "export_graphs", "views_of"]
