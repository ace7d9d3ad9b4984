"""What the sections of prompts hold, as token ids and as text.

`contents_of` selects once what a section holds: `Texts`, `Codes`, `Placeholders` or `Places`. Each of them makes both the
ids of all prompts (`encode`) and the text of the first one (`render`), so the two cannot differ. The file travels to the Hub
with the tokenizer and imports nothing of this package.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from tokenizers import models

from .ragged import Part, Ragged, join, offsets_of
from .templates import ITEM_TOKEN, LONG_VIEW_TOKEN, QUERY_TOKEN, SUMMARY_TOKEN, PromptLayout, Section

MAX_PROFILE, MAX_KEYWORDS = 16, 48
"""Most tokens of a profile and of a list of keywords, their label included; our choice, the papers give none."""

LOOKAHEAD = 128
"""Most ids before the end of a text that depend on what follows it: BPE decides by a few characters, WordPiece by the length of a word up
to 100 characters."""

LOCAL_MODELS = (models.BPE, models.WordPiece, models.WordLevel)
"""Models of the library `tokenizers` whose ids depend on near characters only. Unigram weighs whole words of any length and is not cut."""

CHARACTERS_PER_TOKEN = 8
"""Characters that are read at first for each wanted token. More are read where they give too few tokens; the ids are the same."""

_TOKEN_LIKE = re.compile(r"<(?=/?[a-z]+(?:_\d+)?>)")


class SidVocabulary(Protocol):
    """The part of `SidTokenizer` that the sections of a prompt need."""

    @property
    def eos_token(self) -> str: ...

    @property
    def eos_token_id(self) -> int: ...

    @property
    def all_special_tokens(self) -> list[str]: ...

    @property
    def backend_tokenizer(self) -> Any: ...

    def sids_to_ids(self, codes: np.ndarray) -> np.ndarray:
        """(n, levels) → (n, levels)."""

    def users_to_ids(self, signatures: np.ndarray) -> np.ndarray:
        """(n, levels) → (n, levels)."""

    def sid_string(self, sid: Sequence[int]) -> str:
        """Text of a SID."""

    def user_string(self, signature: Sequence[int]) -> str:
        """Text of a signature."""


@dataclass(frozen=True)
class PromptFields:
    """What is known for each of n prompts; None leaves a field out of all of them.

    Args:
        texts: (n,) texts of the queries or items.
        sids: (n, levels) SIDs of the queries or items; -1 at all levels where one is unknown.
        users: (n, signatures, levels) signatures of the users; -1 at all levels where a user has none.
        items: n rows of SIDs (items, levels), the items of each history, oldest first.
        queries: n lists of earlier queries, oldest first.
        profiles: n lists of the words of a profile.
        keywords: n lists of keywords of the wanted item; searches have none.
        vectors: (n, size) text vectors of the queries; zeros where one is unknown. Prompts hold a placeholder of those that are not zero.
    """

    texts: Sequence[str] | None = None
    sids: np.ndarray | None = None
    users: np.ndarray | None = None
    items: Ragged | None = None
    queries: Sequence[Sequence[str]] | None = None
    profiles: Sequence[Sequence[str]] | None = None
    keywords: Sequence[Sequence[str]] | None = None
    vectors: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of prompts; ValueError where the fields disagree."""
        given = (self.texts, self.sids, self.users, self.items, self.queries, self.profiles, self.keywords, self.vectors)
        lengths = {len(field) for field in given if field is not None}
        if len(lengths) > 1:
            raise ValueError(f"fields of {sorted(lengths)} prompts: each field needs one entry per prompt")
        return lengths.pop() if lengths else 0


class Encoded(NamedTuple):
    """Ids of one section in all prompts.

    Attributes:
        parts: ids that stand side by side.
        there: (prompts,) bool, whether the prompt has this section.
    """

    parts: list[Part]
    there: np.ndarray


class Texts(NamedTuple):
    """Texts of one section: one in each prompt, or a list of them with an end token between two.

    Attributes:
        rows: the texts of each prompt; an empty list where it lacks the section.
        limit: most tokens of each text.
        label: words before the texts.
        label_place: ``extra`` puts the label before the text and adds its tokens to the limit; ``counted`` puts it there within the
            limit; ``apart`` makes it an entry of its own before the list.
    """

    rows: Sequence[Sequence[str]]
    limit: int
    label: str
    label_place: Literal["extra", "counted", "apart"]

    def encode(self, tokenizer: SidVocabulary) -> Encoded:
        """Ids of the texts in all prompts."""
        counts = np.array([len(row) for row in self.rows], dtype=np.int64)
        there = counts > 0
        end = np.array([tokenizer.eos_token_id], dtype=np.int32)
        before, most = self._before(tokenizer) if self.label else ("", self.limit)
        entries = _tokenize(tokenizer, [text for row in self.rows for text in row], before, most)
        offsets = offsets_of(counts)
        is_last = np.zeros(len(entries.lengths), dtype=np.int64)
        is_last[offsets[1:][there] - 1] = 1
        joined = join([entries, Part(end, 0, 1 - is_last)])
        begin = joined.offsets[offsets[:-1]]
        lengths = joined.offsets[offsets[1:]] - begin
        parts = [Part(joined.values, begin, lengths)]
        if self.label and self.label_place == "apart":
            label = np.concatenate([_tokenize(tokenizer, [self.label]).values, end])
            parts = [Part(label, 0, there * len(label)), *parts]
        return Encoded(parts, lengths > 0 if self.label_place == "extra" else there)

    def render(self, tokenizer: SidVocabulary) -> str | None:
        """The texts of the first prompt, each cut as its ids are; None where the prompt lacks the section."""
        if not self.rows[0]:
            return None
        before, most = self._before(tokenizer) if self.label else ("", self.limit)
        special = tokenizer.all_special_tokens
        shown = [_cut(tokenizer, before + plain_text(text, special), most) for text in self.rows[0]]
        if self.label and self.label_place == "apart":
            shown = [self.label, *shown]
        return tokenizer.eos_token.join(shown)

    def _before(self, tokenizer: SidVocabulary) -> tuple[str, int]:
        """What a label puts before each text, and most tokens of both together."""
        if self.label_place == "apart":
            return "", self.limit
        extra = len(_tokenize(tokenizer, [self.label]).values) if self.label_place == "extra" else 0
        return f"{self.label} ", self.limit + extra


class Codes(NamedTuple):
    """SIDs of items or queries, or signatures of users.

    Attributes:
        codes: for each prompt (n, levels) codes; no row where it lacks the section.
        kind: which tokens stand for the codes.
        label: words before them.
    """

    codes: Ragged
    kind: Literal["sid", "user"]
    label: str

    def encode(self, tokenizer: SidVocabulary) -> Encoded:
        """Ids of the codes in all prompts."""
        codes, offsets = self.codes.values, self.codes.offsets
        ids = tokenizer.sids_to_ids(codes) if self.kind == "sid" else tokenizer.users_to_ids(codes)
        counts = np.diff(offsets)
        parts = [Part(ids.reshape(-1).astype(np.int32), offsets[:-1] * ids.shape[1], counts * ids.shape[1])]
        if self.label:
            label = _tokenize(tokenizer, [self.label]).values
            parts = [Part(label, 0, (counts > 0) * len(label)), *parts]
        return Encoded(parts, counts > 0)

    def render(self, tokenizer: SidVocabulary) -> str | None:
        """Text of the codes in the first prompt; None where it lacks the section."""
        to_string = tokenizer.sid_string if self.kind == "sid" else tokenizer.user_string
        shown = [to_string(codes) for codes in self.codes[0].tolist()]
        return "".join([self.label, *shown]) if shown else None


class Placeholders(NamedTuple):
    """Places of the long view.

    Attributes:
        prompts: number of prompts; each has the section.
        tokens: placeholder tokens of a prompt.
        label: words before them.
    """

    prompts: int
    tokens: int
    label: str

    def encode(self, tokenizer: SidVocabulary) -> Encoded:
        """Ids of the placeholders in all prompts."""
        ids = [tokenizer.backend_tokenizer.token_to_id(LONG_VIEW_TOKEN)] * self.tokens
        if self.label:
            ids = [*_tokenize(tokenizer, [self.label]).values, *ids]
        everywhere = np.ones(self.prompts, dtype=np.int64)
        return Encoded([Part(np.array(ids, dtype=np.int32), 0, everywhere * len(ids))], everywhere > 0)

    def render(self, tokenizer: SidVocabulary) -> str | None:
        """Text of the placeholders."""
        return self.label + LONG_VIEW_TOKEN * self.tokens


class Places(NamedTuple):
    """Places of vectors: items of histories, oldest first, behind those of the summaries; or the query.

    Attributes:
        counts: (prompts,) places of each prompt; a prompt without any lacks the section.
        token: their placeholder.
        before: placeholders before them.
        label: words before them.
    """

    counts: np.ndarray
    token: str
    before: tuple[str, ...]
    label: str

    def encode(self, tokenizer: SidVocabulary) -> Encoded:
        """Ids of the placeholders in all prompts."""
        token_id, there = tokenizer.backend_tokenizer.token_to_id, self.counts > 0
        before = [token_id(token) for token in self.before]
        if self.label:
            before = [*_tokenize(tokenizer, [self.label]).values, *before]
        places = np.full(int(self.counts.max(initial=0)), token_id(self.token), dtype=np.int32)
        parts = [Part(np.array(before, dtype=np.int32), 0, there * len(before)), Part(places, 0, self.counts)]
        return Encoded(parts, there)

    def render(self, tokenizer: SidVocabulary) -> str | None:
        """Text of the placeholders in the first prompt; None where it lacks the section."""
        count = int(self.counts[0])
        return self.label + "".join(self.before) + self.token * count if count else None


def contents_of(section: Section, layout: PromptLayout, fields: PromptFields) -> Texts | Codes | Placeholders | Places | None:
    """What a section holds in each prompt, cut to the numbers of the layout; None where the layout or the fields have none of it."""
    field, label = section.field, section.label
    if field in ("text", "item") and fields.texts is not None:
        limit = layout.text_tokens if field == "text" else layout.item_tokens
        return Texts([(text,) for text in fields.texts], limit, label, "extra")
    if field in ("sid", "vector"):
        return _of_query(field, layout, fields, label)
    if field == "items" and fields.items is not None and layout.items:
        return _items(fields.items, layout, label)
    if field == "user" and fields.users is not None and layout.user:
        known = fields.users[:, :, 0] >= 0  # (prompts, signatures)
        return Codes(Ragged(fields.users[known], offsets_of(known.sum(1))), "user", label)
    if field == "long_view" and layout.long_view_tokens:
        return Placeholders(len(fields), layout.long_view_tokens, label)
    return _further_texts(field, layout, fields, label)


def _of_query(field: str, layout: PromptLayout, fields: PromptFields, label: str) -> Codes | Places | None:
    """The SID of a query or item, or the place of a query's vector."""
    if field == "sid" and fields.sids is not None:
        known = fields.sids[:, 0] >= 0
        return Codes(Ragged(fields.sids[known], offsets_of(known)), "sid", label)
    if field == "vector" and fields.vectors is not None and layout.query_vector:
        known = (fields.vectors != 0).any(axis=1)
        return Places(np.asarray(known, dtype=np.int64), QUERY_TOKEN, (), label)
    return None


def _further_texts(field: str, layout: PromptLayout, fields: PromptFields, label: str) -> Texts | None:
    """Earlier queries, profile or keywords."""
    if field == "queries" and fields.queries is not None and layout.queries:
        recent = [[text for text in row if text.strip()][-layout.queries :] for row in fields.queries]
        return Texts(recent, layout.query_tokens, label, "apart")
    if field == "profile" and fields.profiles is not None and layout.profile:
        return Texts(list(_joined(fields.profiles)), MAX_PROFILE, label, "counted")
    if field == "keywords" and fields.keywords is not None:
        return Texts(list(_joined(fields.keywords)), MAX_KEYWORDS, label, "counted")
    return None


def _items(items: Ragged, layout: PromptLayout, label: str) -> Codes | Places:
    """The recent items of histories in the form that the layout asks for."""
    if layout.has_vectors:
        before = (SUMMARY_TOKEN,) * len(layout.item_summaries)
        return Places(np.minimum(items.lengths, layout.items), ITEM_TOKEN, before, label)
    return Codes(items.tail(layout.items), "sid", label)


def plain_text(text: str, special_tokens: Sequence[str] = ()) -> str:
    """`text` on one line, changed where the tokenizer would read a SID or a special token in it.

    Args:
        text: any text, for instance a query.
        special_tokens: the tokenizer's special tokens. Those of another form than `<name>` need to be given, for instance the `[SEP]` of
            a Chinese BART.
    """
    plain = _TOKEN_LIKE.sub("< ", " ".join(text.split()))
    for token in special_tokens:
        plain = plain.replace(token, f"{token[0]} {token[1:]}")
    return plain


def _joined(rows: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
    """Each list of words as one text; an empty row where no word is given."""
    for words in rows:
        is_given = any(word.strip() for word in words)
        yield (" ".join(words),) if is_given else ()


def _tokenize(tokenizer: SidVocabulary, texts: Sequence[str], before: str = "", most: int | None = None) -> Part:
    """Ids of texts, at most the first `most` of each, with the words `before` in front; equal texts are tokenised once."""
    rows: dict[str, int] = {}
    places = np.fromiter((rows.setdefault(text, len(rows)) for text in texts), dtype=np.int64, count=len(texts))
    special = tokenizer.all_special_tokens
    plain = [before + plain_text(text, special) for text in rows]
    encoded = _encode(tokenizer.backend_tokenizer, plain, most)
    lengths = np.array([len(one) for one in encoded], dtype=np.int64)
    values = np.fromiter((token for one in encoded for token in one.ids), dtype=np.int32, count=int(lengths.sum()))
    begin = offsets_of(lengths)[places]
    lengths = lengths[places]
    return Part(values, begin, lengths if most is None else np.minimum(lengths, most))


def _encode(backend: Any, texts: Sequence[str], most: int | None, offsets: bool = False) -> list[Any]:
    """Encodings of texts, of which the first `most` ids are those of the whole text; the rest may be missing.

    A long text is read up to `CHARACTERS_PER_TOKEN` characters per token, and further until `LOOKAHEAD` ids follow the wanted ones: those
    before do not depend on the text behind.

    Args:
        backend: tokenizer of the library `tokenizers`.
        texts: texts of any length.
        most: number of wanted ids; None wants all.
        offsets: also find the characters of each token, which takes longer.
    """
    if backend.truncation is not None:  # both are left behind by a call `tokenizer(text, truncation=True, padding=True)`
        backend.no_truncation()
    if backend.padding is not None:
        backend.no_padding()
    encode = backend.encode_batch if offsets else backend.encode_batch_fast
    if most is None or not isinstance(backend.model, LOCAL_MODELS):
        return encode(texts, add_special_tokens=False)
    wanted = most + LOOKAHEAD
    length = wanted * CHARACTERS_PER_TOKEN
    encoded = encode([text[:length] for text in texts], add_special_tokens=False)
    short = [row for row, text in enumerate(texts) if len(text) > length and len(encoded[row].ids) < wanted]
    while short:
        length *= 2
        for row in short:
            encoded[row] = encode([texts[row][:length]], add_special_tokens=False)[0]
        short = [row for row in short if len(texts[row]) > length and len(encoded[row].ids) < wanted]
    return encoded


def _cut(tokenizer: SidVocabulary, text: str, most: int) -> str:
    """The start of `text` that has its first `most` ids.

    A limit can fall inside a character, where a token is only a part of one (some of its bytes). No text has these ids; the result then
    ends before that character.
    """
    backend = tokenizer.backend_tokenizer
    whole = _encode(backend, [text], most, offsets=True)[0]
    if len(whole.ids) <= most:
        return text
    for count in range(most, 0, -1):
        start = text[: whole.offsets[count - 1][1]]
        if backend.encode(start, add_special_tokens=False).ids == whole.ids[:count]:
            return start
    return ""


__all__ = ["Codes", "Placeholders", "Places", "PromptFields", "Texts", "contents_of", "plain_text"]
