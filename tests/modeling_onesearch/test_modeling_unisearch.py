"""UniSearch: one model that encodes items, quantises them and searches; the search is OneSearch's."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from tiny import gradients, random_codes, random_items, random_prompts, sid_batch, tiny_unisearch
from transformers import AutoModel, AutoModelForSeq2SeqLM

from onesearch import UniSearchForConditionalGeneration, UniSearchModel

SIZES = (8, 4, 4)


@pytest.fixture(scope="module")
def codes():
    return random_codes(20, SIZES)


def test_it_searches_filters_and_updates_as_onesearch_does(codes):
    model = tiny_unisearch(codes=codes)
    prompts = random_prompts(3)
    hits = model.search(*prompts, num_beams=10, top_k=5)
    found = [hit.item_id for row in hits for hit in row]
    assert len(found) == 15 and set(found) <= {f"item-{row}" for row in range(20)}
    only = model.search(*prompts, num_beams=10, item_filter=model.sid_index.filter(items=["item-3", "item-9"]))
    assert all({hit.item_id for hit in row} == {"item-3", "item-9"} for row in only)
    new = model.item_codes(**random_items(2)).numpy()
    model.sid_index.add_items(["new-0", "new-1"], new)
    added = model.search(*prompts, item_filter=model.sid_index.filter(items=["new-0"]))
    assert all(row[0].item_id == "new-0" and row[0].sid == tuple(new[0]) for row in added)


def test_generate_with_the_trie_finds_the_same_sids_as_search(codes):
    model = tiny_unisearch(codes=codes)
    input_ids, mask = random_prompts(2)
    sids, _ = model.search_sids(input_ids, mask, num_beams=4)
    generated = model.generate(
        input_ids, attention_mask=mask, num_beams=4, num_return_sequences=4, logits_processor=[model.logits_processor()]
    )
    starts = torch.tensor([model.config.sid_slice(level)[0] for level in range(3)])
    assert torch.equal(generated[:, 1:4].view(2, 4, 3) - starts, sids)


def test_a_checkpoint_loads_by_every_way_and_finds_the_same(codes, tmp_path):
    model = tiny_unisearch(codes=codes)
    prompts, items = random_prompts(2), random_items(4)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    assert type(loaded) is UniSearchForConditionalGeneration
    assert loaded.search(*prompts) == model.search(*prompts)
    assert torch.equal(loaded.item_codes(**items), model.item_codes(**items))
    backbone = AutoModel.from_pretrained(tmp_path)
    assert type(backbone) is UniSearchModel
    assert torch.equal(backbone.item_encoder(**items), model.model.item_encoder(**items))


@pytest.mark.slow
def test_the_code_beside_the_weights_runs_without_the_package(codes, tmp_path):
    tiny_unisearch(codes=codes).save_pretrained(tmp_path)
    code = (
        "from transformers import AutoModelForSeq2SeqLM\n"
        f"model = AutoModelForSeq2SeqLM.from_pretrained({str(tmp_path)!r}, trust_remote_code=True)\n"
        "print(type(model).__module__.split('.')[0], len(model.sid_index))"
    )
    finished = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert finished.stdout.split() == ["transformers_modules", "20"], finished.stderr[-2000:]


def test_item_vectors_depend_on_neither_padding_nor_other_items():
    encoder = tiny_unisearch().model.item_encoder
    items = random_items(5)
    together = encoder(**items)
    for row in range(5):
        length = int(items["attention_mask"][row].sum())
        alone = {name: values[row : row + 1] for name, values in items.items()}
        alone |= {name: alone[name][:, :length] for name in ("input_ids", "attention_mask")}
        torch.testing.assert_close(encoder(**alone)[0], together[row], atol=1e-5, rtol=0)


def test_a_missing_modality_is_masked_and_a_given_one_is_read():
    encoder = tiny_unisearch().model.item_encoder
    items = random_items(4)
    without = encoder(**{**items, "features": None})
    full = encoder(**items)
    assert torch.equal(without[0], full[0])  # item 0 has none
    assert not torch.allclose(without[2], full[2], atol=1e-3)
    changed = {**items, "features": items["features"].clone()}
    changed["features"][2] += 1
    assert not torch.allclose(encoder(**changed)[2], full[2], atol=1e-3)


def test_a_causal_encoder_does_not_look_ahead():
    """With `item_causal` the first learnable token does not see the second; in BERT's own attention it does."""
    for causal in (True, False):
        encoder = tiny_unisearch(item_causal=causal).model.item_encoder
        items = random_items(3)
        before = encoder(**items)
        with torch.no_grad():
            encoder.learned[1] += torch.randn(16)
        after = encoder(**items)
        assert torch.allclose(before[:, 0], after[:, 0], atol=1e-6) == causal
        assert not torch.allclose(before[:, 1], after[:, 1], atol=1e-3)


@pytest.mark.parametrize("bound", ["sphere", "ball"])
def test_vectors_are_bounded(bound):
    model = tiny_unisearch(vector_bound=bound)
    input_ids, mask = random_prompts(3)
    found = model(input_ids, mask, decoder_input_ids=torch.tensor([[2]] * 3), items=random_items(3))
    for vectors in (found.query_vectors, found.item_vectors):
        lengths = vectors.norm(dim=-1)
        assert (lengths <= 1 + 1e-5).all() and (bound == "ball" or torch.allclose(lengths, torch.ones_like(lengths)))


def test_the_query_vector_is_read_at_the_first_token_on_either_side_of_the_padding():
    model = tiny_unisearch()
    states = torch.randn(2, 4, 16)
    right = model.model.query_vectors(states, torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]))
    left = model.model.query_vectors(states, torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]]))
    assert torch.equal(right[1], left[1]) and not torch.allclose(right[0], left[0])
    assert torch.equal(right, model.model.query_vectors(states))


def test_the_token_loss_reaches_the_item_encoder_only_through_soft_targets(codes):
    """Trap 26: both settings have one loss, and the gradient of one of them reaches the items."""
    model = tiny_unisearch(codes=codes)
    batch, items = sid_batch(model, codes, 4), random_items(4)
    losses, reached = [], []
    for soft_targets in (0.0, 0.5):
        model.zero_grad()
        found = model(**batch, items=items, soft_targets=soft_targets)
        found.loss.backward()
        losses.append(found.loss.detach())
        reached.append(sum(float(part.abs().sum()) for name, part in gradients(model).items() if "item_encoder" in name))
    torch.testing.assert_close(losses[0], losses[1])
    assert reached[0] == 0 and reached[1] > 0
    with pytest.raises(ValueError, match="items"):
        model(**batch, soft_targets=0.5)


def test_the_configuration_names_what_is_wrong():
    for changes, word in (
        ({"sid_quantizer": "pq"}, "sid_quantizer"),
        ({"item_features": -1}, "item_features"),
        ({"item_statistics": ["price", "price"]}, "twice"),
        ({"item_attention_heads": 3}, "item_attention_heads"),
        ({"vector_bound": "none"}, "vector_bound"),
    ):
        with pytest.raises(ValueError, match=word):
            tiny_unisearch(**changes)
