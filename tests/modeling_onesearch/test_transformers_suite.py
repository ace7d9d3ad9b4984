"""transformers' own tests run on our models: nothing fails that does not fail for stock BART or Qwen3 as well.

`make transformers-suite` fetches the source of the installed release and runs them; without it they are skipped.
"""

from __future__ import annotations

import importlib.util
import os

import pytest
from transformers_suite import (
    CAUSAL,
    LONG_VIEW,
    SEQ2SEQ,
    SIDS,
    ModelTester,
    model_case,
    reward_tester,
    run_suite,
    tokenizer_case,
)

SOURCE = os.environ.get("TRANSFORMERS_SOURCE", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not SOURCE, reason="TRANSFORMERS_SOURCE names no unpacked source of transformers: make transformers-suite"
    ),
    pytest.mark.skipif(importlib.util.find_spec("parameterized") is None, reason="transformers' tests need parameterized"),
]

LEAST_PASSED = 30
"""Tests of a model that must have passed, so that a suite that skips everything does not count."""


DIFFERS = {
    "test_can_set_attention_dynamically": "`sdpa` becomes `onesearch_sdpa`: the same, and takes batches without their padding",
    "test_sdpa_can_dispatch_non_composite_models": "as above",
    "test_encoder_decoder_loss_no_double_shift": "the loss is taken over the slice of a level, from the states and not from the logits",
    "test_model_outputs_equivalence": "it subtracts the entries of the outputs, and `target_scores` hold a mask",
    "test_resize_tokens_embeddings": "it makes a vocabulary of four tokens, which holds no Semantic IDs",
}
"""Tests that fail for our models on purpose, and why."""


DRAWN = "copies of long_view_token_id"
"""Words of the refusal of a prompt with a wrong number of places: some tests draw tokens from the whole vocabulary, the placeholder too."""


def new_failures(ours, stock):
    """Failures of our models that the stock ones do not have, with their messages."""
    new = {name: message for name, message in ours.items() if name not in {**stock, **DIFFERS} and DRAWN not in message}
    return "\n\n".join(f"{name}\n{message}" for name, message in new.items())


@pytest.fixture(scope="module", autouse=True)
def known_to_transformers():
    """transformers' tests make labels for models whose class they find in the tables of the Auto classes."""
    from transformers.models.auto import modeling_auto

    import onesearch  # noqa: F401

    names = {
        "MODEL_MAPPING_NAMES": {"onesearch": "OneSearchModel", "onesearch_qwen3": "OneSearchQwen3Model"},
        "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES": {"onesearch_qwen3": "OneSearchForCausalLM"},
        "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES": {"onesearch": "OneSearchForConditionalGeneration"},
    }
    for table, own in names.items():
        getattr(modeling_auto, table).update(own)
    yield
    for table, own in names.items():
        for name in own:
            del getattr(modeling_auto, table)[name]


@pytest.mark.parametrize("extra", [{}, LONG_VIEW], ids=["plain", "long view"])
def test_the_encoder_decoder_fails_nothing_that_bart_passes(extra):
    from transformers import BartConfig, BartForConditionalGeneration, BartModel

    from onesearch import OneSearchConfig, OneSearchForConditionalGeneration, OneSearchModel

    stock, _ = run_suite(model_case(SOURCE, ModelTester(BartConfig, SEQ2SEQ), (BartModel, BartForConditionalGeneration)))
    tester = ModelTester(OneSearchConfig, {**SEQ2SEQ, **SIDS, **extra})
    ours, passed = run_suite(model_case(SOURCE, tester, (OneSearchModel, OneSearchForConditionalGeneration)))
    assert not new_failures(ours, stock) and passed >= LEAST_PASSED


@pytest.mark.parametrize("extra", [{}, LONG_VIEW], ids=["plain", "long view"])
def test_the_decoder_fails_nothing_that_qwen3_passes(extra):
    from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3Model

    from onesearch import OneSearchForCausalLM, OneSearchQwen3Config, OneSearchQwen3Model

    stock, _ = run_suite(model_case(SOURCE, ModelTester(Qwen3Config, CAUSAL), (Qwen3Model, Qwen3ForCausalLM)))
    tester = ModelTester(OneSearchQwen3Config, {**CAUSAL, **SIDS, **extra})
    ours, passed = run_suite(model_case(SOURCE, tester, (OneSearchQwen3Model, OneSearchForCausalLM)))
    assert not new_failures(ours, stock) and passed >= LEAST_PASSED


def test_the_tokenizer_fails_nothing_that_its_base_class_passes(tmp_path):
    from transformers import PreTrainedTokenizerFast

    from onesearch import SidTokenizer

    texts = ["this is the first sentence", "red shoes of size 42"]
    own = SidTokenizer.train(texts, [8, 4, 4], 600)
    names = {name: str(getattr(own, name)) for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    base = PreTrainedTokenizerFast(tokenizer_object=own.backend_tokenizer, **names)
    stock, _ = run_suite(tokenizer_case(SOURCE, base, str(tmp_path / "base")))
    ours, passed = run_suite(tokenizer_case(SOURCE, own, str(tmp_path / "own")))
    assert not new_failures(ours, stock) and passed >= LEAST_PASSED


REWARD_DIFFERS = {
    **dict.fromkeys(
        (
            "test_model_outputs_equivalence",
            "test_hidden_states_output",
            "test_retain_grad_hidden_states_attentions",
            "test_feed_forward_chunking",
        ),
        "its outputs hold no hidden states",
    ),
    "test_model_get_set_embeddings": "it has no embedding of tokens",
    "test_batching_equivalence": "it cuts the table of items to one row, which the requests refer to",
}
"""Tests that do not apply to the reward model, which reads no tokens and has no transformer layers, and why."""


def test_the_reward_model_passes_what_applies_to_it():
    from onesearch import OneSearchRewardModel

    ours, passed = run_suite(
        model_case(SOURCE, reward_tester(), (OneSearchRewardModel,), has_attentions=False, test_resize_embeddings=False)
    )
    assert not new_failures(ours, REWARD_DIFFERS) and passed >= LEAST_PASSED
