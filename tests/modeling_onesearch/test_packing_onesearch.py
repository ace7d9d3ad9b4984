"""Prompts without their padding: the same states, the same gradients, fewer places."""

from __future__ import annotations

import pytest
import torch
from tiny import TEXT_TOKENS, random_behaviour, tiny_model

from onesearch.modeling_onesearch import packing_onesearch
from onesearch.modeling_onesearch.packing_onesearch import Packing

WIDTHS = (8, 4, 4)
LENGTHS = (3, 12, 5, 1)
LONG_VIEW = {"behaviour_tokens": 2, "behaviour_token_id": 3, "behaviour_dim": 6}


def padded(side="right", first=4):
    """input_ids and attention_mask (4, 12) of prompts of `LENGTHS` tokens."""
    torch.manual_seed(1)
    ids, places = torch.randint(first, TEXT_TOKENS, (len(LENGTHS), max(LENGTHS))), torch.arange(max(LENGTHS))
    mask = torch.stack([places < length for length in LENGTHS]).long()
    mask = mask if side == "right" else mask.flip(1)
    return {"input_ids": ids.where(mask.bool(), 1), "attention_mask": mask}


def without_packing(monkeypatch):
    monkeypatch.setattr(packing_onesearch, "WORTHWHILE", 0.0)


def places_of_layers(model, **inputs):
    """Shapes (rows, places) that the encoder's feed-forward layers saw."""
    seen = []
    hooks = [
        layer.fc1.register_forward_hook(lambda _, given, out: seen.append(tuple(out.shape[:2])))
        for layer in model.model.encoder.layers
    ]
    states = model.model.encoder(**inputs).last_hidden_state
    for hook in hooks:
        hook.remove()
    return seen, states


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_states_are_those_of_the_padded_batch(side, attention, monkeypatch):
    model = tiny_model(encoder_layers=2).double()
    model.set_attn_implementation(attention)
    batch = padded(side)
    is_token = batch["attention_mask"].bool()
    seen, packed = places_of_layers(model, **batch)
    assert seen == [(1, sum(LENGTHS))] * 2
    without_packing(monkeypatch)
    seen, whole = places_of_layers(model, **batch)
    assert seen == [(4, 12)] * 2
    torch.testing.assert_close(packed[is_token], whole[is_token])
    assert not packed[~is_token].any()


@pytest.mark.parametrize("long_view", [False, True])
def test_loss_and_gradients_are_those_of_the_padded_batch(long_view, monkeypatch):
    model = tiny_model(encoder_layers=2, **(LONG_VIEW if long_view else {})).double().train()
    batch = {**padded(), "labels": torch.tensor([[40, 48, 52], [41, 49, 53], [47, 51, 55], [40, -100, -100]])}
    if long_view:
        batch["input_ids"][:3, 1:3] = 3  # the last prompt has no room for its user's two vectors
        batch["behaviour_codes"] = random_behaviour(4, WIDTHS)
        batch["behaviour_codes"][3] = -1

    def gradients():
        model.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        return {
            "loss": loss.detach(),
            **{name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None},
        }

    packed = gradients()
    without_packing(monkeypatch)
    torch.testing.assert_close(packed, gradients())


def test_generate_and_search_are_those_of_one_prompt_at_a_time():
    codes = torch.cartesian_prod(*(torch.arange(width) for width in WIDTHS))
    model, batch = tiny_model(WIDTHS, codes), padded()
    together = model.search(**batch, num_beams=8, top_k=5)
    for row, hits in enumerate(together):
        ids = batch["input_ids"][row : row + 1, : LENGTHS[row]]
        alone = model.search(ids, num_beams=8, top_k=5)[0]
        assert [hit.item_id for hit in alone] == [hit.item_id for hit in hits]
        torch.testing.assert_close([hit.score for hit in alone], [hit.score for hit in hits], atol=1e-4, rtol=1e-4)


def test_what_needs_the_padded_batch_gets_it():
    model, batch = tiny_model(encoder_layers=2), padded()
    for asked in ({"output_hidden_states": True}, {"output_attentions": True}):
        model.set_attn_implementation("eager")
        seen, _ = places_of_layers(model, **batch, **asked)
        assert seen == [(4, 12)] * 2, asked
    outputs = model.model.encoder(**batch, output_hidden_states=True)
    assert [tuple(state.shape) for state in outputs.hidden_states] == [(4, 12, 16)] * 3
    assert isinstance(model.model.encoder(**batch, return_dict=False), tuple)
    dropping = tiny_model(encoder_layers=2, encoder_layerdrop=1.0).train()
    assert places_of_layers(dropping, **batch)[0] == []  # every layer is skipped, as in BART


def test_nothing_is_packed_where_little_is_padded():
    mask = torch.ones(4, 10, dtype=torch.long)
    assert Packing.of(None) is None and Packing.of(mask) is None
    mask[0, :3] = 0
    assert Packing.of(mask) is None  # 37 of 40
    mask[1, 5:] = 0
    assert len(Packing.of(mask).places) == 32
    assert Packing.of(mask[:, None, None]) is None  # a mask of attention, not of tokens


def test_there_and_back():
    mask = torch.tensor([[1, 1, 0], [0, 1, 0]])
    states = torch.arange(12.0).view(2, 3, 2)
    packing = Packing(mask)
    assert packing.pack(states).tolist() == [[[0, 1], [2, 3], [8, 9]]]
    torch.testing.assert_close(packing.unpack(packing.pack(states)), states * mask[..., None])


def test_dropout_differs_only_by_what_is_drawn():
    """Training with dropout runs packed and is repeatable."""
    model, batch = tiny_model(dropout=0.5, attention_dropout=0.1).train(), padded()
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(places_of_layers(model, **batch)[1])
    torch.testing.assert_close(*states, atol=0, rtol=0)
    assert not torch.equal(states[0], places_of_layers(model.eval(), **batch)[1])
