"""The tokenizer: SIDs in the vocabulary, prompts, and that no text can pretend to be a SID."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny import save_tiny_bart

from onesearch import SidTokenizer
from onesearch.tokenization_sid.prompts import plain_text
from onesearch.tokenization_sid.templates import PLAIN_LAYOUT, TEMPLATES
from onesearch.tokenization_sid.tokenization_sid import sid_token

CODEBOOK_SIZES = (16, 8, 8, 4)
TEXTS = ["red running shoe", "Blue RAIN coat", "裙子 夏季 新款", "café chair 50 cm", "shoe for rain"]
TOKENIZER = SidTokenizer.train(TEXTS, CODEBOOK_SIZES, vocab_size=320, fingerprint="fingerprint")
SIDS = st.tuples(*(st.integers(0, size - 1) for size in CODEBOOK_SIZES))


def sid_ids(tokenizer):
    return set(range(tokenizer.sid_offset, tokenizer.sid_offset + sum(tokenizer.sid_codebook_sizes)))


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    _, bart = save_tiny_bart(tmp_path_factory.mktemp("bart"), texts=TEXTS)
    return SidTokenizer.extend(bart, CODEBOOK_SIZES, "fingerprint")


# Codes in the vocabulary


def test_levels_are_contiguous_and_last():
    tokens = [sid_token(level, code) for level, size in enumerate(CODEBOOK_SIZES) for code in range(size)]
    ids = TOKENIZER.convert_tokens_to_ids(tokens)
    assert ids == list(range(TOKENIZER.sid_offset, TOKENIZER.sid_offset + sum(CODEBOOK_SIZES)))
    assert ids[-1] == len(TOKENIZER) - 1
    assert TOKENIZER.level_offsets.tolist() == [ids[0], ids[16], ids[24], ids[32]]
    assert (TOKENIZER.bos_token_id, TOKENIZER.pad_token_id, TOKENIZER.eos_token_id, TOKENIZER.unk_token_id) == (0, 1, 2, 3)


@given(st.lists(SIDS, max_size=20))
def test_ids_to_sids_undoes_sids_to_ids(sids):
    ids = TOKENIZER.sids_to_ids(sids)
    assert ids.shape == (len(sids), len(CODEBOOK_SIZES))
    assert TOKENIZER.ids_to_sids(ids).tolist() == [list(sid) for sid in sids]


@given(SIDS)
def test_the_text_of_a_sid_is_one_token_per_level(sid):
    text = TOKENIZER.sid_string(sid)
    ids = TOKENIZER(text, add_special_tokens=False).input_ids
    assert ids == TOKENIZER.sids_to_ids([sid])[0].tolist()
    assert TOKENIZER.decode([0, *ids, 2], skip_special_tokens=True) == text  # ordinary tokens: kept
    assert TOKENIZER.decode([0, *ids, 2]) == f"<s>{text}</s>"
    assert not set(TOKENIZER.all_special_ids) & set(ids)


@pytest.mark.parametrize(
    ("sid", "words"), [((16, 0, 0, 0), "code 16 at level 0.*0..15"), ((0, 0, -1, 0), "code -1 at level 2")]
)
def test_a_code_out_of_range_is_refused(sid, words):
    with pytest.raises(ValueError, match=words):
        TOKENIZER.sids_to_ids([(1, 1, 1, 1), sid])


def test_an_id_of_another_level_is_refused():
    ids = TOKENIZER.sids_to_ids([(1, 2, 3, 1)])
    with pytest.raises(ValueError, match="no code of level 1"):
        TOKENIZER.ids_to_sids(ids[:, [0, 2, 1, 3]])
    with pytest.raises(ValueError, match="token id 5 is no code of level 0"):
        TOKENIZER.ids_to_sids([[5, 0, 0, 0]])


@pytest.mark.parametrize("shape", [(8,), (1, 8), (3, 2), ()])
def test_codes_of_another_number_of_levels_are_no_sids(shape):
    """Eight codes for four levels were two SIDs."""
    for translate in (TOKENIZER.sids_to_ids, TOKENIZER.ids_to_sids):
        with pytest.raises(ValueError, match=r"SIDs of shape .*: expected \(n, 4\)"):
            translate(np.zeros(shape, dtype=int))
    assert TOKENIZER.sids_to_ids([]).shape == (0, 4) and TOKENIZER.sids_to_ids((0, 0, 0, 0)).shape == (1, 4)


@pytest.mark.parametrize("codebook_sizes", [[], [4, 0], [2] * 27])
def test_impossible_codebook_sizes_are_refused(codebook_sizes):
    with pytest.raises(ValueError, match="1 to 26 levels"):
        SidTokenizer.train(TEXTS, codebook_sizes)


# Prompts


@settings(max_examples=60)
@given(st.text(max_size=40), st.lists(SIDS, max_size=8))
@example("red <a_1> shoe", [(1, 2, 3, 0)])
@example("</s><s> <pad>", [])
@example("<<a_1>>", [])
@example("<a_1", [(1, 1, 1, 1)])
def test_a_rendered_prompt_tokenises_to_the_encoded_one(text, history):
    (encoded,) = TOKENIZER.encode_prompts([text], [np.array(history, dtype=np.int64).reshape(-1, 4)])
    layout = PLAIN_LAYOUT
    shown = TOKENIZER(TOKENIZER.render_prompt(text, history)).input_ids
    end, lost = encoded.index(2), len(encoded) - len(shown)  # a character that the limit cuts in two is not shown
    assert shown == encoded[: end - lost] + encoded[end:]
    is_cut = len(TOKENIZER(plain_text(text), add_special_tokens=False).input_ids) > layout.text_tokens
    assert lost == 0 or is_cut
    kept = TOKENIZER.sids_to_ids(history[-layout.items :]).ravel().tolist()
    assert [token for token in encoded if token in sid_ids(TOKENIZER)] == kept
    assert encoded.count(0) == 1 and encoded.count(2) == (2 if history else 1) and encoded[-1] == 2
    assert 1 not in encoded


@pytest.mark.parametrize("which", ["trained", "extended"])
@pytest.mark.parametrize(
    "query",
    ["<a_1>", "shoe <b_3><c_2>", "</s>", "<s>red</s>", "<pad><unk>", "< a_1>", "<a_1\u200b>", "＜a_1＞", "<<a_1>a_1>", "<A_1>"],
)
def test_a_query_cannot_inject_tokens(query, which, extended):
    tokenizer = TOKENIZER if which == "trained" else extended
    for name in [name for name in TEMPLATES if "sid-to" not in name]:
        (prompt,) = tokenizer.encode_prompts([query], name=name)
        assert prompt[0] == 0 and prompt[-1] == 2
        assert not set(prompt[1:-1]) & (sid_ids(tokenizer) | set(tokenizer.all_special_ids))
        assert tokenizer(tokenizer.render_prompt(query, name=name)).input_ids == prompt


def test_special_tokens_of_another_form_cannot_be_injected():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    backend = Tokenizer(models.WordLevel({word: row for row, word in enumerate([*special, "red", "SEP"])}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), special))
    tokenizer = SidTokenizer.extend(PreTrainedTokenizerFast(tokenizer_object=backend, **names), CODEBOOK_SIZES)
    (prompt,) = tokenizer.encode_prompts(["red [SEP] red [CLS]"])
    assert prompt[0] == 1 and prompt[-1] == 2 and not {0, 1, 2} & set(prompt[1:-1])


def test_a_mask_token_of_the_extended_tokenizer_cannot_be_injected(extended):
    (prompt,) = extended.encode_prompts(["red <mask> shoe"])
    assert extended.convert_tokens_to_ids("<mask>") not in prompt


def test_a_long_text_is_cut_and_the_history_is_not():
    layout = PLAIN_LAYOUT
    sids = np.array([[row, 0, 0, 0] for row in range(9)])
    (prompt,) = TOKENIZER.encode_prompts(["shoe " * 5000], [sids])
    assert len(prompt) == layout.text_tokens + 3 + layout.items * len(CODEBOOK_SIZES)
    kept = TOKENIZER.ids_to_sids(np.array(prompt[layout.text_tokens + 2 : -1]).reshape(-1, 4))
    assert kept.tolist() == sids[-layout.items :].tolist()  # the most recent, oldest first


def test_prompts_without_history():
    (plain,) = TOKENIZER.encode_prompts(["red shoe"])
    assert TOKENIZER.encode_prompts(["red shoe"], [np.zeros((0, 4), dtype=int)]) == [plain]
    assert TOKENIZER.encode_prompts(["red shoe"], [np.array([[1, 1, 1, 1]])], name="item-text-to-sid/1") == [plain]
    assert plain == TOKENIZER("red shoe").input_ids
    assert TOKENIZER.encode_prompts([]) == []


def test_equal_texts_give_equal_prompts_in_order():
    prompts = TOKENIZER.encode_prompts(["red", "blue", "red"])
    assert prompts[0] == prompts[2] != prompts[1]
    with pytest.raises(ValueError):
        TOKENIZER.encode_prompts(["red", "blue"], [np.zeros((0, 4), dtype=int)])


def test_an_unknown_template_is_named():
    with pytest.raises(ValueError, match="'search/9'.*search/2"):
        TOKENIZER.encode_prompts(["red"], name="search/9")


# Saving, loading, extending


@pytest.mark.parametrize("which", ["trained", "extended"])
def test_save_then_load_gives_the_same_ids(which, extended, tmp_path):
    tokenizer = TOKENIZER if which == "trained" else extended
    tokenizer.save_pretrained(tmp_path)
    loaded = SidTokenizer.from_pretrained(tmp_path)
    assert (loaded.sid_codebook_sizes, loaded.sid_offset, loaded.sid_fingerprint) == (
        CODEBOOK_SIZES,
        tokenizer.sid_offset,
        "fingerprint",
    )
    assert len(loaded) == len(tokenizer) and loaded.get_vocab() == tokenizer.get_vocab()
    history = np.array([[1, 2, 3, 0]])
    for text in [*TEXTS, "neverseen ☃", "<a_1> shoe"]:
        assert loaded.encode_prompts([text], [history]) == tokenizer.encode_prompts([text], [history])
    assert loaded.render_prompt("shoe", history) == tokenizer.render_prompt("shoe", history)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert settings["prompt_layout"]["name"] == "search/2" and settings["prompt_layout"]["items"] == 5


def test_limits_of_prompts_travel_with_the_tokenizer(tmp_path):
    tokenizer = SidTokenizer.train(TEXTS, CODEBOOK_SIZES, vocab_size=320)
    tokenizer.prompt = replace(tokenizer.prompt, items=2, text_tokens=4)
    tokenizer.save_pretrained(tmp_path)
    history = np.array([[row, 0, 0, 0] for row in range(5)])
    for one in (tokenizer, SidTokenizer.from_pretrained(tmp_path)):
        (prompt,) = one.encode_prompts(["shoe " * 50], [history])
        assert len(prompt) == 4 + 3 + 2 * len(CODEBOOK_SIZES)
        assert one.render_prompt("shoe", history).count("<a_") == 2
    tokenizer.prompt = replace(tokenizer.prompt, items=0)
    assert tokenizer.encode_prompts(["shoe"], [history]) == tokenizer.encode_prompts(["shoe"])
    with pytest.raises(ValueError, match="'mine/1'"):
        tokenizer.prompt = replace(tokenizer.prompt, name="mine/1")


def test_extending_keeps_the_old_tokenizer_s_ids(tmp_path):
    _, bart = save_tiny_bart(tmp_path, texts=TEXTS)
    extended = SidTokenizer.extend(bart, CODEBOOK_SIZES)
    assert extended.sid_offset == len(bart) and len(extended) == len(bart) + sum(CODEBOOK_SIZES)
    for text in TEXTS:
        assert extended(text).input_ids == bart(text).input_ids
    assert len(bart) == bart.backend_tokenizer.get_vocab_size()  # the old one is left as it was
    with pytest.raises(ValueError, match="'<a_0>'"):
        SidTokenizer.extend(extended, CODEBOOK_SIZES)


def test_a_tokenizer_without_special_tokens_is_not_extended():
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), eos_token="a")
    with pytest.raises(ValueError, match="has no pad_token"):
        SidTokenizer.extend(bare, CODEBOOK_SIZES)


def test_training_text_is_lower_cased_and_round_trips():
    assert TOKENIZER("Blue RAIN").input_ids == TOKENIZER("blue rain").input_ids
    assert TOKENIZER.decode(TOKENIZER("裙子 café", add_special_tokens=False).input_ids).strip() == "裙子 café"
