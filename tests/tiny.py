"""Tiny models, indexes, BART and Qwen3 checkpoints of the real classes, random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

TEXT_TOKENS = 40
"""Text and special tokens of `tiny_model`; the SID slice follows."""


def tiny_config(codebook_sizes=(8, 4, 4), fingerprint="fingerprint", **changes):
    from onesearch import OneSearchConfig

    sizes = {
        "vocab_size": TEXT_TOKENS + sum(codebook_sizes),
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "max_position_embeddings": 64,
        "dropout": 0.0,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 2,
        "init_std": 0.4,  # far from uniform, so that beams differ
    }
    return OneSearchConfig(
        **{**sizes, **changes}, sid_codebook_sizes=list(codebook_sizes), sid_offset=TEXT_TOKENS, sid_fingerprint=fingerprint
    )


def tiny_model(codebook_sizes=(8, 4, 4), codes=None, seed=0, fingerprint="fingerprint", **changes):
    """A model in eval mode; with `codes` its item index is set, with a long view its centroids."""
    from onesearch import OneSearchForConditionalGeneration

    torch.manual_seed(seed)
    model = OneSearchForConditionalGeneration(tiny_config(codebook_sizes, fingerprint, **changes)).eval()
    return _equipped(model, codes)


QWEN3_SIZES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.4,
}


def tiny_causal_model(codebook_sizes=(8, 4, 4), codes=None, seed=0, fingerprint="fingerprint", **changes):
    """The decoder-only counterpart of `tiny_model`."""
    from onesearch import OneSearchForCausalLM, OneSearchQwen3Config

    torch.manual_seed(seed)
    sizes = {**QWEN3_SIZES, "vocab_size": TEXT_TOKENS + sum(codebook_sizes), "tie_word_embeddings": True, **changes}
    config = OneSearchQwen3Config(
        **sizes, sid_codebook_sizes=list(codebook_sizes), sid_offset=TEXT_TOKENS, sid_fingerprint=fingerprint
    )
    return _equipped(OneSearchForCausalLM(config).eval(), codes)


def _equipped(model, codes):
    """The model with centroids, if it has a long view, and with an index of items `codes`, if they are given."""
    config = model.config
    if config.long_view_tokens:
        sizes = config.sid_codebook_sizes[: config.long_view_levels]
        model.set_long_view_centroids(long_view_tables(sizes, config.long_view_dim))
    if codes is not None:
        model.set_sid_index(tiny_index(codes, config.sid_codebook_sizes, fingerprint=config.sid_fingerprint))
    return model


def tiny_index(codes, codebook_sizes, item_ids=None, popularity=None, fingerprint="fingerprint", categories=None):
    from onesearch import SidIndex

    item_ids = [f"item-{row}" for row in range(len(codes))] if item_ids is None else item_ids
    popularity = np.zeros(len(codes)) if popularity is None else popularity
    return SidIndex.build(item_ids, np.asarray(codes), popularity, codebook_sizes, fingerprint, categories)


def random_codes(items, codebook_sizes, seed=0):
    """(items, levels) codes; duplicates happen."""
    random = np.random.default_rng(seed)
    return np.stack([random.integers(0, size, items) for size in codebook_sizes], axis=1)


def random_prompts(rows, longest=9, seed=0, padding_side="right"):
    """`input_ids` and `attention_mask` of random text prompts of different lengths."""
    random = np.random.default_rng(seed)
    lengths = random.integers(3, longest + 1, rows)
    lengths[0] = longest
    input_ids = np.full((rows, longest), 1)
    for row, length in enumerate(lengths):
        prompt = [0, *random.integers(4, TEXT_TOKENS, length - 2), 2]
        input_ids[row, slice(length) if padding_side == "right" else slice(longest - length, longest)] = prompt
    input_ids = torch.from_numpy(input_ids)
    return input_ids, (input_ids != 1).long()


SID_MODELS = {"encoder-decoder": tiny_model, "decoder-only": tiny_causal_model}
"""Kind of model → function that makes a tiny one."""


def sid_batch(model, codes, rows, seed=0, prompts=None):
    """Prompts, each with the SID of a random item as its target, in the form that the model learns from.

    Args:
        codes: (items, levels), the catalogue.
        prompts: input_ids and attention_mask instead of random ones. A decoder-only model needs them padded on the left, because the
            SID follows them.
    """
    starts = np.cumsum([TEXT_TOKENS, *model.config.sid_codebook_sizes[:-1]])
    is_encoder_decoder = model.config.is_encoder_decoder
    sids = torch.from_numpy(codes[np.random.default_rng(seed).integers(0, len(codes), rows)] + starts)
    input_ids, mask = prompts or random_prompts(rows, seed=seed, padding_side="right" if is_encoder_decoder else "left")
    if is_encoder_decoder:
        return {"input_ids": input_ids, "attention_mask": mask, "labels": sids}
    return {
        "input_ids": torch.cat([input_ids, sids], dim=1),
        "attention_mask": torch.cat([mask, torch.ones_like(sids)], dim=1),
        "labels": torch.cat([torch.full_like(input_ids, -100), sids], dim=1),
    }


def gradients(model):
    """Name → gradient, of every parameter that has one."""
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


LONG_VIEW = {"long_view_tokens": 3, "long_view_token_id": 3, "long_view_dim": 6}
"""Fields of a tiny long view; `random_prompts` never draws its placeholder."""


def long_view_tables(codebook_sizes, dim=6, seed=0):
    """Centroids of each level, (codebook size, dim)."""
    random = np.random.default_rng(seed)
    return [random.normal(0, 0.5**level, (size, dim)).astype(np.float32) for level, size in enumerate(codebook_sizes)]


def random_long_view(rows, codebook_sizes, sequences=2, items=9, seed=0):
    """`long_view_codes` with holes: (rows, sequences, items, levels); every other row lacks its last sequence."""
    random = np.random.default_rng(seed)
    codes = np.stack([random.integers(0, size, (rows, sequences, items)) for size in codebook_sizes], axis=-1)
    codes[random.random((rows, sequences, items)) < 0.3] = -1
    codes[::2, -1] = -1
    return torch.from_numpy(codes)


def with_places(input_ids, attention_mask, token=3, tokens=3):
    """The prompts with the long view's placeholders inserted after their first token."""
    rows = []
    for ids, mask in zip(input_ids.tolist(), attention_mask.tolist()):
        first = mask.index(1) + 1
        rows.append(ids[:first] + [token] * tokens + ids[first:])
    return torch.tensor(rows), torch.cat([attention_mask.new_ones(len(rows), tokens), attention_mask], dim=1).sort(
        dim=1, descending=bool(attention_mask[:, 0].all())
    ).values


def save_tiny_bart(folder: Path, bias: float = 0.0, texts=("red running shoe", "blue rain coat")):
    """A random BART checkpoint with a byte-level BPE tokenizer, as the Hub holds them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=280, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    )
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), special))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    torch.manual_seed(1)
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 64}
    model = BartForConditionalGeneration(BartConfig(vocab_size=len(tokenizer), **sizes, **heads)).eval()
    model.final_logits_bias += bias
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model, tokenizer


def save_tiny_qwen3(folder: Path, vocab_size: int = TEXT_TOKENS, **changes):
    """A random Qwen3 checkpoint without a tokenizer."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(2)
    model = Qwen3ForCausalLM(Qwen3Config(**{**QWEN3_SIZES, "vocab_size": vocab_size, **changes})).eval()
    model.save_pretrained(folder)
    return model


UNISEARCH = {"item_layers": 1, "item_features": 5, "item_statistics": ["price", "click_count"], "item_max_tokens": 12}
"""Fields of a tiny item encoder."""


def tiny_unisearch(codebook_sizes=(8, 4, 4), codes=None, seed=0, **changes):
    """UniSearch with the sizes of `tiny_model`."""
    from onesearch import UniSearchConfig, UniSearchForConditionalGeneration

    fields = tiny_config(codebook_sizes).to_dict()
    kept = {name: fields[name] for name in fields if name not in ("model_type", "transformers_version", "architectures")}
    torch.manual_seed(seed)
    model = UniSearchForConditionalGeneration(UniSearchConfig(**{**kept, **UNISEARCH, **changes})).eval()
    return _equipped(model, codes)


def random_items(items, seed=0):
    """Inputs of the tiny item encoder; the first item has no features, the second no statistics."""
    random = torch.Generator().manual_seed(seed)
    input_ids, mask = random_prompts(items, seed=seed)
    features, statistics = torch.randn(items, 5, generator=random), torch.randn(items, 2, generator=random)
    features[0], statistics[1] = torch.nan, torch.nan
    return {"input_ids": input_ids, "attention_mask": mask, "features": features, "statistics": statistics}
