"""Codebooks that start from the catalogue's vectors and follow them when they move."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from joint import joint_trainer
from tiny import tiny_unisearch

from onesearch.trainers.unisearch.catalogue import Catalogue
from onesearch.trainers.unisearch.unisearch_config import UniSearchTrainingConfig

SEED = [0, 1]


def started(items=120, refit=3):
    """A catalogue of clustered vectors whose codebooks have started from them: catalogue, model, vectors and codes."""
    model = tiny_unisearch(codebook_sizes=(8, 8, 8)).model
    generator = torch.Generator().manual_seed(3)
    centres = torch.randn(12, 1, 16, generator=generator)
    noise = torch.randn(12, items // 12, 16, generator=generator)
    vectors = (centres + 0.4 * noise).reshape(items, 1, 16).repeat(1, 3, 1)
    catalogue = Catalogue(SimpleNamespace(), UniSearchTrainingConfig(refit=refit), make_index=None)
    return catalogue, model, vectors, catalogue.start_codebooks(model, vectors, SEED)


def rotation(seed):
    return torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(seed)))[0]


def test_codebooks_start_as_residual_k_means():
    _, model, vectors, codes = started()
    whole = torch.nn.functional.normalize(vectors.sum(1), dim=-1)
    left = whole.clone()
    for level, book in enumerate(model.quantizer.level_vectors()):
        assert len(np.unique(codes[:, level])) == 8
        for code in range(8):  # each code vector is the mean of the rests of its items
            torch.testing.assert_close(book[code], left[codes[:, level] == code].mean(0), atol=2e-2, rtol=0)
        left = left - book[codes[:, level]]
    assert left.square().sum(1).mean() < 0.15  # of squared lengths of 1
    assert len(np.unique(codes, axis=0)) > 70


def test_codes_keep_their_numbers_where_all_vectors_turn_together():
    """A rotation changes no distance between items, so nothing but the code vectors should change."""
    catalogue, model, vectors, codes = started()
    turned = vectors @ rotation(5)
    lost = model.quantizer(turned).codes.numpy()
    assert (lost != codes).any(1).mean() > 0.9
    found = catalogue.refit_codebooks(model, turned, codes, SEED)
    assert (found == codes).all(1).mean() > 0.9 and (found[:, 0] == codes[:, 0]).all()
    assert np.array_equal(found, model.quantizer(turned).codes.numpy())


def test_a_code_that_no_item_has_gets_items_again():
    catalogue, model, vectors, codes = started()
    codes[codes[:, 1] == 3, 1] = 4
    found = catalogue.refit_codebooks(model, vectors, codes, SEED)
    assert 3 in found[:, 1] and len(np.unique(found, axis=0)) > 70


def test_the_joint_phase_keeps_all_codes_in_use(shared_run, tmp_path):
    """With codebooks that follow; by the gradient alone some of 8 codes per level are left within a few large steps."""
    shares = []
    for refit in (3, 0):
        settings = {"warm_up": 0.0, "refit": refit, "refresh_steps": 4}
        trainer = joint_trainer(shared_run.root, tmp_path / str(refit), settings=settings, max_steps=12, learning_rate=0.01)
        trainer.train()
        shares.append([trainer.sids.history[-1][f"utilisation_{level}"] for level in range(3)])
    assert min(shares[0]) == 1 and min(shares[1]) < 1


def test_no_level_is_named_as_collapsed_before_the_codebooks_start(shared_run, tmp_path, caplog):
    settings = {"codebook_start": "random", "refit": 0, "warm_up": 1.0, "collapse": 1.0}
    with caplog.at_level(logging.WARNING):
        joint_trainer(shared_run.root, tmp_path, settings=settings, max_steps=4).train()
    assert "has collapsed" not in caplog.text


def test_two_stages_are_k_means_of_the_sum():
    with pytest.raises(ValueError, match="RQ-KMeans"):
        UniSearchTrainingConfig(two_stage=True, freeze=0.5, level_input="own")
