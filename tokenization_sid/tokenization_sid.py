"""A tokenizer whose vocabulary holds every code of every Semantic ID level, contiguous per level.

Has no `__init__` on purpose: transformers would rebuild such a subclass from its vocabulary and lose the rest of tokenizer.json.
Settings travel as keyword arguments and are read from `init_kwargs`.
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from .prompts import PromptTemplate, plain_text, template

SPECIAL_TOKENS = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
"""BART's, with BART's ids 0 to 3."""


class SidTokenizer(PreTrainedTokenizerFast):
    """Text tokenizer plus SID tokens `<a_17><b_3>…`, one letter per level. SID tokens are ordinary tokens, not special ones.

    Example:

    ```python
    >>> from onesearch import SidTokenizer

    >>> tokenizer = SidTokenizer.train(["red running shoe", "blue rain coat"], widths=[8, 4, 4], vocab_size=300)
    >>> tokenizer.sid_string((7, 0, 3))
    '<a_7><b_0><c_3>'
    >>> tokenizer.sids_to_ids([[7, 0, 3]]) - tokenizer.sid_offset
    array([[ 7,  8, 15]])

    ```"""

    model_input_names = ["input_ids", "attention_mask"]

    @classmethod
    def train(
        cls, texts: Iterable[str], widths: Sequence[int], vocab_size: int = 8000, digest: str | None = None
    ) -> SidTokenizer:
        """Train a byte-level BPE on `texts` (lower-cased, NFKC) and add all SID tokens.

        Args:
            texts: queries and item texts.
            widths: codes per level.
            vocab_size: text tokens at most, the 256 bytes and 4 special tokens included; ours, no paper gives one.
            digest: digest of the codebooks.
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
        return cls._with_sids(model, SPECIAL_TOKENS, widths, digest)

    @classmethod
    def extend(cls, tokenizer: PreTrainedTokenizerBase, widths: Sequence[int], digest: str | None = None) -> SidTokenizer:
        """Add all SID tokens behind the vocabulary of another fast tokenizer, for instance a BART checkpoint's."""
        special = {name: str(getattr(tokenizer, name)) for name in SPECIAL_TOKENS if getattr(tokenizer, name) is not None}
        missing = [name for name in ("bos_token", "eos_token", "pad_token") if name not in special]
        if missing:
            raise ValueError(f"the tokenizer to extend has no {', '.join(missing)}; set them first")
        copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        return cls._with_sids(copy, special, widths, digest)

    @classmethod
    def _with_sids(cls, model: Tokenizer, special: dict[str, str], widths: Sequence[int], digest: str | None) -> SidTokenizer:
        widths = [int(width) for width in widths]
        if not 1 <= len(widths) <= len(string.ascii_lowercase) or min(widths) < 1:
            raise ValueError(f"widths={widths}: 1 to {len(string.ascii_lowercase)} levels of at least one code each")
        tokens = [sid_token(level, code) for level, width in enumerate(widths) for code in range(width)]
        taken = [token for token in tokens if model.token_to_id(token) is not None]
        if taken:
            raise ValueError(f"the vocabulary already holds {taken[0]!r}: extend a tokenizer without SID tokens")
        offset = model.get_vocab_size(with_added_tokens=True)
        model.add_tokens([AddedToken(token, normalized=False, special=False) for token in tokens])
        return cls(
            tokenizer_object=model,
            **special,
            sid_widths=widths,
            sid_offset=offset,
            sid_digest=digest,
            prompt_layout=asdict(template("search/1")),
        )

    @property
    def sid_widths(self) -> tuple[int, ...]:
        """Codes per level."""
        return tuple(self.init_kwargs["sid_widths"])

    @property
    def sid_offset(self) -> int:
        """Vocabulary id of code 0 of level 0."""
        return self.init_kwargs["sid_offset"]

    @property
    def sid_digest(self) -> str | None:
        """Digest of the codebooks that the SIDs come from."""
        return self.init_kwargs.get("sid_digest")

    @property
    def prompt(self) -> PromptTemplate:
        """Layout and limits of search prompts; saved with the tokenizer."""
        return PromptTemplate(**self.init_kwargs["prompt_layout"])

    @prompt.setter
    def prompt(self, layout: PromptTemplate) -> None:
        template(layout.name)
        self.init_kwargs["prompt_layout"] = asdict(layout)  # no attribute of this name: transformers would save that instead

    @property
    def level_offsets(self) -> np.ndarray:
        """(levels,) vocabulary id of code 0 of each level."""
        return self.sid_offset + np.concatenate([[0], np.cumsum(self.sid_widths)[:-1]])

    def sids_to_ids(self, codes: Sequence[Sequence[int]] | np.ndarray) -> np.ndarray:
        """Vocabulary ids of SIDs: (n, levels) → (n, levels); ValueError for a code out of range."""
        codes = np.asarray(codes, dtype=np.int64).reshape(-1, len(self.sid_widths))
        wrong = (codes < 0) | (codes >= np.asarray(self.sid_widths))
        if wrong.any():
            row, level = np.argwhere(wrong)[0].tolist()
            raise ValueError(f"code {codes[row, level]} at level {level} is outside 0..{self.sid_widths[level] - 1}")
        return codes + self.level_offsets

    def ids_to_sids(self, token_ids: Sequence[Sequence[int]] | np.ndarray) -> np.ndarray:
        """Codes of SIDs given as vocabulary ids: (n, levels) → (n, levels); ValueError where an id is of another level."""
        codes = np.asarray(token_ids, dtype=np.int64).reshape(-1, len(self.sid_widths)) - self.level_offsets
        wrong = (codes < 0) | (codes >= np.asarray(self.sid_widths))
        if wrong.any():
            row, level = np.argwhere(wrong)[0].tolist()
            raise ValueError(f"token id {codes[row, level] + self.level_offsets[level]} is no code of level {level}")
        return codes

    def sid_string(self, sid: Sequence[int]) -> str:
        """Text of one SID, `<a_17><b_3>…`."""
        return "".join(sid_token(level, code) for level, code in enumerate(sid))

    def render_prompt(self, text: str, history: Sequence[Sequence[int]] = (), name: str | None = None) -> str:
        """A prompt as text; `tokenizer(text).input_ids` are the ids that `encode_prompts` gives, up to the cut of long texts.

        Args:
            text: query or item text.
            history: codes of the items in a user's history, oldest first.
            name: prompt template; default the tokenizer's own.
        """
        layout = template(name) if name else self.prompt
        recent = list(history)[-layout.max_history :] if layout.max_history else []
        rendered = plain_text(text, self.all_special_tokens)
        if recent:
            rendered += self.eos_token + "".join(self.sid_string(sid) for sid in recent)
        return rendered

    def encode_prompts(
        self, texts: Sequence[str], histories: Sequence[np.ndarray] | None = None, name: str | None = None
    ) -> list[list[int]]:
        """Token ids of prompts: `<s> text </s>`, and where there is a history its SIDs and another `</s>`.

        Args:
            texts: one query or item text per prompt; equal texts are tokenised once.
            histories: per prompt the codes (items, levels) of the user's items, oldest first.
            name: prompt template; default the tokenizer's own.
        """
        layout = template(name) if name else self.prompt
        distinct = list(dict.fromkeys(texts))
        special = self.all_special_tokens
        plain = [plain_text(text, special) for text in distinct]
        encoded = self(plain, add_special_tokens=False).input_ids if plain else []
        bos, eos = [self.bos_token_id], [self.eos_token_id]
        head = {text: bos + ids[: layout.max_text_tokens] + eos for text, ids in zip(distinct, encoded)}
        if histories is None or not layout.max_history:
            return [head[text] for text in texts]
        recent = [np.asarray(history).reshape(-1, len(self.sid_widths))[-layout.max_history :] for history in histories]
        ids = self.sids_to_ids(np.concatenate(recent) if recent else [])
        counts = [len(part) for part in recent]
        ends = np.cumsum(counts, dtype=np.int64).tolist()
        prompts = []
        for text, count, end in zip(texts, counts, ends, strict=True):
            prompts.append(head[text] + ids[end - count : end].ravel().tolist() + eos if count else head[text])
        return prompts


def sid_token(level: int, code: int) -> str:
    """Token of one code, for instance `<b_3>` for code 3 of level 1."""
    return f"<{string.ascii_lowercase[level]}_{code}>"


SidTokenizer.register_for_auto_class("AutoTokenizer")

__all__ = ["SidTokenizer", "sid_token"]
