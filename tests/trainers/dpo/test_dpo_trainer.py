"""The DPO trainer on the toy language: every form of the reference, refreshed lists, and a training that was stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from tiny import random_codes, tiny_index
from toy import (
    CODES,
    LEVELS,
    MODELS,
    TOKENIZER,
    StopAt,
    arguments,
    assert_same_weights,
    logged,
    toy_rows,
    two_processes,
    weights,
)
from transformers import set_seed
from trl import DPOTrainer

from onesearch import SidDPOConfig, SidDPOTrainer
from onesearch.files import read_json, write_json
from onesearch.trainers import trl_contract
from onesearch.trainers.configs import SidLoraConfig
from onesearch.trainers.dpo.data.lists import Preferences
from onesearch.trainers.lora import lora_config

CATALOGUE = np.unique(np.concatenate([toy_rows(64, 0)[1], random_codes(40, [CODES] * LEVELS, 3)]), axis=0)


def policy(kind="bart", **changes):
    model = MODELS[kind](**changes)
    model.set_sid_index(tiny_index(CATALOGUE, [CODES] * LEVELS))
    return model


def preferences(row, sid, draw):
    """The SID of the words is preferred, one that another row has comes second, and the others are rejected."""
    others = CATALOGUE[draw.choice(len(CATALOGUE), 3 + row % 3, replace=False)]
    others = others[(others != sid).any(1)]
    sids = np.concatenate([[sid], others])
    ranks = np.arange(len(sids))
    return Preferences(sids, ranks < 2, ranks > 0, ranks, 1.0 / (1.0 + ranks))


def toy_lists(rows=32, seed=0):
    texts, sids = toy_rows(rows, seed)
    draw = np.random.default_rng(seed)
    lists = [preferences(row, sid, draw).columns() for row, sid in enumerate(sids)]
    prompts = TOKENIZER.encode_prompts(texts)
    return Dataset.from_list([{"input_ids": prompt, **own} for prompt, own in zip(prompts, lists)])


def trainer_of(model, folder, dataset=None, peft_config=None, list_maker=None, callbacks=None, eval_dataset=None, **changes):
    settings = {
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 8,
        "beta": 0.3,
        "train_sampling_strategy": "random",
        **changes,
    }
    return SidDPOTrainer(
        model=model,
        args=arguments(folder, SidDPOConfig, **settings),
        train_dataset=toy_lists() if dataset is None else dataset,
        eval_dataset=eval_dataset,
        processing_class=TOKENIZER,
        peft_config=peft_config,
        list_maker=list_maker,
        callbacks=callbacks,
    )


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("objective", ["listwise", "pairwise"])
def test_preferences_are_learned(tmp_path, kind, objective):
    model = policy(kind)
    settings = {"max_steps": 12, "nll_weight": 0.0, "learning_rate": 5e-3}
    trainer = trainer_of(model, tmp_path, toy_lists(8), objective=objective, **settings)
    trainer.train()
    losses, accuracies = logged(trainer, "loss"), logged(trainer, "rewards/accuracies")
    assert losses[-1] < 0.9 * losses[0] and accuracies[-1] > 0.75
    assert model.generation_config.eos_token_id is None, "a SID ends by its length"
    assert logged(trainer, "kl")[0] == pytest.approx(0, abs=1e-5) and logged(trainer, "kl")[-1] > 0.01
    assert logged(trainer, "logps/chosen")[-1] > logged(trainer, "logps/rejected")[-1]


def test_forms_of_the_reference_agree(tmp_path):
    """A copy, values computed before, and the base of an adapter: the first loss is that of a policy equal to its reference."""
    found = {}
    lists = toy_lists(8)
    for name, changes in (("copy", {}), ("precomputed", {"precompute_ref_log_probs": True})):
        model = policy()
        trainer = trainer_of(model, tmp_path / name, lists, max_steps=4, **changes)
        assert (trainer.ref_model is None) == (name == "precomputed")
        trainer.train()
        found[name] = logged(trainer, "loss"), weights(model)
    assert found["copy"][0] == pytest.approx(found["precomputed"][0], abs=1e-5)
    assert_same_weights(found["copy"][1], found["precomputed"][1], atol=1e-5)
    model = policy()
    adapter = lora_config(SidLoraConfig(r=4, dropout=0.0), model)
    adapted = trainer_of(model, tmp_path / "adapter", lists, adapter, max_steps=4)
    assert adapted.ref_model is None
    adapted.train()
    losses = logged(adapted, "loss")
    assert losses[0] == pytest.approx(found["copy"][0][0], abs=1e-4) and losses[-1] < losses[0]
    assert logged(adapted, "kl")[0] == pytest.approx(0, abs=1e-5) and logged(adapted, "kl")[-1] > 0


def test_pair_wise_losses_are_trl_s(tmp_path):
    """The loss of a batch, computed by hand from the same log-probabilities; two losses with weights, as TRL combines them."""
    model = policy()
    trainer = trainer_of(
        model,
        tmp_path,
        objective="pairwise",
        loss_type=["sigmoid", "sft"],
        loss_weights=[1.0, 0.5],
        nll_weight=0.0,
        max_steps=1,
    )
    model.eval()
    with torch.no_grad():
        for own in model.parameters():
            own.add_(0.05 * torch.randn(own.shape, generator=torch.Generator().manual_seed(own.numel())))
        batch = trainer.data_collator([trainer.train_dataset[row] for row in range(4)])
        loss = trainer.compute_loss(model, batch)
        now = model.given_scores(batch["input_ids"], batch["sids"], batch["attention_mask"]).log_probs.sum(-1)
        before = trainer.ref_model.given_scores(batch["input_ids"], batch["sids"], batch["attention_mask"]).log_probs.sum(-1)
    rows, chosen, rejected = (batch["weights"] > 0).nonzero(as_tuple=True)
    ratios = now - before
    margins = ratios[rows, chosen] - ratios[rows, rejected]
    expected = torch.nn.functional.softplus(-0.3 * margins).mean() - 0.5 * now[rows, chosen].mean() / LEVELS
    assert float(loss) == pytest.approx(float(expected), abs=1e-5)


def test_the_nll_term_keeps_the_chosen_likelihood(tmp_path):
    rises = {}
    for weight in (0.0, 1.0):
        trainer = trainer_of(policy(), tmp_path / str(weight), max_steps=16, nll_weight=weight, learning_rate=2e-3, beta=0.1)
        trainer.train()
        chosen = logged(trainer, "logps/chosen")
        rises[weight] = np.mean(chosen[-4:]) - np.mean(chosen[:4])
    assert rises[1.0] > 0 and rises[1.0] > rises[0.0]


def test_accumulation_gives_the_weights_of_one_large_batch(tmp_path):
    found = []
    for batch, steps in ((16, 1), (4, 4)):
        model = policy()
        trainer = trainer_of(
            model,
            tmp_path,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=steps,
            max_steps=2,
            optim="sgd",
            learning_rate=0.1,
        )
        trainer.train()
        found.append((logged(trainer, "loss"), weights(model)))
    assert found[0][0] == pytest.approx(found[1][0], abs=2e-4)
    assert_same_weights(found[0][1], found[1][1])


def make_lists(model, numbers):
    """Lists of the policy's own beams: later codes are preferred."""
    texts, _ = toy_rows(16, 5)
    rows = []
    for text in (texts[number] for number in numbers.tolist()):
        prompt = TOKENIZER.encode_prompts([text])[0]
        sids, _ = model.search_sids(torch.tensor([prompt]), num_beams=6)
        sids = sids[0].numpy()
        ranks = np.empty(len(sids), dtype=np.int64)
        ranks[np.argsort(-sids.sum(1), kind="stable")] = np.arange(len(sids))
        rows.append({"input_ids": prompt, **Preferences(sids, ranks < 2, ranks > 0, ranks, 1.0 / (1 + ranks)).columns()})
    return pa.Table.from_pylist(rows)


class CountMaking:
    """`make_lists`, with the numbers that each call asked for."""

    def __init__(self):
        self.calls = []

    def __call__(self, model, numbers):
        self.calls.append(numbers.tolist())
        return make_lists(model, numbers)


def test_lists_are_refreshed_and_a_stopped_training_goes_on(tmp_path):
    """Stopped within the second round of lists: the resumed training finds them, makes only later ones, and ends with the same weights."""
    requests = Dataset.from_dict({"number": list(range(16))})
    settings = {"max_steps": 6, "refresh_steps": 2, "per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 3}

    def start(folder, made, callbacks=None):
        set_seed(7)
        return trainer_of(policy(), folder, requests, list_maker=made, callbacks=callbacks, **settings)

    whole = start(tmp_path / "whole", first := CountMaking())
    whole.train()
    assert [len(call) for call in first.calls] == [8, 8, 8] and len(set(sum(first.calls[:2], []))) == 16
    stopped = start(tmp_path / "cut", CountMaking(), [StopAt(3)])
    stopped.train()
    resumed = start(tmp_path / "cut", made := CountMaking())
    resumed.train(resume_from_checkpoint=True)
    assert made.calls == [first.calls[2]]
    assert_same_weights(weights(whole.model), weights(resumed.model))
    files = [pq.read_table(tmp_path / name / "lists" / "00001.parquet") for name in ("whole", "cut")]
    assert files[0].equals(files[1])


def train_lists(folder: Path, processes: int) -> None:
    """What each process runs: lists that the policy makes anew after two of four steps; leaves weights and log in `folder`."""
    settings = {"max_steps": 4, "refresh_steps": 2, "per_device_train_batch_size": 8 // processes}
    requests = Dataset.from_dict({"number": list(range(16))})
    trainer = trainer_of(policy(), folder, requests, list_maker=CountMaking(), **settings)
    trainer.train()
    trainer.save_model(str(folder))
    if trainer.is_world_process_zero():
        write_json(folder / "log.json", trainer.state.log_history)


@pytest.mark.slow
def test_two_processes_train_like_one(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    train_lists(one, 1)
    two.mkdir()
    call = f"import test_dpo_trainer; test_dpo_trainer.train_lists(pathlib.Path({str(two)!r}), 2)"
    finished = two_processes(two, call, Path(__file__).parent, timeout=550)
    assert finished.returncode == 0, finished.stderr[-4000:]
    losses = [[entry["loss"] for entry in read_json(folder / "log.json") if "loss" in entry] for folder in (one, two)]
    assert len(losses[0]) == 4 and losses[0] == pytest.approx(losses[1], abs=2e-4)
    assert_same_weights(*(load_file(folder / "model.safetensors") for folder in (one, two)), atol=5e-5)


def test_texts_are_lists_too(tmp_path):
    texts, sids = toy_rows(8, 0)
    named = [TOKENIZER.sid_string(sid) for sid in sids]
    rows = {"prompt": texts, "chosen": named, "rejected": [[named[(row + 1) % 8], named[(row + 2) % 8]] for row in range(8)]}
    trainer = trainer_of(policy(), tmp_path, Dataset.from_dict(rows), max_steps=1, per_device_train_batch_size=4)
    first = trainer.train_dataset[0]
    assert first["sids"] == [code for sid in (sids[0], sids[1], sids[2]) for code in sid]
    assert first["chosen"] == [True, False, False] and first["ranks"] == [0, 1, 1]
    trainer.train()
    with pytest.raises(ValueError, match="row 0 of the train dataset: 'shoes' is not one Semantic ID"):
        trainer_of(policy(), tmp_path, Dataset.from_dict({**rows, "chosen": ["shoes"] * 8}))


def test_streamed_lists_train_too(tmp_path):
    trainer = trainer_of(policy(), tmp_path, toy_lists(8).to_iterable_dataset(), max_steps=2, per_device_train_batch_size=4)
    trainer.train()
    assert len(logged(trainer, "loss")) == 2 and all(np.isfinite(logged(trainer, "loss")))


def test_evaluation_measures_loss_and_retrieval(tmp_path):
    trainer = trainer_of(policy(), tmp_path, eval_dataset=toy_lists(8), max_steps=2, eval_strategy="steps", eval_steps=2)
    trainer.retrieval_metrics = lambda model: {"hr@10": float(model.training)}
    trainer.train()
    (entry,) = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    assert entry["eval_hr@10"] == 0.0 and {"eval_rewards/margins", "eval_kl", "eval_logps/chosen"} <= set(entry)


# What it refuses, and what it relies on


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": "pointwise"}, "objective='pointwise': allowed are 'listwise' and 'pairwise'"),
        ({"beta": 0.0}, "beta=0.0 must be above 0"),
        ({"nll_weight": -1.0}, "nll_weight=-1.0 must be a finite number of at least 0"),
        ({"formula": {"margin": "none"}}, "margin='none': allowed are printed, code"),
        ({"precompute_ref_log_probs": True, "refresh_steps": 5}, "needs lists that are known beforehand"),
        ({"refresh_steps": 5}, "refresh_steps=5 needs a list_maker"),
        ({"use_weighting": True}, "all Semantic IDs have one length"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        trainer_of(policy(), tmp_path, **change)


def test_wrong_rows_and_models_are_refused(tmp_path):
    rows = toy_lists(4)
    flat = rows.map(lambda row: {"ranks": [0] * len(row["ranks"])})
    with pytest.raises(ValueError, match="row 0 of the train dataset has no list"):
        trainer_of(policy(), tmp_path, flat)
    short = rows.map(lambda row: {"rewards": row["rewards"][:-1]})
    with pytest.raises(ValueError, match="row 0 of the train dataset has 4 candidates in chosen"):
        trainer_of(policy(), tmp_path, short)
    with pytest.raises(ValueError, match="the model has no item index"):
        trainer_of(MODELS["bart"](), tmp_path)
    with pytest.raises(TypeError, match="pass a loaded model, not the name 'model'"):
        trainer_of("model", tmp_path)
    with pytest.raises(ValueError, match="gradient_checkpointing of a decoder-only model"):
        trainer_of(policy("qwen3"), tmp_path, gradient_checkpointing=True)


def test_the_installed_trl_has_the_hooks(monkeypatch):
    trl_contract.check_trl(DPOTrainer)
    monkeypatch.delattr(DPOTrainer, "_precompute_ref_logps")
    with pytest.raises(ImportError, match="DPOTrainer._precompute_ref_logps is gone"):
        trl_contract.check_trl(DPOTrainer)
