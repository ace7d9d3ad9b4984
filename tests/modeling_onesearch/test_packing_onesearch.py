"""Batches without their padding: the same states, the same gradients, fewer places."""

from __future__ import annotations

import pytest
import torch
from tiny import (
    LONG_VIEW,
    SID_MODELS,
    gradients,
    random_codes,
    random_long_view,
    random_prompts,
    sid_batch,
    tiny_model,
    with_places,
)
from transformers import PreTrainedModel

from onesearch.modeling_onesearch import packing_onesearch
from onesearch.modeling_onesearch.packing_onesearch import PACKED_SDPA, packing_of
from onesearch.modeling_onesearch.places_onesearch import Packing

CODEBOOK_SIZES = (8, 4, 4)
CODES = random_codes(60, CODEBOOK_SIZES, seed=4)
TWO_LAYERS = {"encoder-decoder": {"encoder_layers": 2}, "decoder-only": {"num_hidden_layers": 2}}


@pytest.fixture(params=SID_MODELS)
def make(request):
    return lambda **changes: SID_MODELS[request.param](CODEBOOK_SIZES, CODES, **{**TWO_LAYERS[request.param], **changes})


@pytest.fixture
def without_packing(monkeypatch):
    return lambda: monkeypatch.setattr(packing_onesearch, "WORTHWHILE", 0.0)


def padded(side="right"):
    input_ids, attention_mask = random_prompts(4, seed=3, padding_side=side)
    assert attention_mask.float().mean() < packing_onesearch.WORTHWHILE
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def places_of_layers(model, **inputs):
    """(rows, places) that the layers of the prompt's reader worked on, and its last states."""
    reader, seen = model._prompt_reader(), []
    layers = [layer.fc1 if model.config.is_encoder_decoder else layer.mlp for layer in reader.layers]
    hooks = [layer.register_forward_hook(lambda _, given, out: seen.append(tuple(out.shape[:2]))) for layer in layers]
    if not model.config.is_encoder_decoder:
        inputs = {"use_cache": False, **inputs}
    outputs = reader(**inputs)
    for hook in hooks:
        hook.remove()
    return seen, outputs


@pytest.mark.parametrize("side", ["right", "left"])
def test_states_are_those_of_the_padded_batch(make, side, without_packing):
    model, batch = make(), padded(side)
    is_token = batch["attention_mask"].bool()
    seen, packed = places_of_layers(model, **batch)
    assert seen == [(1, int(is_token.sum()))] * 2
    without_packing()
    seen, whole = places_of_layers(model, **batch)
    assert seen == [tuple(is_token.shape)] * 2
    torch.testing.assert_close(packed.last_hidden_state[is_token], whole.last_hidden_state[is_token], atol=1e-5, rtol=1e-4)
    assert not packed.last_hidden_state[~is_token].any()


@pytest.mark.parametrize("long_view", [False, True])
def test_loss_and_gradients_are_those_of_the_padded_batch(make, long_view, without_packing):
    model = make(**(LONG_VIEW if long_view else {})).double().train()
    prompts = random_prompts(4, seed=3, padding_side="right" if model.config.is_encoder_decoder else "left")
    batch = sid_batch(model, CODES, 4, prompts=with_places(*prompts) if long_view else prompts)
    batch["labels"][1, -2:] = -100
    if long_view:
        batch["long_view_codes"] = random_long_view(4, CODEBOOK_SIZES)

    def found():
        model.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        return {"loss": loss.detach(), **gradients(model)}

    packed = found()
    without_packing()
    torch.testing.assert_close(packed, found())


def test_positions_that_are_given_are_kept():
    model, batch = SID_MODELS["decoder-only"](CODEBOOK_SIZES, CODES).double(), padded("left")
    is_token = batch["attention_mask"].bool()
    positions = (is_token.long().cumsum(1) - 1).clamp(min=0) * 2
    _, packed = places_of_layers(model, **batch, position_ids=positions)
    _, cached = places_of_layers(model, **batch, position_ids=positions, use_cache=True)
    _, shifted = places_of_layers(model, **batch)
    assert cached.past_key_values is not None and packed.past_key_values is None
    torch.testing.assert_close(packed.last_hidden_state[is_token], cached.last_hidden_state[is_token])
    assert not torch.allclose(packed.last_hidden_state[is_token], shifted.last_hidden_state[is_token])


def test_search_finds_what_it_finds_for_one_prompt_at_a_time():
    model, batch = tiny_model(CODEBOOK_SIZES, CODES), padded()
    lengths = batch["attention_mask"].sum(1).tolist()
    for row, hits in enumerate(model.search(**batch, num_beams=8, top_k=5)):
        (alone,) = model.search(batch["input_ids"][row : row + 1, : lengths[row]], num_beams=8, top_k=5)
        assert [hit.item_id for hit in alone] == [hit.item_id for hit in hits]
        assert [hit.score for hit in alone] == pytest.approx([hit.score for hit in hits], abs=1e-4)


@pytest.mark.parametrize("asked", ["output_hidden_states", "output_attentions"])
def test_who_asks_for_states_of_all_layers_gets_them_as_they_were_padded(make, asked):
    model, batch = make(), padded()
    model.set_attn_implementation("eager")
    shape = tuple(batch["input_ids"].shape)
    seen, outputs = places_of_layers(model, **batch, **{asked: True})
    assert seen == [shape] * 2
    if asked == "output_hidden_states":
        assert {tuple(states.shape) for states in outputs.hidden_states} == {(*shape, 16)}
    else:
        assert {tuple(weights.shape[2:]) for weights in outputs.attentions} == {(shape[1], shape[1])}
    assert isinstance(places_of_layers(model, **batch, return_dict=False)[1], tuple)


def test_layerdrop_is_bart_s():
    dropping = tiny_model(encoder_layers=2, encoder_layerdrop=1.0).train()
    assert places_of_layers(dropping, **padded())[0] == []  # every layer is skipped


def test_dropout_is_drawn_from_the_seed(make):
    model, batch = make(attention_dropout=0.3).train(), padded()
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(places_of_layers(model, **batch)[1].last_hidden_state)
    assert torch.equal(*states)
    assert not torch.equal(states[0], places_of_layers(model.eval(), **batch)[1].last_hidden_state)


def test_a_user_chooses_the_attention(make, tmp_path):
    """`sdpa`, the default, takes packed batches; every other implementation runs padded ones, with the same states."""
    model, batch = make(), padded()
    is_token, shape = batch["attention_mask"].bool(), tuple(batch["input_ids"].shape)
    packed = places_of_layers(model, **batch)[1].last_hidden_state
    model.set_attn_implementation("eager")
    assert model.config._attn_implementation == "eager"
    seen, eager = places_of_layers(model, **batch)
    assert seen == [shape] * 2
    torch.testing.assert_close(eager.last_hidden_state[is_token], packed[is_token], atol=1e-5, rtol=1e-4)
    model.set_attn_implementation("sdpa")
    seen, again = places_of_layers(model, **batch)
    assert seen == [(1, int(is_token.sum()))] * 2 and torch.equal(again.last_hidden_state, packed)
    assert model.config._attn_implementation == PACKED_SDPA
    with pytest.raises(ValueError, match="'?flash_of_genius"):
        model.set_attn_implementation("flash_of_genius")
    model.save_pretrained(tmp_path)
    assert "onesearch_sdpa" not in (tmp_path / "config.json").read_text()
    for asked, found in ((None, PACKED_SDPA), ("sdpa", PACKED_SDPA), ("eager", "eager")):
        loaded = type(model).from_pretrained(tmp_path, attn_implementation=asked)
        assert {part.config._attn_implementation for part in loaded.modules() if isinstance(part, PreTrainedModel)} == {found}


def test_attentions_are_returned_by_eager_attention(make):
    model = make(attn_implementation="eager", output_attentions=True)
    shape = tuple(padded()["input_ids"].shape)
    _, outputs = places_of_layers(model, **padded())
    assert {tuple(weights.shape[2:]) for weights in outputs.attentions} == {(shape[1], shape[1])}


def test_nothing_is_packed_where_little_is_padded(make):
    config = make().config
    mask = torch.ones(4, 10, dtype=torch.long)
    assert packing_of(config, None, {}) is None and packing_of(config, mask, {}) is None
    mask[0, :3] = 0
    assert packing_of(config, mask, {}) is None  # 37 of 40
    mask[1, 5:] = 0
    assert len(packing_of(config, mask, {}).places) == 32
    assert packing_of(config, mask[:, None, None], {}) is None  # a mask of attention, not of tokens


def test_there_and_back(make):
    mask = torch.tensor([[1, 1, 0], [0, 1, 0]])
    states = torch.arange(12.0).view(2, 3, 2)
    packing = packing_of(make().config, mask, {})
    assert packing.pack(states).tolist() == [[[0, 1], [2, 3], [8, 9]]]
    torch.testing.assert_close(packing.unpack(packing.pack(states)), states * mask[..., None])


@pytest.mark.parametrize(("tokens", "rows"), [(1023, 1023), (1024, 1024), (1100, 1152)])
def test_a_large_batch_is_filled_with_rows_that_nothing_reads(tokens, rows):
    random = torch.Generator().manual_seed(0)
    places = torch.randperm(2048, generator=random)[:tokens].sort().values
    packing = Packing.of((32, 64), places)
    states = torch.randn(32, 64, 3, generator=random)
    packed = packing.pack(states).requires_grad_()
    unpacked = packing.unpack(packed)
    expected = torch.zeros(2048, 3).index_copy(0, places, states.flatten(0, 1)[places]).view(32, 64, 3)
    assert packed.shape == (1, rows, 3) and torch.equal(unpacked, expected)
    unpacked.sum().backward()
    assert packed.grad[0, :tokens].eq(1).all() and not packed.grad[0, tokens:].any()
