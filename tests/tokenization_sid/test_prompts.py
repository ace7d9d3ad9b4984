"""Prompts as text and as ids, and what they may hold."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from onesearch.tokenization_sid.prompts import CHARACTERS_PER_TOKEN, LOOKAHEAD, PromptFields, _encode, plain_text
from onesearch.tokenization_sid.ragged import Ragged
from onesearch.tokenization_sid.templates import LANGUAGES, TEMPLATES, PromptLayout, task_template, template
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer

CODEBOOK_SIZES = (8, 4, 4)
TEXTS = ["red running shoe", "blue rain coat", "warm hat"] * 5
TOKENIZER = SidTokenizer.train(TEXTS, CODEBOOK_SIZES, vocab_size=320, prompt=PromptLayout())
SID = st.tuples(*(st.integers(0, size - 1) for size in CODEBOOK_SIZES))
NO_SID = (-1,) * 3
WORDS = st.text(max_size=12)
LONG = st.lists(st.sampled_from(["red", "裙子", "running shoe", "don't"]), min_size=5, max_size=40).map(" ".join)
SEARCH = [name for name in TEMPLATES if name.startswith("search")]


def tokens_lost(text, most, label=""):
    """Tokens within the limit that are a part of a character whose other tokens are beyond it: no text has their ids."""
    before = f"{label} " if label else ""
    whole = TOKENIZER.backend_tokenizer.encode(before + plain_text(text), add_special_tokens=False)
    within = kept = min(most, len(whole.ids))
    while 0 < kept < len(whole.ids) and whole.offsets[kept][0] < whole.offsets[kept - 1][1]:
        kept -= 1
    return within - kept


def is_subsequence(some, ids):
    rest = iter(ids)
    return all(one in rest for one in some)


LABELS = {section.field + name: section.label for name in SEARCH for group in template(name).groups for section in group}


@settings(max_examples=150)
@given(
    name=st.sampled_from(SEARCH),
    text=st.text(max_size=30) | LONG,
    sid=SID | st.just(NO_SID),
    items=st.lists(SID, max_size=8),
    user=st.tuples(SID | st.just(NO_SID), SID | st.just(NO_SID)),
    queries=st.lists((WORDS | LONG).filter(str.strip), max_size=7),
    profile=st.lists(st.sampled_from(["f", "25-34", "north", "a long word in a profile"]), max_size=4),
    keywords=st.lists(st.sampled_from(["shoe", "", "裙子", "red running shoe with a long name"]), max_size=4),
)
@example("search/2", "red", (1, 2, 3), [(7, 3, 3)], ((1, 1, 1), NO_SID), ["<a_1>", "</s>"], ["f"], [])
@example("search/2", "shoes " * 30, NO_SID, [], (NO_SID, NO_SID), ["shoe " * 20] * 7, ["north"] * 20, ["shoe"] * 60)
@example("search-zh/1", "裙子" * 30, NO_SID, [], (NO_SID, NO_SID), ["夏季" * 20], [], [])
def test_a_prompt_is_the_same_as_text_and_as_ids(name, text, sid, items, user, queries, profile, keywords):
    views = {"queries": queries, "profiles": profile, "keywords": keywords, "sids": np.array(sid), "users": np.array(user)}
    rendered = TOKENIZER.render_prompt(text, items, name, **views)
    stacked = {"queries": [queries], "profiles": [profile], "keywords": [keywords]}
    stacked |= {"sids": np.array([sid]), "users": np.array([user])}
    (encoded,) = TOKENIZER.encode_prompts([text], [np.array(items, dtype=int).reshape(-1, 3)], name, **stacked)
    found = TOKENIZER(rendered).input_ids
    label_of = {field: LABELS[field + name] for field in ("text", "profile", "keywords")}
    label_tokens = len(TOKENIZER(label_of["text"], add_special_tokens=False).input_ids)
    lost = tokens_lost(text, 32 + label_tokens, label_of["text"]) + sum(tokens_lost(query, 12) for query in queries[-5:])
    lost += tokens_lost(" ".join(profile), 16, label_of["profile"]) if "".join(profile).strip() else 0
    lost += tokens_lost(" ".join(keywords), 48, label_of["keywords"]) if "".join(keywords).strip() else 0
    assert len(found) == len(encoded) - lost and is_subsequence(found, encoded)
    ids = np.array(encoded)
    first, users = TOKENIZER.sid_offset, TOKENIZER.sid_offset + sum(CODEBOOK_SIZES)
    sids = ids[(ids >= first) & (ids < users)]
    expected = ([sid] if sid != NO_SID else []) + items[-5:]
    assert TOKENIZER.ids_to_sids(sids.reshape(-1, 3)).tolist() == [list(one) for one in expected]
    signatures = ids[(ids >= users) & (ids < users + sum(CODEBOOK_SIZES))]
    expected = [one for one in user if one != NO_SID]
    assert signatures.tolist() == (TOKENIZER.users_to_ids(expected).ravel().tolist() if expected else [])
    assert (ids == TOKENIZER.long_view_token_id).sum() == 3
    assert ids[0] == TOKENIZER.bos_token_id and ids[-1] == TOKENIZER.eos_token_id


# Computed once and kept: a checkpoint is trained on these ids. The vocabulary holds bytes alone, so they depend on no learned merge.
BYTES = SidTokenizer.train(
    TEXTS, CODEBOOK_SIZES, vocab_size=260, prompt=PromptLayout(text_tokens=6, query_tokens=4, item_tokens=5)
)
FULL = {
    "sids": np.array([[1, 2, 3], NO_SID]),
    "users": np.array([[[1, 1, 1], NO_SID], [NO_SID, NO_SID]]),
    "queries": [["hat", "red shoe", " "], []],
    "profiles": [["f", "25-34"], [" "]],
    "keywords": [["shoe"], []],
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "search/2",
            [
                *(
                    0,
                    224,
                    85,
                    72,
                    71,
                    224,
                    86,
                    261,
                    270,
                    275,
                    2,
                    277,
                    285,
                    289,
                    292,
                    292,
                    292,
                    2,
                ),  # query, SID; user, long view
                *(267, 271, 275, 260, 268, 272, 2),  # items
                *(224, 75, 68, 87, 2, 224, 85, 72, 71, 2),  # earlier queries
                *(224, 73, 224, 21, 24, 16, 22, 23, 2, 224, 86, 75, 82, 72, 2),  # profile; keywords
            ],
        ),
        (
            "search-en/1",
            [
                *(0, 224, 86, 72, 68, 85, 70, 75, 29, 224, 85, 72, 71, 224, 86, 261, 270, 275, 2),
                *(224, 88, 86, 72, 85, 29, 277, 285, 289, 292, 292, 292, 2),
                *(224, 85, 72, 70, 72, 81, 87, 224, 76, 87, 72, 80, 86, 29, 267, 271, 275, 260, 268, 272, 2),
                *(224, 85, 72, 70, 72, 81, 87, 224, 86, 72, 68, 85, 70, 75, 72, 86, 29, 2),
                *(224, 75, 68, 87, 2, 224, 85, 72, 71, 2),
                *(224, 83, 85, 82, 73, 76, 79, 72, 29, 224, 73, 224, 21, 24, 16, 22, 2),
                *(224, 78, 72, 92, 90, 82, 85, 71, 86, 29, 224, 86, 75, 82, 72, 2),
            ],
        ),
    ],
)
def test_the_ids_of_a_search_prompt_stay(name, expected):
    items = [np.array([[7, 3, 3], [0, 0, 0]]), np.zeros((0, 3), dtype=int)]
    whole, plain = BYTES.encode_prompts(["Red shoes", "裙子 <a_1>"], items, name, **FULL)
    assert whole == expected
    label = [] if name == "search/2" else expected[1:9]
    assert plain == [0, *label, 224, 168, 100, 251, 165, 259, 2, 292, 292, 292, 2]


def test_the_ids_of_a_task_prompt_stay():
    assert BYTES.encode_prompts(["Red shoes"], name="item-text-to-sid/1") == [[0, 224, 85, 72, 71, 224, 2]]
    chinese = [0, 224, 165, 247, 232, 165, 245, 227, 167, 113, 123, 167, 253, 110, 29, 224, 85, 72, 71, 224, 2]
    assert BYTES.encode_prompts(["Red shoes"], name="item-text-to-category-zh/1") == [chinese]
    ids = BYTES.encode_fields(PromptFields(sids=np.array([[1, 2, 3]])), "query-sid-to-text-en/1")
    assert ids.tolist() == [[0, 224, 87, 72, 91, 87, 224, 82, 73, 224, 84, 88, 72, 85, 92, 29, 261, 270, 275, 2]]


def test_text_is_cut_as_its_ids_are():
    assert BYTES.render_prompt("Red shoes") == "Red s</s><longview><longview><longview>"
    assert (
        BYTES.render_prompt("裙子") == "裙</s><longview><longview><longview>"
    )  # 5 of 6 bytes: the second character is not whole
    assert BYTES.render_prompt("ab裙", queries=["red shoe"]) == "ab裙</s><longview><longview><longview></s>red"


def test_keywords_are_rendered():
    rendered = TOKENIZER.render_prompt("red", name="search-en/1", keywords=["running", "shoe"])
    assert rendered.endswith("</s>keywords: running shoe")
    assert (
        TOKENIZER(rendered).input_ids
        == TOKENIZER.encode_prompts(["red"], name="search-en/1", keywords=[["running", "shoe"]])[0]
    )


@pytest.mark.parametrize("method", ["render_prompt", "encode_prompts"])
def test_an_unknown_view_is_an_error_that_names_it(method):
    with pytest.raises(TypeError, match="'colours'"):
        getattr(TOKENIZER, method)("red", colours=["blue"])


def test_a_changed_layout_counts_at_once():
    tokenizer = SidTokenizer.train(TEXTS, CODEBOOK_SIZES, vocab_size=320, prompt=PromptLayout())
    assert "<longview>" in tokenizer.render_prompt("red")
    tokenizer.prompt = replace(tokenizer.prompt, long_view_tokens=0, text_tokens=1)
    assert tokenizer.render_prompt("red shoe") == "red" and tokenizer.long_view_token_id is None
    assert len(tokenizer.encode_prompts(["red shoe"])[0]) == 3
    copies = copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer))  # noqa: S301 - made in the line itself
    assert [one.prompt for one in copies] == [tokenizer.prompt] * 2


def test_many_prompts_at_once_are_those_of_one_by_one():
    random = np.random.default_rng(0)
    count = 40
    texts = [f"red shoe {number}" for number in random.integers(0, 9, count)]
    sids = random.integers(0, 4, (count, 3)) * (random.random(count) < 0.7)[:, None] - (random.random(count) < 0.2)[:, None]
    sids[(sids < 0).any(1)] = -1
    items = [random.integers(0, 4, (length, 3)) for length in random.integers(0, 9, count)]
    users = random.integers(0, 4, (count, 2, 3))
    queries = [texts[: random.integers(0, 4)] for _ in range(count)]
    profiles = [("f", "25-34")[: random.integers(0, 3)] for _ in range(count)]
    fields = PromptFields(texts, sids, users, Ragged.of(items, (3,)), queries, profiles)
    found = TOKENIZER.encode_fields(fields)
    for row in range(count):
        views = {"sids": sids[row], "users": users[row], "queries": queries[row], "profiles": profiles[row]}
        assert TOKENIZER(TOKENIZER.render_prompt(texts[row], items[row], **views)).input_ids == found[row].tolist()


def test_the_place_of_a_known_query_vector():
    tokenizer = SidTokenizer.train(TEXTS, CODEBOOK_SIZES, vocab_size=320, prompt=replace(PromptLayout(), query_vector=True))
    texts, vectors = ["red", "blue"], np.array([[0.5, -0.5], [0.0, 0.0]])
    with_place, without = tokenizer.encode_prompts(texts, vectors=vectors)
    assert with_place.count(tokenizer.query_vector_token_id) == 1 and tokenizer.query_vector_token_id not in without
    assert tokenizer(tokenizer.render_prompt("red", vectors=vectors[0])).input_ids == with_place
    with pytest.raises(ValueError, match="no tokens for query_vector"):
        TOKENIZER.prompt = replace(TOKENIZER.prompt, query_vector=True)


def test_limits_cut_each_view():
    views = {"queries": [["red " * 30] * 9], "profiles": [["f"] * 40]}
    (prompt,) = TOKENIZER.encode_prompts(["red " * 50], [np.zeros((9, 3), dtype=int)], **views)
    layout = TOKENIZER.prompt
    ends = np.flatnonzero(np.array(prompt) == TOKENIZER.eos_token_id)
    lengths = np.diff([0, *ends])  # begin token and query; long view; items; 5 queries; profile
    assert lengths[0] == layout.text_tokens + 1 and lengths[1] == layout.long_view_tokens + 1
    assert lengths[2] == layout.items * 3 + 1
    assert lengths[3:8].tolist() == [layout.query_tokens + 1] * 5 and lengths[8] == 17


@pytest.mark.parametrize("off", ["queries", "sid", "user", "long_view_tokens", "profile", "items"])
def test_a_view_that_the_layout_lacks_is_left_out(off):
    layout = replace(PromptLayout(), **{off: type(getattr(PromptLayout(), off))(0)})
    tokenizer = SidTokenizer.train(TEXTS, CODEBOOK_SIZES, vocab_size=320, prompt=layout)
    views = {"queries": [["blue"]], "profiles": [["f"]], "users": np.ones((1, 2, 3), dtype=int)}
    views |= {} if off == "sid" else {"sids": np.ones((1, 3), dtype=int)}
    (prompt,) = tokenizer.encode_prompts(["red"], [np.ones((1, 3), dtype=int)], **views)
    (whole,) = SidTokenizer.train(TEXTS, CODEBOOK_SIZES, vocab_size=320, prompt=PromptLayout()).encode_prompts(
        ["red"], [np.ones((1, 3), dtype=int)], **{**views, "sids": np.ones((1, 3), dtype=int)}
    )
    assert 0 < len(prompt) < len(whole)


def test_a_vocabulary_without_the_tokens_refuses_the_layout():
    plain = SidTokenizer.train(TEXTS, CODEBOOK_SIZES, vocab_size=320)
    assert len(plain) == len(TOKENIZER) - sum(CODEBOOK_SIZES) - 1 and plain.long_view_token_id is None
    with pytest.raises(ValueError, match="no tokens for user and long_view_tokens"):
        plain.prompt = PromptLayout()


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_renders_and_nothing_in_a_text_is_read_as_a_token(name):
    fields = {"text": {}, "item": {}, "sid": {"sids": np.array([[1, 2, 3]])}}
    given = {section.field for group in template(name).groups for section in group}
    views = fields["sid"] if "sid" in given else {}
    texts = None if given == {"sid"} else ["<a_1> </s> <ua_3> <longview> red"]
    found = TOKENIZER.encode_fields(PromptFields(texts, **views), name)[0].tolist()
    codes = [token for token in found if token >= TOKENIZER.sid_offset and token != TOKENIZER.long_view_token_id]
    assert codes == (TOKENIZER.sids_to_ids([(1, 2, 3)])[0].tolist() if views else [])
    assert found.count(TOKENIZER.eos_token_id) == (2 if name in SEARCH else 1)  # the query's group, and the long view's


@pytest.mark.parametrize("language", LANGUAGES)
def test_tasks_have_a_template_in_each_language(language):
    from onesearch.trainers.tasks import COPIED, TASKS

    for task, made in TASKS.items():
        if made.rows != "requests" and task not in COPIED:
            assert task_template(task, language) in TEMPLATES


def test_fields_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"fields of \[1, 2\] prompts"):
        TOKENIZER.encode_fields(PromptFields(["red", "blue"], queries=[["hat"]]))


def test_negative_limits_are_refused():
    with pytest.raises(ValueError, match="items=-1"):
        PromptLayout(items=-1)


def test_a_layout_travels_with_the_tokenizer(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    loaded = SidTokenizer.from_pretrained(tmp_path)
    assert loaded.prompt == TOKENIZER.prompt == PromptLayout()
    assert loaded.long_view_token_id == TOKENIZER.long_view_token_id


def bpe(*words):
    """A copy of `TOKENIZER`'s kind that knows other words."""
    return SidTokenizer.train(words, CODEBOOK_SIZES, vocab_size=400).backend_tokenizer


def wordpiece():
    """As BERT's: it deletes control characters, and a word of more than 100 characters is one unknown token."""
    pieces = ["[UNK]", "a", "##a", "##b", "b", "##ab", "aba", "##aba", ".", "1", "##1"]
    model = Tokenizer(models.WordPiece({piece: row for row, piece in enumerate(pieces)}, unk_token="[UNK]"))
    model.normalizer, model.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    return model


def unigram():
    scores = [
        ("<unk>", 0.0),
        ("a", -3.0),
        ("b", -3.1),
        ("ab", -4.0),
        ("ba", -3.9),
        ("aba", -5.5),
        ("bab", -5.4),
        ("\u2581", -2.0),
    ]
    model = Tokenizer(models.Unigram(scores, 0))
    model.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    return model


BACKENDS = {
    "bpe": TOKENIZER.backend_tokenizer,
    "bpe of repeated letters": bpe("aaaaaaaaaaaaaaaa " * 9, "abababababab " * 9, "aabaabaabaab " * 9, "babbabbabbab"),
    "wordpiece": wordpiece(),
    "unigram": unigram(),
}
FAR = (1 + LOOKAHEAD) * CHARACTERS_PER_TOKEN
PIECES = st.sampled_from(
    ["a", "b", "ab", "aab", "abb", "a" * 101, " ", ".", "1", "\u0301", "\x00\x01", "裙", "e\u0301", "\u1112\u1161"]
)


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)
@settings(max_examples=80)
@given(start=st.lists(PIECES, max_size=30), repeated=st.lists(PIECES, min_size=1, max_size=8), most=st.integers(1, 40))
@example(["a"], ["\x00"], 3)
@example(["b"], ["a" * 101], 3)
@example([], ["a"], 40)
@example([], ["ab"], 40)
def test_the_ids_of_a_cut_text_are_the_first_of_the_whole_text(backend, start, repeated, most):
    unit = "".join(repeated)
    text = "".join(start) + unit * (4 * FAR // len(unit) + 1)
    whole = backend.encode(text, add_special_tokens=False).ids
    for offsets in (False, True):
        assert _encode(backend, [text, "a"], most, offsets)[0].ids[:most] == whole[:most]


def test_a_query_of_a_million_words_is_not_read_to_its_end(monkeypatch):
    read = []
    original = Tokenizer.encode_batch_fast

    class Counting:
        truncation = padding = None
        model = TOKENIZER.backend_tokenizer.model

        def encode_batch_fast(self, texts, add_special_tokens):
            read.append(sum(map(len, texts)))
            return original(TOKENIZER.backend_tokenizer, texts, add_special_tokens=add_special_tokens)

    query = " ".join(f"shoe{number}" for number in range(100_000))
    expected = TOKENIZER.backend_tokenizer.encode(query[:5000], add_special_tokens=False).ids[:32]
    assert _encode(Counting(), [query], 32)[0].ids[:32] == expected
    assert sum(read) <= (32 + LOOKAHEAD) * CHARACTERS_PER_TOKEN


def test_a_call_with_truncation_and_padding_leaves_prompts_as_they_are():
    texts = ["red running shoe and blue rain coat", "x"]
    expected, rendered = TOKENIZER.encode_prompts(texts), TOKENIZER.render_prompt(texts[0])
    TOKENIZER(texts, truncation=True, max_length=6, padding="max_length")
    assert TOKENIZER.encode_prompts(texts) == expected
    TOKENIZER(texts, truncation=True, max_length=6, padding="max_length")
    assert TOKENIZER.render_prompt(texts[0]) == rendered
