"""Shared parts of all tests: an offline environment, one tiny market and one finished tiny run."""

from __future__ import annotations

import os

os.environ.update(
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_DATASETS_DISABLE_PROGRESS_BARS="1",
    TOKENIZERS_PARALLELISM="false",
    TQDM_DISABLE="1",
)
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import gc
import shutil

import pytest
from hypothesis import HealthCheck, settings

from onesearch.files import RunFolder

# A shared machine may stall for seconds: time is no failure, and the same examples are drawn everywhere.
settings.register_profile("suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")


def pytest_configure(config):
    """Markers of transformers' own tests, which `transformers_suite` loads."""
    for name in ("accelerate_tests", "flash_attn_test", "flash_attn_3_test", "flash_attn_4_test", "torch_compile_test"):
        config.addinivalue_line("markers", f"{name}: transformers' own")


def pytest_collection_finish():
    """Leave what the imports made out of every later garbage collection: each training ends with a full one, of 0.7 s otherwise."""
    gc.collect()
    gc.freeze()


CODEBOOK_SIZES = (16, 8, 8, 4, 4)
"""Codes per level of the tiny run."""


def tiny_recipe():
    """Every stage in seconds: 450 items, 600 sessions, one epoch of a model with d_model 32."""
    from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
    from onesearch.pipeline.recipe import EvaluationConfig, MarketConfig, Recipe
    from onesearch.tokenization_sid.embedding.configs import TextEncoderConfig
    from onesearch.tokenization_sid.quantizers.configs import RQOPQConfig
    from onesearch.trainers.configs import ModelConfig, TrainingConfig

    options = {"items": 450, "sessions": 600, "oracle_requests": 0, "judged_queries": 10, "seed": 3}
    model = ModelConfig(
        text_vocab_size=400, d_model=32, encoder_layers=1, decoder_layers=1, attention_heads=2, ffn_dim=64, dropout=0.0
    )
    arguments = {
        "num_train_epochs": 1,
        "per_device_train_batch_size": 64,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "logging_steps": 5,
        "use_cpu": True,
    }
    return Recipe(
        name="tiny",
        market=MarketConfig("simulate", None, options),
        encoder=TextEncoderConfig(dimension=16, vocab_size=500, epochs=1, batch_size=64),
        codes=RQOPQConfig(residual_sizes=CODEBOOK_SIZES[:3], opq=(2, 4), iterations=5),
        training=TrainingConfig(model=model, arguments=arguments, validation_requests=20, validation_beams=10),
        search=SearchConfig(num_beams=10),
        evaluation=EvaluationConfig(sample=40, tune_cascade=False, sasrec=False),
    )


@pytest.fixture(scope="session")
def recipe():
    return tiny_recipe()


@pytest.fixture(scope="session")
def shared_run(recipe, tmp_path_factory) -> RunFolder:
    """The finished tiny run. Read only: tests that write take `run`."""
    from onesearch.pipeline.run import run_recipe

    run = RunFolder(tmp_path_factory.mktemp("shared") / "tiny")
    run_recipe(recipe, run, progress=False)
    return run


@pytest.fixture(scope="session")
def market(shared_run):
    from onesearch.data.market import Market

    return Market.load(shared_run.market)


@pytest.fixture(scope="session")
def shared_searcher(shared_run):
    """Read only."""
    from onesearch import Searcher

    return Searcher.from_pretrained(shared_run.checkpoint)


@pytest.fixture
def run(shared_run, tmp_path) -> RunFolder:
    """A copy of the finished tiny run."""
    return RunFolder(shutil.copytree(shared_run.root, tmp_path / "tiny"))


@pytest.fixture
def checkpoint(shared_run, tmp_path):
    """A copy of the tiny run's checkpoint."""
    return shutil.copytree(shared_run.checkpoint, tmp_path / "checkpoint")


@pytest.fixture(scope="session")
def rewarded(shared_run, recipe, tmp_path_factory) -> RunFolder:
    """A copy of the tiny run with a reward model, trained by the command. Read only."""
    from dataclasses import replace

    from onesearch.cli import main
    from onesearch.pipeline.recipe import save_recipe
    from onesearch.trainers.reward.negatives import NegativeSampling
    from onesearch.trainers.reward.reward_config import RewardConfig

    run = RunFolder(shutil.copytree(shared_run.root, tmp_path_factory.mktemp("rewarded") / "tiny"))
    config = RewardConfig(hidden_size=8, attention_heads=2, tower_size=8, searches=40, negatives=NegativeSampling(category=4))
    path = run.root.parent / "reward.yaml"
    save_recipe(replace(recipe, reward=config), path)
    assert main(["reward", str(run.root), "--recipe", str(path)]) == 0
    return run


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A running Hub that this process talks to, with a token that may write for `tester` and `shop`."""
    from fakehub import FakeHub
    from huggingface_hub import constants

    with FakeHub() as server:
        values = {
            "ENDPOINT": server.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_CACHE": str(tmp_path / "cache"),
        }
        for name, value in values.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr("transformers.utils.hub._hf_api", None)  # made at first use
        monkeypatch.setenv("HF_TOKEN", "hf_fake")
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # retries without waiting
        yield server
