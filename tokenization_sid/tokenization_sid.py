"""A tokenizer whose vocabulary holds every code of every Semantic ID level; the codes of a level have consecutive ids.

The class has no `__init__` on purpose: transformers would rebuild a subclass with one from its vocabulary and lose the rest of
tokenizer.json. Settings are keyword arguments, which transformers saves; they are read from `init_kwargs`.
The file travels to the Hub with the weights and imports nothing of this package.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from .bpe import SPECIAL_TOKENS, train_bpe
from .prompts import PromptFields, contents_of
from .ragged import Part, Ragged, join
from .templates import (
    ITEM_TOKEN,
    LONG_VIEW_TOKEN,
    PLAIN_LAYOUT,
    QUERY_TOKEN,
    SUMMARY_TOKEN,
    PromptLayout,
    PromptTemplate,
    template,
)


class SidTokenizer(PreTrainedTokenizerFast):
    """Text tokenizer plus SID tokens `<a_17><b_3>…`, one letter per level. SID tokens are ordinary tokens, not special ones.

    If the prompts hold signatures of users, the vocabulary also has `<ua_17><ub_3>…` behind the SIDs, so that a signature is never mistaken
    for an item. If they hold the long view, it also has `<longview>`; if they hold items as vectors, `<item>`.

    Example:

    ```python
    >>> from onesearch import SidTokenizer

    >>> tokenizer = SidTokenizer.train(["red running shoe", "blue rain coat"], codebook_sizes=[8, 4, 4], vocab_size=300)
    >>> tokenizer.sid_string((7, 0, 3))
    '<a_7><b_0><c_3>'
    >>> tokenizer.sids_to_ids([[7, 0, 3]]) - tokenizer.sid_offset
    array([[ 7,  8, 15]])

    ```"""

    model_input_names = ["input_ids", "attention_mask"]

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        codebook_sizes: Sequence[int],
        vocab_size: int = 8000,
        fingerprint: str | None = None,
        prompt: PromptLayout | None = None,
    ) -> SidTokenizer:
        """Train a byte-level BPE on texts and add all SID tokens.

        Args:
            texts: queries and item texts; they are normalised (NFKC) and lower-cased.
            codebook_sizes: number of codes at each level.
            vocab_size: most text tokens, of which 256 are bytes and 4 are special; a larger one makes prompts shorter and the embedding
                larger. The default is our choice; the papers give none.
            fingerprint: fingerprint of the codebooks; a search refuses a model with another one.
            prompt: layout of search prompts; default `PLAIN_LAYOUT`, the query and the recent items.

        Raises:
            ValueError: there are no levels or more than 26, or a level has no code.
        """
        return cls._with_sids(train_bpe(texts, vocab_size), SPECIAL_TOKENS, codebook_sizes, fingerprint, prompt)

    @classmethod
    def extend(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        codebook_sizes: Sequence[int],
        fingerprint: str | None = None,
        prompt: PromptLayout | None = None,
    ) -> SidTokenizer:
        """Copy another fast tokenizer, for instance that of a BART checkpoint, and add all SID tokens behind its vocabulary.

        If it has no begin token (as Qwen's), its end token begins the prompts.

        Args:
            tokenizer: tokenizer to copy; it keeps all ids.
            codebook_sizes: number of codes at each level.
            fingerprint: fingerprint of the codebooks; a search refuses a model with another one.
            prompt: layout of search prompts; default `PLAIN_LAYOUT`, the query and the recent items.

        Raises:
            ValueError: the tokenizer lacks an end or padding token, or already has SID tokens.
        """
        special = {name: str(getattr(tokenizer, name)) for name in SPECIAL_TOKENS if getattr(tokenizer, name) is not None}
        if "eos_token" in special:
            special.setdefault("bos_token", special["eos_token"])
        missing = [name for name in ("eos_token", "pad_token") if name not in special]
        if missing:
            raise ValueError(f"the tokenizer to extend has no {' and no '.join(missing)}; set it before extending")
        copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        return cls._with_sids(copy, special, codebook_sizes, fingerprint, prompt)

    @classmethod
    def _with_sids(
        cls,
        model: Tokenizer,
        special: dict[str, str],
        codebook_sizes: Sequence[int],
        fingerprint: str | None,
        prompt: PromptLayout | None,
    ) -> SidTokenizer:
        prompt = prompt or PLAIN_LAYOUT
        codebook_sizes = [int(size) for size in codebook_sizes]
        if not 1 <= len(codebook_sizes) <= len(string.ascii_lowercase) or min(codebook_sizes) < 1:
            raise ValueError(f"codebook_sizes={codebook_sizes}: allowed are 1 to 26 levels of at least one code each")
        tokens = [sid_token(level, code) for level, size in enumerate(codebook_sizes) for code in range(size)]
        taken = [token for token in tokens if model.token_to_id(token) is not None]
        if taken:
            raise ValueError(f"the vocabulary already holds {taken[0]!r}: extend a tokenizer without SID tokens")
        if prompt.user:
            tokens += [user_token(level, code) for level, size in enumerate(codebook_sizes) for code in range(size)]
        tokens += [LONG_VIEW_TOKEN] if prompt.long_view_tokens else []
        tokens += [ITEM_TOKEN] if prompt.has_vectors else []
        tokens += [SUMMARY_TOKEN] if prompt.has_vectors and prompt.item_summaries else []
        tokens += [QUERY_TOKEN] if prompt.query_vector else []
        offset = model.get_vocab_size(with_added_tokens=True)
        model.add_tokens([AddedToken(token, normalized=False, special=False) for token in tokens])
        layout = {"sid_codebook_sizes": codebook_sizes, "sid_offset": offset, "sid_fingerprint": fingerprint}
        tokenizer = cls(tokenizer_object=model, **special, **layout, prompt_layout=asdict(PLAIN_LAYOUT))
        tokenizer.prompt = prompt
        return tokenizer

    @cached_property
    def sid_codebook_sizes(self) -> tuple[int, ...]:
        """Codebook size of each level."""
        return tuple(self.init_kwargs["sid_codebook_sizes"])

    @property
    def sid_offset(self) -> int:
        """Vocabulary id of code 0 of level 0."""
        return self.init_kwargs["sid_offset"]

    @property
    def sid_fingerprint(self) -> str | None:
        """Fingerprint of the codebooks that the SIDs come from."""
        return self.init_kwargs.get("sid_fingerprint")

    @cached_property
    def level_offsets(self) -> np.ndarray:
        """(levels,) vocabulary id of code 0 of each level."""
        return self.sid_offset + np.concatenate([[0], np.cumsum(self.sid_codebook_sizes)[:-1]])

    @property
    def prompt(self) -> PromptLayout:
        """Layout and limits of search prompts; saved with the tokenizer."""
        return self._prompt

    @prompt.setter
    def prompt(self, layout: PromptLayout) -> None:
        template(layout.name)
        wanted = {
            "user": (layout.user, user_token(0, 0)),
            "long_view_tokens": (layout.long_view_tokens, LONG_VIEW_TOKEN),
            "item_form": (layout.has_vectors, ITEM_TOKEN),
            "item_summaries": (layout.has_vectors and layout.item_summaries, SUMMARY_TOKEN),
            "query_vector": (layout.query_vector, QUERY_TOKEN),
        }
        token_id = self.backend_tokenizer.token_to_id
        missing = [name for name, (is_on, token) in wanted.items() if is_on and token_id(token) is None]
        if missing:
            raise ValueError(
                f"the vocabulary has no tokens for {' and '.join(missing)}: pass this layout as `prompt` when the tokenizer is made"
            )
        self.init_kwargs["prompt_layout"] = asdict(layout)  # no attribute of this name: transformers would save that instead
        for cached in ("_prompt", "_template"):
            self.__dict__.pop(cached, None)

    @cached_property
    def _prompt(self) -> PromptLayout:
        return PromptLayout(**self.init_kwargs["prompt_layout"])

    @cached_property
    def _template(self) -> PromptTemplate:
        return template(self._prompt.name)

    @property
    def long_view_token_id(self) -> int | None:
        """Vocabulary id of the placeholder of the long view; None where the prompts have none."""
        return self.backend_tokenizer.token_to_id(LONG_VIEW_TOKEN) if self._prompt.long_view_tokens else None

    @property
    def history_token_id(self) -> int | None:
        """Vocabulary id of the placeholder of an item; None where the prompts have none."""
        return self.backend_tokenizer.token_to_id(ITEM_TOKEN) if self._prompt.has_vectors else None

    @property
    def history_summary_token_id(self) -> int | None:
        """Vocabulary id of the placeholder of a summary; None where the prompts have none."""
        has_any = self._prompt.has_vectors and self._prompt.item_summaries
        return self.backend_tokenizer.token_to_id(SUMMARY_TOKEN) if has_any else None

    @property
    def query_vector_token_id(self) -> int | None:
        """Vocabulary id of the placeholder of the query's vector; None where the prompts have none."""
        return self.backend_tokenizer.token_to_id(QUERY_TOKEN) if self._prompt.query_vector else None

    def sids_to_ids(self, codes: ArrayLike) -> np.ndarray:
        """Vocabulary ids of SIDs: (n, levels) → (n, levels); ValueError for a code out of range."""
        codes = self._rows_of_sids(codes)
        wrong = (codes < 0) | (codes >= np.asarray(self.sid_codebook_sizes))
        if wrong.any():
            row, level = np.argwhere(wrong)[0].tolist()
            raise ValueError(f"code {codes[row, level]} at level {level} is outside 0..{self.sid_codebook_sizes[level] - 1}")
        return codes + self.level_offsets

    def users_to_ids(self, signatures: ArrayLike) -> np.ndarray:
        """Vocabulary ids of user signatures: (n, levels) → (n, levels); they lie behind those of the SIDs, in the same order."""
        return self.sids_to_ids(signatures) + sum(self.sid_codebook_sizes)

    def ids_to_sids(self, token_ids: ArrayLike) -> np.ndarray:
        """Codes of SIDs given as vocabulary ids: (n, levels) → (n, levels); ValueError where an id is of another level."""
        codes = self._rows_of_sids(token_ids) - self.level_offsets
        wrong = (codes < 0) | (codes >= np.asarray(self.sid_codebook_sizes))
        if wrong.any():
            row, level = np.argwhere(wrong)[0].tolist()
            raise ValueError(f"token id {codes[row, level] + self.level_offsets[level]} is no code of level {level}")
        return codes

    def _rows_of_sids(self, values: ArrayLike) -> np.ndarray:
        """SIDs as (n, levels) int64, also a single one (levels,); ValueError for rows of another number of levels."""
        rows, levels = np.asarray(values, dtype=np.int64), len(self.sid_codebook_sizes)
        if rows.size and (rows.ndim == 0 or rows.shape[-1] != levels):
            raise ValueError(f"SIDs of shape {rows.shape}: expected (n, {levels}), one code for each of the {levels} levels")
        return rows.reshape(-1, levels)

    def sid_string(self, sid: Sequence[int]) -> str:
        """Text of one SID, `<a_17><b_3>…`."""
        return "".join(sid_token(level, code) for level, code in enumerate(sid))

    def user_string(self, signature: Sequence[int]) -> str:
        """Text of one user signature, `<ua_17><ub_3>…`."""
        return "".join(user_token(level, code) for level, code in enumerate(signature))

    def render_prompt(
        self,
        text: str,
        history: ArrayLike = (),
        name: str | None = None,
        *,
        sids: ArrayLike | None = None,
        users: ArrayLike | None = None,
        queries: Sequence[str] | None = None,
        profiles: Sequence[str] | None = None,
        keywords: Sequence[str] | None = None,
        vectors: ArrayLike | None = None,
    ) -> str:
        """One prompt as text; `tokenizer(text).input_ids` are the ids that `encode_prompts` gives.

        Long texts are cut as their ids are. One case has no text with the same ids: a limit that falls between the tokens of one
        character. The rendered text then ends before that character.

        Args:
            text: query or item text.
            history: (items, levels) codes of the items in the user's history, oldest first.
            name: name of the prompt template; default that of the tokenizer's layout.
            sids: (levels,) SID of the query or item.
            users: (signatures, levels) signatures of the user.
            queries: earlier queries, oldest first.
            profiles: words of the user's profile.
            keywords: keywords of the wanted item; searches have none.
            vectors: (size,) text vector of the query.
        """
        fields = PromptFields(
            texts=[text],
            sids=None if sids is None else np.asarray(sids)[None],
            users=None if users is None else np.asarray(users)[None],
            items=Ragged.of([history], (len(self.sid_codebook_sizes),)),
            queries=None if queries is None else [queries],
            profiles=None if profiles is None else [profiles],
            keywords=None if keywords is None else [keywords],
            vectors=None if vectors is None else np.asarray(vectors)[None],
        )
        layout, groups = self._prompt, []
        for place, group in enumerate((template(name) if name else self._template).groups):
            contents = [contents_of(section, layout, fields) for section in group]
            rendered = [one.render(self) for one in contents if one is not None]
            shown = [one for one in rendered if one is not None]
            if shown or place == 0:
                groups.append("".join(shown))
        return self.eos_token.join(groups)

    def encode_prompts(
        self,
        texts: Sequence[str],
        histories: Sequence[ArrayLike] | None = None,
        name: str | None = None,
        *,
        sids: np.ndarray | None = None,
        users: np.ndarray | None = None,
        queries: Sequence[Sequence[str]] | None = None,
        profiles: Sequence[Sequence[str]] | None = None,
        keywords: Sequence[Sequence[str]] | None = None,
        vectors: np.ndarray | None = None,
    ) -> list[list[int]]:
        """Token ids of prompts: `<s> text </s>`, and for each further view that is given and not empty its tokens and another `</s>`.

        Args:
            texts: one query or item text per prompt; equal texts are tokenised once.
            histories: for each prompt (items, levels) codes of the items in the user's history, oldest first.
            name: name of the prompt template; default that of the tokenizer's layout.
            sids: (prompts, levels) SIDs of the queries or items; -1 at all levels where one is unknown.
            users: (prompts, signatures, levels) signatures of the users; -1 at all levels where a user has none.
            queries: for each prompt the user's earlier queries, oldest first.
            profiles: for each prompt the words of the user's profile.
            keywords: for each prompt keywords of the wanted item; searches have none.
            vectors: (prompts, size) text vectors of the queries, zeros where one is unknown.
        """
        items = None if histories is None else Ragged.of(histories, (len(self.sid_codebook_sizes),))
        return self.encode_fields(PromptFields(texts, sids, users, items, queries, profiles, keywords, vectors), name).tolist()

    def encode_fields(self, fields: PromptFields, name: str | None = None) -> Ragged:
        """Token ids of many prompts as one array of int32; see `encode_prompts`.

        Args:
            fields: what is known for each prompt.
            name: name of the prompt template; default that of the tokenizer's layout.
        """
        layout, count = self._prompt, len(fields)
        begin, end = (np.array([token], dtype=np.int32) for token in (self.bos_token_id, self.eos_token_id))
        parts = [Part(begin, 0, np.ones(count, dtype=np.int64))]
        for place, group in enumerate((template(name) if name else self._template).groups):
            filled = np.full(count, place == 0)
            for section in group:
                contents = contents_of(section, layout, fields)
                if contents is not None:
                    encoded = contents.encode(self)
                    parts += encoded.parts
                    filled |= encoded.there
            parts.append(Part(end, 0, filled.astype(np.int64)))
        return join(parts)


def sid_token(level: int, code: int) -> str:
    """Token of one code, for instance `<b_3>` for code 3 of level 1."""
    return f"<{string.ascii_lowercase[level]}_{code}>"


def user_token(level: int, code: int) -> str:
    """Token of one code of a user's signature, for instance `<ub_3>`."""
    return f"<u{string.ascii_lowercase[level]}_{code}>"


SidTokenizer.register_for_auto_class("AutoTokenizer")

__all__ = ["SidTokenizer", "sid_token", "user_token"]
