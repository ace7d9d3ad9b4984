"""Layout of the SIDs in the vocabulary."""

from __future__ import annotations

import json

import pytest
from huggingface_hub.errors import StrictDataclassFieldValidationError
from hypothesis import given
from hypothesis import strategies as st
from tiny import LONG_VIEW, TEXT_TOKENS, tiny_causal_model, tiny_config, tiny_model
from transformers.models.bart.modeling_bart import BartEncoder

from onesearch import OneSearchConfig, OneSearchForConditionalGeneration, OneSearchQwen3Config
from onesearch.modeling_onesearch.configuration_onesearch import BART_LIMITS, LONG_VIEW_LIMITS, QWEN3_LIMITS


@given(codebook_sizes=st.lists(st.integers(1, 50), min_size=1, max_size=6), offset=st.integers(4, 100))
def test_levels_follow_each_other_without_gaps(codebook_sizes, offset):
    config = OneSearchConfig(vocab_size=offset + sum(codebook_sizes), sid_codebook_sizes=codebook_sizes, sid_offset=offset)
    slices = [config.sid_slice(level) for level in range(config.sid_levels)]
    assert [stop - start for start, stop in slices] == codebook_sizes
    assert [start for start, _ in slices] == [offset, *(stop for _, stop in slices[:-1])]
    assert slices[-1][1] <= config.vocab_size


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vocab_size": 99, "sid_codebook_sizes": [60, 36], "sid_offset": 4}, ["sid_offset=4", "100", "len(tokenizer)"]),
        ({"vocab_size": 99, "sid_codebook_sizes": [4, 0], "sid_offset": 4}, ["[4, 0]", "at least one code"]),
        ({"vocab_size": 99, "sid_codebook_sizes": [4], "sid_offset": -1}, ["sid_offset=-1"]),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(changes, words):
    with pytest.raises(ValueError) as error:
        OneSearchConfig(**changes)
    assert all(word in str(error.value) for word in words)


BART_SIZES = [
    *({name: size} for name in BART_LIMITS for size in (-1, 0, BART_LIMITS[name] + 1)),
    {"encoder_layers": None},
    {"d_model": 18, "encoder_attention_heads": 4},
    {"d_model": 18, "decoder_attention_heads": 4},
    {"pad_token_id": 56},
    {"decoder_start_token_id": -1},
    {"decoder_start_token_id": None},
    {"dropout": 1.5},
    {"encoder_layerdrop": -0.1},
    {"attention_dropout": float("nan")},
]
QWEN3_SIZES = [
    *({name: size} for name in QWEN3_LIMITS for size in (-1, 0, QWEN3_LIMITS[name] + 1)),
    {"num_key_value_heads": 0},
    {"num_key_value_heads": 3},
    {"pad_token_id": 56},
    {"attention_dropout": 2.0},
]


@pytest.mark.parametrize("changes", BART_SIZES, ids=str)
def test_sizes_of_the_encoder_decoder_have_limits(changes):
    """`encoder_layers: -1` made a model without an encoder; thousands of layers are built for minutes."""
    assert_refused(tiny_config, changes)


@pytest.mark.parametrize("changes", QWEN3_SIZES, ids=str)
def test_sizes_of_the_decoder_only_model_have_limits(changes):
    assert_refused(tiny_causal_model, changes)


@pytest.mark.parametrize("name", LONG_VIEW_LIMITS)
def test_sizes_of_the_long_view_have_limits(name):
    for make in (tiny_config, tiny_causal_model):
        assert_refused(make, {name: LONG_VIEW_LIMITS[name] + 1}, **LONG_VIEW)


def assert_refused(make, changes, **others):
    with pytest.raises(ValueError) as error:
        make(**{**others, **changes})
    assert any(f"{name}={value}" in str(error.value) for name, value in changes.items())


def test_the_number_of_parameters_has_a_limit():
    for make, sizes in ((tiny_config, {"d_model": 2**16}), (tiny_causal_model, {"hidden_size": 2**16})):
        with pytest.raises(ValueError, match="parameters; allowed are 100,000,000,000"):
            make(**sizes, vocab_size=2**24)


def test_the_number_of_levels_has_a_limit():
    with pytest.raises(ValueError, match="100000 levels; allowed are at most 64"):
        OneSearchConfig(vocab_size=200_000, sid_codebook_sizes=[1] * 100_000)


@pytest.mark.parametrize(
    "hostile", [{"encoder_layers": -1}, {"encoder_layers": 10**6}, {"long_view_layers": 10**6, **LONG_VIEW}], ids=str
)
def test_a_hostile_file_is_refused_before_anything_is_built(hostile, tmp_path, monkeypatch):
    """Whether the size lies in `config.json` or is passed to `from_pretrained`."""
    tiny_model().save_pretrained(tmp_path)
    monkeypatch.setattr(BartEncoder, "__init__", lambda *args: pytest.fail("the model is built"))
    with pytest.raises(ValueError, match="_layers=.*allowed are 1"):
        OneSearchForConditionalGeneration.from_pretrained(tmp_path, **hostile)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **hostile}))
    with pytest.raises(ValueError, match="_layers=.*allowed are 1"):
        OneSearchForConditionalGeneration.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("config_class", "width", "std"),
    [(OneSearchConfig, "d_model", "init_std"), (OneSearchQwen3Config, "hidden_size", "initializer_range")],
)
def test_narrow_models_start_with_larger_weights(config_class, width, std, tmp_path):
    layout = {"vocab_size": 99, "sid_codebook_sizes": [4], "sid_offset": 4}
    of_width = {size: getattr(config_class(**layout, **{width: size}), std) for size in (128, 768, 3072)}
    assert of_width == pytest.approx({128: 0.02 * 6**0.5, 768: 0.02, 3072: 0.01})
    asked = config_class(**layout, **{width: 128, std: 0.02})
    asked.save_pretrained(tmp_path)
    assert getattr(asked, std) == getattr(config_class.from_pretrained(tmp_path), std) == 0.02


def test_weights_are_drawn_as_the_configuration_says():
    config = OneSearchConfig(
        vocab_size=99, sid_codebook_sizes=[4], sid_offset=4, d_model=128, encoder_layers=1, decoder_layers=1
    )
    model = OneSearchForConditionalGeneration(config)
    for name in ("shared", "encoder.layers.0.fc1", "decoder.layers.0.encoder_attn.q_proj"):
        assert float(model.model.get_submodule(name).weight.std()) == pytest.approx(config.init_std, rel=0.05)


def test_a_wrong_type_is_refused():
    with pytest.raises(StrictDataclassFieldValidationError, match="sid_fingerprint"):
        OneSearchConfig(vocab_size=99, sid_codebook_sizes=[4], sid_offset=4, sid_fingerprint=7)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"long_view_tokens": -1}, ["long_view_tokens=-1", "0 for a model without"]),
        ({"long_view_dim": 0}, ["long_view_dim=0", "at least 1"]),
        ({"long_view_layers": 0}, ["long_view_layers=0"]),
        ({"long_view_sequences": 0}, ["long_view_sequences=0"]),
        ({"long_view_levels": 4}, ["long_view_levels=4", "1..3"]),
        ({"long_view_token_id": None}, ["long_view_token_id=None", "placeholder"]),
        ({"long_view_token_id": 56}, ["long_view_token_id=56", "vocabulary of 56"]),
        ({"long_view_token_id": TEXT_TOKENS}, ["long_view_token_id=40", "40..55"]),
        ({"long_view_token_id": 1}, ["long_view_token_id=1", "padding"]),
    ],
)
def test_a_long_view_that_does_not_fit_is_refused(changes, words):
    fields = {**LONG_VIEW, **changes}
    for make in (tiny_config, tiny_causal_model):
        with pytest.raises(ValueError) as error:
            make(**fields)
        assert all(word in str(error.value) for word in words)


def test_without_a_long_view_its_fields_are_not_looked_at(tmp_path):
    config = tiny_config(**{**LONG_VIEW, "long_view_tokens": 0, "long_view_dim": 0})
    assert config.long_view_tokens == 0 == tiny_config().long_view_tokens
    with pytest.raises(StrictDataclassFieldValidationError, match="long_view_tokens"):
        tiny_config(long_view_tokens="3")
    config = tiny_config(**LONG_VIEW, long_view_sequences=3)
    config.save_pretrained(tmp_path)
    loaded = OneSearchConfig.from_pretrained(tmp_path)
    assert {name: getattr(loaded, name) for name in LONG_VIEW} == LONG_VIEW and loaded.long_view_sequences == 3
    assert repr(loaded).startswith("OneSearchConfig {")


def test_save_then_load_gives_the_same_configuration(tmp_path):
    config = tiny_config()
    config.save_pretrained(tmp_path)
    loaded = OneSearchConfig.from_pretrained(tmp_path)
    ours = {key: value for key, value in config.to_dict().items() if not key.startswith("_")}
    assert {key: value for key, value in loaded.to_dict().items() if key in ours} == ours
    assert loaded.sid_codebook_sizes == [8, 4, 4] and loaded.sid_fingerprint == "fingerprint"
    assert loaded.forced_eos_token_id is None


def test_a_key_of_a_newer_version_does_not_crash(tmp_path):
    config = tiny_config(unheard_of=7)
    config.save_pretrained(tmp_path)
    assert OneSearchConfig.from_pretrained(tmp_path).sid_codebook_sizes == config.sid_codebook_sizes
