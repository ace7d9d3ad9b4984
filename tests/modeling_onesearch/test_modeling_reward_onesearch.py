"""The reward model: padding changes nothing, each part of the input arrives, the two attentions read the events they should."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from transformers import AutoConfig, AutoModel, dynamic_module_utils
from transformers.dynamic_module_utils import get_class_from_dynamic_module

import onesearch
from onesearch.modeling_onesearch.configuration_reward_onesearch import OneSearchRewardConfig
from onesearch.modeling_onesearch.modeling_reward_onesearch import IGNORED, OneSearchRewardModel

FEATURES = ("one", "two")
ITEMS = 12


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = OneSearchRewardConfig(
        vector_size=6,
        codebook_sizes=[4, 3],
        num_facets=9,
        num_ids=5,
        features=FEATURES,
        hidden_size=8,
        attention_heads=2,
        recent=2,
    )
    return OneSearchRewardModel(config).eval()


@pytest.fixture
def inputs():
    torch.manual_seed(1)
    return {
        "candidates": torch.tensor([[0, 1, 2], [3, 4, -1]]),
        "features": torch.randn(2, 3, 2),
        "query_vectors": torch.randn(2, 6),
        "history": torch.tensor([[5, 6, 7, 8], [9, 10, -1, -1]]),
        "kinds": torch.tensor([[0, 1, 2, 0], [1, 1, 0, 0]]),
        "gaps": torch.tensor([[9, 5, 3, 1], [4, 2, 0, 0]]),
        "item_vectors": torch.randn(ITEMS, 6),
        "item_codes": torch.stack([torch.arange(ITEMS) % 4, torch.arange(ITEMS) % 3], dim=1),
        "item_facets": torch.arange(2 * ITEMS) % 9,
        "item_facet_offsets": torch.arange(0, 2 * ITEMS, 2),
        "item_ids": torch.arange(ITEMS) % 6,
        "item_groups": torch.stack([torch.tensor([0, 1, 1, 0, 2, 0, 1, 1, 2, 2, 0, 1]), torch.arange(ITEMS) % 4], dim=1),
    }


def logits(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


def test_a_request_alone_scores_as_in_a_batch_with_padding(model, inputs):
    together = logits(model, inputs)
    assert together.shape == (2, 3, 3)
    alone = dict(inputs)
    for name in ("candidates", "features", "query_vectors", "history", "kinds", "gaps"):
        alone[name] = inputs[name][1:]
    alone |= {"candidates": alone["candidates"][:, :2], "features": alone["features"][:, :2]}
    for name in ("history", "kinds", "gaps"):
        alone[name] = alone[name][:, :2]
    torch.testing.assert_close(logits(model, alone)[0], together[1, :2])


def test_states_of_items_can_be_computed_before(model, inputs):
    parts = [inputs[f"item_{name}"] for name in ("vectors", "codes", "facets", "facet_offsets", "ids")]
    with torch.no_grad():
        states = model.items(*parts)
    kept = {name: value for name, value in inputs.items() if name == "item_groups" or not name.startswith("item_")}
    torch.testing.assert_close(logits(model, {**kept, "item_states": states}), logits(model, inputs))


@pytest.mark.parametrize(
    "name",
    [
        "features",
        "query_vectors",
        "history",
        "kinds",
        "gaps",
        "item_vectors",
        "item_codes",
        "item_facets",
        "item_ids",
        "item_groups",
    ],
)
def test_every_input_reaches_the_scores(model, inputs, name):
    changed = {**inputs, name: inputs[name].flip(0)}
    assert not torch.allclose(logits(model, changed), logits(model, inputs))


def test_the_general_search_keeps_events_of_the_candidates_category_or_first_code(model, inputs):
    # One event that is not among the two latest ones: it counts for a candidate that shares its category or its first code.
    first = logits(model, inputs)[0]
    moved = dict(inputs, kinds=inputs["kinds"].clone())
    moved["kinds"][0, 0] = 2
    changed = (logits(model, moved)[0] - first).abs().sum(-1) > 1e-6
    event = inputs["history"][0, 0]
    own = [bool((inputs["item_groups"][item] == inputs["item_groups"][event]).any()) for item in inputs["candidates"][0]]
    assert changed.tolist() == own and any(own) and not all(own)


def test_without_a_history_the_attentions_say_nothing(model, inputs):
    empty = dict(
        inputs,
        history=torch.full((2, 1), -1),
        kinds=torch.zeros(2, 1, dtype=torch.long),
        gaps=torch.zeros(2, 1, dtype=torch.long),
    )
    other = dict(empty, kinds=torch.ones(2, 1, dtype=torch.long))
    found = logits(model, empty)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, logits(model, other))


def test_ignored_labels_have_no_gradient(model, inputs):
    labels = torch.zeros(2, 3, 3)
    labels[:, :, 0] = IGNORED
    model.zero_grad()
    model(**inputs, labels=labels).loss.backward()
    for layer in (model.towers.hidden, model.towers.out, model.towers.wide):
        click, purchase, _ = layer.weight.grad.chunk(3)
        assert not click.any() and purchase.any()


def test_stacked_layers_start_like_layers_of_their_own_size():
    torch.manual_seed(0)
    stacked = OneSearchRewardModel(OneSearchRewardConfig(hidden_size=64, attention_heads=1, features=FEATURES)).history.query
    for part in stacked.weight.chunk(2):  # uniform up to √(6 / (64 + 64)), not √(6 / (64 + 128))
        assert 0.21 < part.abs().max() < (6 / 128) ** 0.5 + 1e-6


def test_what_is_saved_is_loaded(model, inputs, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = OneSearchRewardModel.from_pretrained(tmp_path).eval()
    assert tuple(loaded.config.features) == FEATURES
    torch.testing.assert_close(logits(loaded, inputs), logits(model, inputs))


def test_the_auto_classes_give_the_reward_model(model, inputs, tmp_path):
    model.save_pretrained(tmp_path)
    assert type(AutoConfig.from_pretrained(tmp_path)) is onesearch.OneSearchRewardConfig
    loaded = AutoModel.from_pretrained(tmp_path).eval()
    assert type(loaded) is onesearch.OneSearchRewardModel
    torch.testing.assert_close(logits(loaded, inputs), logits(model, inputs))


def test_the_saved_code_is_all_that_remote_code_needs(model, inputs, tmp_path, monkeypatch):
    """The class is made from the files in the folder alone, as `trust_remote_code` does on a machine without the package."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", sys.path.copy())
    folder = tmp_path / "reward"
    model.save_pretrained(folder)
    names = json.loads((folder / "config.json").read_text())["auto_map"]
    assert names == {
        "AutoConfig": "configuration_reward_onesearch.OneSearchRewardConfig",
        "AutoModel": "modeling_reward_onesearch.OneSearchRewardModel",
    }
    saved = get_class_from_dynamic_module(names["AutoModel"], folder)
    assert saved.__module__.startswith("transformers_modules.") and saved.config_class is not OneSearchRewardConfig
    torch.testing.assert_close(logits(saved.from_pretrained(folder).eval(), inputs), logits(model, inputs))


@pytest.mark.parametrize("changes", [{"hidden_size": 9}, {"vector_size": 0}, {"tower_size": 2**21}])
def test_sizes_that_do_not_fit_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        OneSearchRewardConfig(**changes)
