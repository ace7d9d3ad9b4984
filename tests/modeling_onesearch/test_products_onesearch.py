"""Linear layers by oneDNN: the values and gradients of torch's own, on processors where they are asked for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from onesearch.modeling_onesearch import products_onesearch
from onesearch.modeling_onesearch.products_onesearch import linear, onednn_is_faster
from onesearch.trainers.linear_layers import fast_linear_layers

ROWS, INPUTS, OUTPUTS = 300, 96, 128
LARGE = ROWS * INPUTS * OUTPUTS


@pytest.fixture
def onednn(monkeypatch):
    """A processor on which oneDNN is faster, and the list of the products that it makes."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("torch was built without oneDNN")
    made = []
    multiply = products_onesearch._multiply
    monkeypatch.setattr(products_onesearch, "onednn_is_faster", lambda: True)
    monkeypatch.setattr("onesearch.trainers.linear_layers.onednn_is_faster", lambda: True)
    monkeypatch.setattr(products_onesearch, "_multiply", lambda *args: made.append(args[0].shape) or multiply(*args))
    return made


def a_layer(bias=True, rows=(ROWS,)):
    random = torch.Generator().manual_seed(0)
    layer = nn.Linear(INPUTS, OUTPUTS, bias=bias)
    states = torch.randn(*rows, INPUTS, generator=random)
    return layer, states, torch.randn(*rows, OUTPUTS, generator=random)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [(ROWS,), (3, 100), (1, 1, ROWS)])
def test_values_and_gradients_are_those_of_torch(onednn, rows, bias):
    layer, states, weights = a_layer(bias, rows)
    parameters = (layer.weight, *([layer.bias] if bias else []))
    results = []
    for multiply in (F.linear, linear):
        given = states.clone().requires_grad_()
        found = multiply(given, layer.weight, layer.bias)
        results.append((found, *torch.autograd.grad((found * weights).sum(), (given, *parameters))))
    assert len(onednn) == 3
    for expected, found in zip(*results):
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-5)


def test_only_gradients_that_are_needed_are_made(onednn):
    layer, states, _ = a_layer()
    layer.requires_grad_(False)
    given = states.requires_grad_()
    linear(given, layer.weight, layer.bias).sum().backward()
    assert len(onednn) == 2 and given.grad is not None and layer.weight.grad is None


@pytest.mark.parametrize(
    ("rows", "dtype"),
    [(ROWS // 20, torch.float32), (ROWS, torch.float64), (ROWS, torch.bfloat16)],
    ids=["small", "f64", "bf16"],
)
def test_other_products_stay_with_torch(onednn, rows, dtype):
    states, weight = torch.randn(rows, INPUTS, dtype=dtype), torch.randn(OUTPUTS, INPUTS, dtype=dtype)
    assert rows == ROWS or rows * INPUTS * OUTPUTS < products_onesearch.LEAST_OPERATIONS <= LARGE
    assert torch.equal(linear(states, weight), F.linear(states, weight))
    assert not onednn


def test_autocast_and_compilation_stay_with_torch(onednn):
    layer, states, _ = a_layer()
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(states, layer.weight, layer.bias).dtype == torch.bfloat16
    compiled = torch.compile(linear, backend="eager", fullgraph=True)
    assert torch.equal(compiled(states, layer.weight, layer.bias), layer(states))
    traced = torch.jit.trace(linear, (states, layer.weight.detach()), check_trace=False)
    assert traced(states[:2], layer.weight.detach()).shape == (2, OUTPUTS)
    assert not onednn


def test_linear_layers_are_fast_within_the_context_alone(onednn):
    layer, states, _ = a_layer()
    forward = nn.Linear.forward
    with fast_linear_layers(), fast_linear_layers():
        inside = layer(states)
    assert len(onednn) == 1 and nn.Linear.forward is forward
    torch.testing.assert_close(inside, layer(states), atol=1e-5, rtol=1e-5)
    assert len(onednn) == 1


def test_an_error_within_the_context_ends_it(onednn):
    forward = nn.Linear.forward
    with pytest.raises(KeyError), fast_linear_layers():
        raise KeyError("stop")
    assert nn.Linear.forward is forward


@pytest.mark.parametrize(
    ("make", "capability", "expected"),
    [
        ("AuthenticAMD", "AVX512", True),
        ("GenuineIntel", "AVX512", False),
        ("AuthenticAMD", "AVX2", False),
        ("", "DEFAULT", False),
    ],
)
def test_the_processor_decides(monkeypatch, make, capability, expected):
    monkeypatch.setattr(products_onesearch, "processor_make", lambda: f"vendor_id : {make}")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    onednn_is_faster.cache_clear()
    try:
        assert onednn_is_faster() is expected
    finally:
        onednn_is_faster.cache_clear()
