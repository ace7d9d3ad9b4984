"""Models of several sizes with random weights, and prompts for them."""

from __future__ import annotations

import torch
from catalogues import CODEBOOK_SIZES, FINGERPRINT

from onesearch import OneSearchConfig, OneSearchForCausalLM, OneSearchForConditionalGeneration, OneSearchQwen3Config
from onesearch.modeling_onesearch.plain_decoding_onesearch import BeamDecoder

VOCABULARY = 60_000
OFFSET = VOCABULARY - sum(CODEBOOK_SIZES)
LAYOUT = {
    "vocab_size": VOCABULARY,
    "sid_codebook_sizes": list(CODEBOOK_SIZES),
    "sid_offset": OFFSET,
    "sid_fingerprint": FINGERPRINT,
}
PROMPT = 64
"""Tokens of each prompt."""

SHARPNESS = 2.5
"""Factor on the weights of the head: fresh ones give all but equal logits, and with them ties that no two ways break alike."""

BART_SIZES = {
    "small": {"d_model": 256, "layers": 3, "attention_heads": 4, "ffn_dim": 1024},
    "base": {"d_model": 768, "layers": 6, "attention_heads": 12, "ffn_dim": 3072},
}

QWEN3_SIZES = {  # hidden size x layers
    "256x4": {
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
    },
    "1024x4": {  # the width of Qwen3-0.6B, which has 28 layers
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 4,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
}


def bart(size: str) -> OneSearchForConditionalGeneration:
    """An encoder-decoder of a size in `BART_SIZES`."""
    torch.manual_seed(0)
    sizes = dict(BART_SIZES[size])
    shared = {name: sizes.pop(name) for name in ("layers", "attention_heads", "ffn_dim")}
    both = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in shared.items()}
    return _sharpened(OneSearchForConditionalGeneration(OneSearchConfig(**sizes, **both, **LAYOUT)))


def qwen3(size: str) -> OneSearchForCausalLM:
    """A decoder-only model of a size in `QWEN3_SIZES`."""
    torch.manual_seed(0)
    return _sharpened(OneSearchForCausalLM(OneSearchQwen3Config(**QWEN3_SIZES[size], **LAYOUT)))


def _sharpened(model):
    with torch.no_grad():
        model.lm_head.weight.mul_(SHARPNESS)
    return model.eval()


def prompts(queries: int = 1) -> dict[str, torch.Tensor]:
    """Random text tokens: `input_ids` and `attention_mask`, (queries, PROMPT)."""
    input_ids = torch.randint(4, OFFSET, (queries, PROMPT), generator=torch.Generator().manual_seed(1))
    return {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}


class _Counting:
    """A beam decoder that notes how many rows it runs for."""

    def __init__(self, decoder: BeamDecoder, rows: list[int]):
        self.decoder, self.rows = decoder, rows

    def start(self) -> torch.Tensor:
        hidden = self.decoder.start()
        self.rows.append(len(hidden))
        return hidden

    def step(self, tokens: torch.Tensor, parents: torch.Tensor) -> torch.Tensor:
        hidden = self.decoder.step(tokens, parents)
        self.rows.append(len(hidden))
        return hidden


def decoder_rows(model: OneSearchForConditionalGeneration | OneSearchForCausalLM, **search: object) -> list[int]:
    """Rows of the decoder at each level that a search runs it for; the first level has one per query."""
    rows: list[int] = []
    make = model._beam_decoder
    model._beam_decoder = lambda *inputs: _Counting(make(*inputs), rows)
    try:
        model.search_sids(**search)
    finally:
        del model._beam_decoder
    return rows
