"""transformers' own tests of models and tokenizers, loaded from its released source, with the models that they run on.

The source distribution holds ``tests/test_*.py`` and nothing below them: the tests of `generate` (``tests/generation``), of exports
(``tests/exporters``) and the fixtures are missing, so that empty classes stand in for the first two.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import unittest
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

PACKAGE = "transformers_source_tests"

LEFT_OUT = ("test_generation_tester_mixin_inheritance",)
"""Tests that ask for what the source distribution lacks."""

SAMPLE = "This is the first sentence.\nThis is the second one, with red shoes (size 42).\n生活的真谛是\n"
"""In place of the fixture ``sample_text.txt``."""


def upstream(source: str, name: str) -> ModuleType:
    """A module of transformers' tests, for example ``test_modeling_common``."""
    if PACKAGE not in sys.modules:
        package = ModuleType(PACKAGE)
        package.__path__ = [str(Path(source) / "tests")]
        sys.modules[PACKAGE] = package
        for folder, module, stand_in in (
            ("exporters", "test_export", "ExportTesterMixin"),
            ("generation", "test_utils", "GenerationTesterMixin"),
        ):
            for path in (f"{PACKAGE}.{folder}", f"{PACKAGE}.{folder}.{module}"):
                sys.modules[path] = ModuleType(path)
                sys.modules[path].__path__ = []
            setattr(sys.modules[f"{PACKAGE}.{folder}.{module}"], stand_in, type(stand_in, (), {}))
    return importlib.import_module(f"{PACKAGE}.{name}")


def run_suite(case: type[unittest.TestCase]) -> tuple[dict[str, str], int]:
    """Name of each test that failed → the end of its message, and the number of tests that passed."""
    names = [name for name in unittest.TestLoader().getTestCaseNames(case) if name not in LEFT_OUT]
    result = unittest.TestResult()
    unittest.TestSuite(map(case, names)).run(result)
    failed: dict[str, str] = {}
    for test, message in [*result.failures, *result.errors]:
        name = (
            getattr(test, "test_case", test)._testMethodName
            if hasattr(test, "_testMethodName") or hasattr(test, "test_case")
            else str(test)
        )
        failed[name] = message.strip()[-1500:]
    return failed, result.testsRun - len(failed) - len(result.skipped)


class ModelTester:
    """Makes tiny configurations and inputs, as the tests of each model of transformers do.

    Args:
        config_class: configuration of the models.
        fields: its fields.
    """

    batch_size, seq_length, is_training = 3, 7, True
    encoder_seq_length = decoder_seq_length = key_length = 7
    hidden_size, num_attention_heads, num_hidden_layers, vocab_size = 16, 2, 2, 60

    def __init__(self, config_class: type, fields: dict[str, Any]) -> None:
        self.config_class = config_class
        self.fields = fields

    def get_config(self) -> Any:
        return self.config_class(**self.fields)

    def prepare_config_and_inputs_for_common(self) -> tuple[Any, dict[str, Any]]:
        import torch

        config = self.get_config()
        ids = torch.randint(4, self.vocab_size, (self.batch_size, self.seq_length))
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if config.is_encoder_decoder:
            inputs |= {
                "decoder_input_ids": torch.randint(4, self.vocab_size, ids.shape),
                "decoder_attention_mask": torch.ones_like(ids),
            }
        return config, inputs


SEQ2SEQ = {
    "vocab_size": 60,
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "max_position_embeddings": 20,
    "dropout": 0.1,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
CAUSAL = {
    "vocab_size": 60,
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
SIDS = {"sid_codebook_sizes": [8, 4, 4], "sid_offset": 44}
LONG_VIEW = {"long_view_tokens": 3, "long_view_token_id": 3, "long_view_dim": 6}


def model_case(source: str, tester: ModelTester, classes: tuple[type, ...], **attributes: Any) -> type[unittest.TestCase]:
    """The test case of models of one configuration.

    Args:
        source: folder of transformers' source.
        tester: makes their configuration and inputs.
        classes: the models.
        attributes: attributes of the case, such as `has_attentions`.
    """
    common = upstream(source, "test_modeling_common")
    members = {
        "all_model_classes": classes,
        "model_tester": tester,
        "is_encoder_decoder": bool(getattr(tester.get_config(), "is_encoder_decoder", False)),
        **attributes,
    }
    return type(f"{classes[0].__name__}Test", (common.ModelTesterMixin, unittest.TestCase), members)


def tokenizer_case(source: str, tokenizer: Any, folder: str) -> type[unittest.TestCase]:
    """The test case of a tokenizer.

    Args:
        source: folder of transformers' source.
        tokenizer: the tokenizer.
        folder: folder that it is saved in.
    """
    common = upstream(source, "test_tokenization_common")
    tokenizer.save_pretrained(folder)

    def set_up(cls: Any) -> None:
        cls.from_pretrained_id = [folder]
        cls.tokenizers_list = [(cls.tokenizer_class, folder, {})]
        cls._data = SAMPLE
        cls.tmpdirname = tempfile.mkdtemp()
        tokenizer.save_pretrained(cls.tmpdirname)

    members = {"tokenizer_class": type(tokenizer), "rust_tokenizer_class": type(tokenizer), "setUpClass": classmethod(set_up)}
    return type("TokenizerTest", (common.TokenizerTesterMixin, unittest.TestCase), members)


def reward_tester() -> SimpleNamespace:
    """Makes the configuration and inputs of the reward model."""
    import torch

    from onesearch import OneSearchRewardConfig

    def get_config() -> OneSearchRewardConfig:
        return OneSearchRewardConfig(
            hidden_size=16,
            attention_heads=2,
            tower_size=16,
            vector_size=8,
            codebook_sizes=[8, 4],
            num_facets=6,
            num_ids=5,
            features=["a", "b"],
        )

    def inputs() -> tuple[Any, dict[str, Any]]:
        config, items, requests, events = get_config(), 9, 3, 4
        random = {
            "candidates": torch.randint(0, items, (requests, 5)),
            "features": torch.randn(requests, 5, len(config.features)),
            "query_vectors": torch.randn(requests, 8),
            "history": torch.randint(0, items, (requests, events)),
            "kinds": torch.zeros(requests, events, dtype=torch.long),
            "gaps": torch.zeros(requests, events, dtype=torch.long),
            "item_groups": torch.randint(0, 3, (items, 2)),
            "item_codes": torch.randint(0, 4, (items, 2)),
            "item_vectors": torch.randn(items, 8),
            "item_facets": torch.randint(0, 6, (items,)),
            "item_facet_offsets": torch.arange(items),
            "item_ids": torch.randint(0, 5, (items,)),
        }
        return config, random

    return SimpleNamespace(
        get_config=get_config, prepare_config_and_inputs_for_common=inputs, batch_size=3, seq_length=5, is_training=False,
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
    )  # fmt: skip
