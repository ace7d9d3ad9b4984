"""Prompts as text and as ids, and what they may hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onesearch.tokenization_sid.prompts import LANGUAGES, TEMPLATES, PromptFields, PromptLayout, task_template, template
from onesearch.tokenization_sid.ragged import Ragged
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer

CODEBOOK_SIZES = (8, 4, 4)
TEXTS = ["red running shoe", "blue rain coat", "warm hat"] * 5
TOKENIZER = SidTokenizer.train(TEXTS, CODEBOOK_SIZES, vocab_size=320, prompt=PromptLayout())
SID = st.tuples(*(st.integers(0, width - 1) for width in CODEBOOK_SIZES))
NO_SID = (-1,) * 3
WORDS = st.text(max_size=12)
SEARCH = [name for name in TEMPLATES if name.startswith("search")]


@settings(max_examples=80)
@given(
    name=st.sampled_from(SEARCH),
    text=WORDS,
    sid=SID | st.just(NO_SID),
    items=st.lists(SID, max_size=8),
    user=st.tuples(SID | st.just(NO_SID), SID | st.just(NO_SID)),
    queries=st.lists(WORDS.filter(str.strip), max_size=7),
    profile=st.lists(st.sampled_from(["f", "25-34", "north"]), max_size=3, unique=True),
)
@example("search/2", "red", (1, 2, 3), [(7, 3, 3)], ((1, 1, 1), NO_SID), ["<a_1>", "</s>"], ["f"])
def test_a_prompt_is_the_same_as_text_and_as_ids(name, text, sid, items, user, queries, profile):
    views = {"queries": queries, "profiles": profile, "sids": np.array(sid), "users": np.array(user)}
    rendered = TOKENIZER.render_prompt(text, items, name, **views)
    stacked = {"queries": [queries], "profiles": [profile], "sids": np.array([sid]), "users": np.array([user])}
    (encoded,) = TOKENIZER.encode_prompts([text], [np.array(items, dtype=int).reshape(-1, 3)], name, **stacked)
    parts = [text, *queries[-5:], " ".join(profile)]
    if all(len(TOKENIZER(part, add_special_tokens=False).input_ids) <= 11 for part in parts):
        assert TOKENIZER(rendered).input_ids == encoded
    ids = np.array(encoded)
    first, users = TOKENIZER.sid_offset, TOKENIZER.sid_offset + sum(CODEBOOK_SIZES)
    sids = ids[(ids >= first) & (ids < users)]
    expected = ([sid] if sid != NO_SID else []) + items[-5:]
    assert TOKENIZER.ids_to_sids(sids).tolist() == [list(one) for one in expected]
    signatures = ids[(ids >= users) & (ids < users + sum(CODEBOOK_SIZES))]
    expected = [one for one in user if one != NO_SID]
    assert signatures.tolist() == (TOKENIZER.users_to_ids(expected).ravel().tolist() if expected else [])
    assert (ids == TOKENIZER.long_view_token_id).sum() == 3
    assert ids[0] == TOKENIZER.bos_token_id and ids[-1] == TOKENIZER.eos_token_id


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
    from onesearch.trainers.tasks import TASKS

    for task, made in TASKS.items():
        if made.rows not in ("requests", "words"):
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
