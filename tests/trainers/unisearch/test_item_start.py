"""Token embeddings that the item encoder begins with: latent semantic analysis of the items' texts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from joint import joint_config, joint_trainer

from onesearch import RunFolder
from onesearch.serving.item_encoding import encode_items
from onesearch.tokenization_sid.embedding.latent_semantics import latent_semantic_vectors
from onesearch.tokenization_sid.ragged import Ragged
from onesearch.trainers.unisearch.building import build_parts


def parts_of(shared_run, **changes):
    torch.manual_seed(0)
    return build_parts(RunFolder(shared_run.root), joint_config(**changes))


def same_brand(parts):
    """Share of the five nearest items that have an item's own brand."""
    vectors = encode_items(parts.model.model, parts.examples.inputs).vectors.sum(1)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    brands = np.array(parts.market.items.data.column("brand").to_pylist())
    return (brands[np.argsort(-scores, axis=1)[:, :5]] == brands[:, None]).mean()


def test_items_with_like_texts_begin_near_each_other(shared_run):
    random, texts = (parts_of(shared_run, item_start=name) for name in ("random", "texts"))
    before, after = (
        parts.model.model.item_encoder.bert.embeddings.word_embeddings.weight.detach() for parts in (random, texts)
    )
    tokens = texts.examples.inputs.tokens
    used = np.zeros(len(after), dtype=bool)
    used[tokens.values] = True
    assert torch.equal(before[~used], after[~used]) and not torch.equal(before[used], after[used])
    vectors = latent_semantic_vectors(tokens, *after.shape, joint_config().examples.seed)
    scale = float(before.norm(dim=1).mean())
    assert after[used].numpy() == pytest.approx(vectors[used] * scale, abs=1e-6)
    others = {name: own for name, own in random.model.state_dict().items() if "item_encoder.bert.embeddings.word" not in name}
    assert all(torch.equal(own, texts.model.state_dict()[name]) for name, own in others.items())
    assert same_brand(texts) > same_brand(random)


def test_an_unknown_start_is_refused():
    with pytest.raises(ValueError, match="item_start='pretrained': allowed are random, texts"):
        joint_config(item_start="pretrained")


def test_vectors_of_equal_texts_are_finite():
    vectors = latent_semantic_vectors(Ragged.of([[1, 2], [1, 2], [1, 2]]), 5, 3, 0)
    assert vectors.shape == (5, 3) and np.isfinite(vectors).all() and vectors[1].any() and np.allclose(vectors[4], 0, atol=1e-5)


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_the_item_encoder_has_a_learning_rate_of_its_own(shared_run, tmp_path, rate):
    trainer = joint_trainer(shared_run.root, tmp_path, settings={"item_rate": rate}, max_steps=2)
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    groups = trainer.optimizer.param_groups
    items = {id(weight) for weight in trainer.model.model.item_encoder.parameters()}
    rates = {id(weight): group["initial_lr"] for group in groups for weight in group["params"]}
    assert len(rates) == sum(len(group["params"]) for group in groups) == len(before)
    assert {own for weight, own in rates.items() if weight not in items} == {1e-3}
    assert {own for weight, own in rates.items() if weight in items} == {rate * 1e-3}
    moved = {name for name, weight in trainer.model.named_parameters() if not torch.equal(weight, before[name])}
    assert any("decoder" in name or "encoder.layers" in name for name in moved)
    assert any("item_encoder" in name for name in moved) == (rate > 0)
