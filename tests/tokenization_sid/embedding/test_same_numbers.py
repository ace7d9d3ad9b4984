"""The same seed gives the same encoder on any number of threads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_limits

from onesearch.tokenization_sid.embedding.alignment import align
from onesearch.tokenization_sid.embedding.configs import AlignmentConfig, TextEncoderConfig
from onesearch.tokenization_sid.embedding.static_encoder import static_module
from onesearch.tokenization_sid.embedding.text_encoder import base_encoder, build_text_encoder
from onesearch.tokenization_sid.parallel.threads import fixed_threads

ENCODER = TextEncoderConfig(dimension=64, vocab_size=3000, epochs=1, batch_size=256)


def on_threads(count, work):
    """What `work` returns where torch and BLAS use so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            found = work()
            assert torch.get_num_threads() == count, "the number of threads is put back"
            return found
    finally:
        torch.set_num_threads(before)


def weights(encoder):
    return static_module(encoder).embedding.weight.detach().numpy().copy()


def aligned(market):
    encoder = base_encoder(market, ENCODER)
    return weights(align(market, encoder, AlignmentConfig(epochs=1, batch_size=256)).encoder)


@pytest.mark.parametrize(
    "make", [aligned, lambda market: weights(build_text_encoder(market, ENCODER))], ids=["aligned", "static"]
)
def test_an_encoder_does_not_depend_on_the_number_of_threads(market, make):
    one, two = (on_threads(count, lambda: make(market)) for count in (1, 2))
    assert np.array_equal(one, two) and np.isfinite(one).all()


def test_a_fixed_number_of_threads_is_that_of_the_block():
    def work():
        with fixed_threads(1):
            inside = torch.get_num_threads()
        with fixed_threads(None):
            return inside, torch.get_num_threads()

    assert on_threads(2, work) == (1, 2)
    assert on_threads(1, work) == (1, 1)
