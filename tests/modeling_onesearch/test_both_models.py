"""What holds for the encoder-decoder and the decoder-only model alike."""

from __future__ import annotations

import json

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
    tiny_index,
    with_places,
)

from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME

CODEBOOK_SIZES = (8, 4, 4)
CODES = random_codes(60, CODEBOOK_SIZES, seed=4)


@pytest.fixture(params=SID_MODELS)
def make(request):
    return SID_MODELS[request.param]


@pytest.fixture
def model(make):
    return make(CODEBOOK_SIZES, CODES)


# The loss


def test_four_micro_batches_give_the_gradient_of_one_batch(model):
    """Stock models divide each micro batch by its own count, and are four times off."""
    batch = sid_batch(model, CODES, 16)
    batch["labels"][:7, -1] = -100  # micro batches of unequal counts
    model.train()
    whole = model(**batch).loss
    whole.backward()
    expected = gradients(model)
    model.zero_grad()
    count = (batch["labels"] != -100).sum()
    total = 0.0
    for part in range(4):
        micro = {name: tensor[4 * part : 4 * part + 4] for name, tensor in batch.items()}
        loss = model(**micro, num_items_in_batch=count).loss
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(whole.item(), abs=1e-5)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-6, rtol=1e-4)


def test_a_batch_without_targets_has_no_loss_and_reaches_every_parameter(model):
    batch = sid_batch(model, CODES, 2)
    batch["labels"][:] = -100
    loss = model(**batch).loss
    loss.backward()
    assert loss.item() == 0
    used = gradients(model)
    assert set(used) == {name for name, _ in model.named_parameters()}
    assert all(gradient.count_nonzero() == 0 for gradient in used.values())


def test_labels_that_fit_no_position_are_refused(model):
    """Labels of another length were compared with the states of other rows."""
    batch = sid_batch(model, CODES, 2)
    short = {**batch, "labels": batch["labels"][:, :-1]}
    if model.config.is_encoder_decoder:
        short["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(batch["labels"])
    with pytest.raises(ValueError, match=r"targets \(2, \d+\) for states"):
        model(**short)
    for wrong in (model.config.vocab_size, -5):
        labels = batch["labels"].clone()
        labels[1, -1] = wrong
        more = {"decoder_input_ids": torch.full_like(labels, 2)} if model.config.is_encoder_decoder else {}
        with pytest.raises(ValueError, match=f"label {wrong} is no token: allowed are 0..55, and -100"):
            model(**{**batch, **more, "labels": labels})


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"input_ids": torch.tensor([0, 5, 2])}, ValueError, r"input_ids \(3,\) of torch.int64.*\(queries, length\)"),
        ({"input_ids": torch.zeros(2, 0, dtype=torch.long)}, ValueError, "at least one token"),
        ({"input_ids": torch.tensor([[0.0, 5.0]])}, ValueError, "float32.*whole numbers"),
        ({"input_ids": torch.tensor([[0, 56]])}, ValueError, r"lie in \[0, 56\], allowed are 0..55"),
        ({"input_ids": torch.tensor([[0, -1]])}, ValueError, r"lie in \[-1, 0\]"),
        ({"num_beams": 2.5}, TypeError, "num_beams=2.5 must be a whole number"),
        ({"num_beams": 0}, ValueError, "num_beams=0 must be at least 1"),
        ({"top_k": "5"}, TypeError, "top_k='5' must be a whole number"),
        ({"item_filter": "item-3"}, TypeError, "item_filter='item-3': expected a filter of SidIndex.filter"),
        ({"item_filter": {None}}, TypeError, "expected a filter of SidIndex.filter"),
        ({"items_per_sid": True}, TypeError, "items_per_sid=True must be a whole number"),
    ],
    ids=str,
)
def test_a_search_that_makes_no_sense_is_refused(model, changes, error, words):
    with pytest.raises(error, match=words):
        model.search(**{"input_ids": torch.tensor([[0, 5, 2]]), **changes})


def test_logits_are_left_out_while_training_only(model):
    batch = sid_batch(model, CODES, 2)
    assert model(**batch).logits.shape == (*batch["labels"].shape, model.config.vocab_size)
    whole = model(**batch)
    assert model(**batch, return_logits=False).logits is None
    assert model.train()(**batch).logits is None
    trained = model(**batch, return_logits=True)
    assert torch.equal(trained.logits, whole.logits) and torch.equal(trained.loss, whole.loss)


def test_a_tuple_holds_what_the_output_holds(model):
    batch = sid_batch(model, CODES, 2)
    whole = model(**batch).to_tuple()
    hits = model.search(batch["input_ids"], batch["attention_mask"], 5)
    outputs = model(**batch, return_dict=False)
    assert isinstance(outputs, tuple) and len(outputs) == len(whole)
    assert torch.equal(outputs[0], whole[0]) and torch.equal(outputs[1], whole[1])
    model.config.return_dict = False
    assert model.search(batch["input_ids"], batch["attention_mask"], 5) == hits
    if not model.config.is_encoder_decoder:  # BART of transformers fails under this configuration
        assert isinstance(model(**batch), tuple) and model(**batch, return_dict=True).loss == whole[0]


@pytest.mark.parametrize("long_view", [False, True])
def test_gradient_checkpointing_changes_nothing(make, long_view):
    model = make(CODEBOOK_SIZES, CODES, **(LONG_VIEW if long_view else {})).train()
    prompts = random_prompts(4, padding_side="right" if model.config.is_encoder_decoder else "left")
    batch = sid_batch(model, CODES, 4, prompts=with_places(*prompts) if long_view else prompts)
    if long_view:
        batch["long_view_codes"] = random_long_view(4, CODEBOOK_SIZES)
    loss = model(**batch).loss
    loss.backward()
    expected = gradients(model)
    model.zero_grad()
    model.activation_checkpointing_enable()
    again = model(**batch).loss
    again.backward()
    torch.testing.assert_close(again, loss)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected[name])


# Saving and loading


def test_a_seed_fixes_the_weights(make):
    first, second = make(seed=3), make(seed=3)
    assert all(torch.equal(one, two) for one, two in zip(first.state_dict().values(), second.state_dict().values()))


def test_the_backbone_loads_from_the_same_folder(model, tmp_path):
    model.save_pretrained(tmp_path)
    backbone, report = type(model.model).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    batch = sid_batch(model, CODES, 2)
    labels = batch.pop("labels")
    if model.config.is_encoder_decoder:
        batch["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(labels)
    assert torch.equal(backbone(**batch).last_hidden_state, model.model(**batch).last_hidden_state)


def test_an_index_of_other_codebooks_is_refused(model, tmp_path):
    with pytest.raises(ValueError, match=r"\[8, 4\].*\[8, 4, 4\]"):
        model.set_sid_index(tiny_index([[0, 1]], (8, 4)))
    with pytest.raises(ValueError, match="other-codebo.*fingerprint"):
        model.set_sid_index(tiny_index(CODES, CODEBOOK_SIZES, fingerprint="other-codebooks"))
    assert model.sid_index.fingerprint == "fingerprint"
    model.save_pretrained(tmp_path)
    tiny_index(CODES, CODEBOOK_SIZES, fingerprint="other-codebooks").save(tmp_path / SID_INDEX_NAME)
    with pytest.raises(ValueError, match="codebooks"):
        type(model).from_pretrained(tmp_path)


def test_tied_weights_that_came_apart_are_not_saved(model, tmp_path):
    """A checkpoint holds one of them, so it would load as another model."""
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.save_pretrained(tmp_path / "equal")
    with torch.no_grad():
        model.lm_head.weight[5] += 1
    for state_dict in (None, model.state_dict()):
        with pytest.raises(ValueError, match="lm_head.weight and .* are tied .* but differ"):
            model.save_pretrained(tmp_path / "apart", state_dict=state_dict)
    assert not (tmp_path / "apart").exists()


def test_a_merged_adapter_with_copies_of_tied_weights_is_not_saved(model, tmp_path):
    peft = pytest.importorskip("peft")
    embedding = "shared" if model.config.is_encoder_decoder else "embed_tokens"
    config = peft.LoraConfig(target_modules=["q_proj"], modules_to_save=[embedding, "lm_head"])
    wrapped = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lm_head.modules_to_save" in name:
                parameter += 1
    merged = wrapped.merge_and_unload()
    with pytest.raises(ValueError, match="are tied .* but differ.*trainable_token_indices"):
        merged.save_pretrained(tmp_path)


@pytest.mark.parametrize("layers", [1, 3])
def test_weights_of_other_layers_than_the_configuration_s_are_refused(make, tmp_path, layers):
    """Missing layers were drawn at random and surplus ones left out, with a line in the log."""
    model = make(CODEBOOK_SIZES, CODES, **DEPTH[make])
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    name = "decoder_layers" if model.config.is_encoder_decoder else "num_hidden_layers"
    kept = {key: value for key, value in json.loads(path.read_text()).items() if key != "layer_types"}
    path.write_text(json.dumps({**kept, name: layers}))
    words = "missing, 0 left over" if layers == 3 else "0 missing"
    with pytest.raises(ValueError, match=f"the weights of .* have .*layers.*{words}.*config.json"):
        type(model).from_pretrained(tmp_path)
    loaded, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert report["missing_keys"] if layers == 3 else report["unexpected_keys"]
    assert loaded.sid_index is not None


DEPTH = {SID_MODELS["encoder-decoder"]: {"decoder_layers": 2}, SID_MODELS["decoder-only"]: {"num_hidden_layers": 2}}
