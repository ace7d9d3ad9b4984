"""Layout of the SIDs in the vocabulary."""

from __future__ import annotations

import pytest
from huggingface_hub.errors import StrictDataclassFieldValidationError
from hypothesis import given
from hypothesis import strategies as st
from tiny import LONG_VIEW, TEXT_TOKENS, tiny_causal_model, tiny_config

from onesearch import OneSearchConfig, OneSearchForConditionalGeneration, OneSearchQwen3Config


@given(widths=st.lists(st.integers(1, 50), min_size=1, max_size=6), offset=st.integers(4, 100))
def test_levels_follow_each_other_without_gaps(widths, offset):
    config = OneSearchConfig(vocab_size=offset + sum(widths), sid_widths=widths, sid_offset=offset)
    slices = [config.sid_slice(level) for level in range(config.sid_levels)]
    assert [stop - start for start, stop in slices] == widths
    assert [start for start, _ in slices] == [offset, *(stop for _, stop in slices[:-1])]
    assert slices[-1][1] <= config.vocab_size


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vocab_size": 99, "sid_widths": [60, 36], "sid_offset": 4}, ["sid_offset=4", "100", "len(tokenizer)"]),
        ({"vocab_size": 99, "sid_widths": [4, 0], "sid_offset": 4}, ["[4, 0]", "at least one code"]),
        ({"vocab_size": 99, "sid_widths": [4], "sid_offset": -1}, ["sid_offset=-1"]),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(changes, words):
    with pytest.raises(ValueError) as error:
        OneSearchConfig(**changes)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("config_class", "width", "std"),
    [(OneSearchConfig, "d_model", "init_std"), (OneSearchQwen3Config, "hidden_size", "initializer_range")],
)
def test_narrow_models_start_with_larger_weights(config_class, width, std, tmp_path):
    layout = {"vocab_size": 99, "sid_widths": [4], "sid_offset": 4}
    of_width = {size: getattr(config_class(**layout, **{width: size}), std) for size in (128, 768, 3072)}
    assert of_width == pytest.approx({128: 0.02 * 6**0.5, 768: 0.02, 3072: 0.01})
    asked = config_class(**layout, **{width: 128, std: 0.02})
    asked.save_pretrained(tmp_path)
    assert getattr(asked, std) == getattr(config_class.from_pretrained(tmp_path), std) == 0.02


def test_weights_are_drawn_as_the_configuration_says():
    config = OneSearchConfig(vocab_size=99, sid_widths=[4], sid_offset=4, d_model=128, encoder_layers=1, decoder_layers=1)
    model = OneSearchForConditionalGeneration(config)
    for name in ("shared", "encoder.layers.0.fc1", "decoder.layers.0.encoder_attn.q_proj"):
        assert float(model.model.get_submodule(name).weight.std()) == pytest.approx(config.init_std, rel=0.05)


def test_a_wrong_type_is_refused():
    with pytest.raises(StrictDataclassFieldValidationError, match="sid_digest"):
        OneSearchConfig(vocab_size=99, sid_widths=[4], sid_offset=4, sid_digest=7)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"behaviour_tokens": -1}, ["behaviour_tokens=-1", "0 for a model without"]),
        ({"behaviour_dim": 0}, ["behaviour_dim=0", "at least 1"]),
        ({"behaviour_layers": 0}, ["behaviour_layers=0"]),
        ({"behaviour_sequences": 0}, ["behaviour_sequences=0"]),
        ({"behaviour_levels": 4}, ["behaviour_levels=4", "1..3"]),
        ({"behaviour_token_id": None}, ["behaviour_token_id=None", "placeholder"]),
        ({"behaviour_token_id": 56}, ["behaviour_token_id=56", "vocabulary of 56"]),
        ({"behaviour_token_id": TEXT_TOKENS}, ["behaviour_token_id=40", "40..55"]),
        ({"behaviour_token_id": 1}, ["behaviour_token_id=1", "padding"]),
    ],
)
def test_a_long_view_that_does_not_fit_is_refused(changes, words):
    fields = {**LONG_VIEW, **changes}
    for make in (tiny_config, tiny_causal_model):
        with pytest.raises(ValueError) as error:
            make(**fields)
        assert all(word in str(error.value) for word in words)


def test_without_a_long_view_its_fields_are_not_looked_at(tmp_path):
    config = tiny_config(**{**LONG_VIEW, "behaviour_tokens": 0, "behaviour_dim": 0})
    assert config.behaviour_tokens == 0 == tiny_config().behaviour_tokens
    with pytest.raises(StrictDataclassFieldValidationError, match="behaviour_tokens"):
        tiny_config(behaviour_tokens="3")
    config = tiny_config(**LONG_VIEW, behaviour_sequences=3)
    config.save_pretrained(tmp_path)
    loaded = OneSearchConfig.from_pretrained(tmp_path)
    assert {name: getattr(loaded, name) for name in LONG_VIEW} == LONG_VIEW and loaded.behaviour_sequences == 3
    assert repr(loaded).startswith("OneSearchConfig {")


def test_save_then_load_gives_the_same_configuration(tmp_path):
    config = tiny_config()
    config.save_pretrained(tmp_path)
    loaded = OneSearchConfig.from_pretrained(tmp_path)
    ours = {key: value for key, value in config.to_dict().items() if not key.startswith("_")}
    assert {key: value for key, value in loaded.to_dict().items() if key in ours} == ours
    assert loaded.sid_widths == [8, 4, 4] and loaded.sid_digest == "digest"
    assert loaded.forced_eos_token_id is None


def test_a_key_of_a_newer_version_does_not_crash(tmp_path):
    config = tiny_config(unheard_of=7)
    config.save_pretrained(tmp_path)
    assert OneSearchConfig.from_pretrained(tmp_path).sid_widths == config.sid_widths
