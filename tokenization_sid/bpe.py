"""Training of the text part of a tokenizer: byte-level BPE with BART's special tokens.

The file travels to the Hub with the tokenizer and imports nothing of this package.
"""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL_TOKENS = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
"""The special tokens of BART; as in BART, their ids are 0 to 3."""


def train_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE trained on texts; it normalises (NFKC) and lower-cases them, and puts each between begin and end token.

    Args:
        texts: any texts; they are read once.
        vocab_size: most tokens, of which 256 are bytes and 4 are special.
    """
    model = Tokenizer(models.BPE(unk_token=None))
    model.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator(texts, trainer)
    bos, eos = SPECIAL_TOKENS["bos_token"], SPECIAL_TOKENS["eos_token"]
    model.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A {eos}",
        pair=f"{bos} $A {eos} $B {eos}",
        special_tokens=[(token, model.token_to_id(token)) for token in (bos, eos)],
    )
    return model


__all__ = ["SPECIAL_TOKENS", "train_bpe"]
