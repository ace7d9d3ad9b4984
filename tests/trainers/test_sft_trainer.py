"""The trainer learns, agrees with the model's own loss, and gives one result however the batch is cut."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from tiny import tiny_index, tiny_model
from transformers import TrainerCallback, set_seed
from trl import SFTTrainer

from onesearch import SidSFTConfig, SidSFTTrainer, SidTokenizer
from onesearch.files import read_json, write_json
from onesearch.trainers import trl_contract

# A toy language: four words determine the five codes.
LEVELS, CODES, WORDS = 5, 8, 16
TOKENIZER = SidTokenizer.train([f"w{word}" for word in range(WORDS)] * 9, [CODES] * LEVELS, vocab_size=320, digest="digest")


def toy_rows(rows, seed):
    draw = random.Random(seed)
    words = [[draw.randrange(WORDS) for _ in range(4)] for _ in range(rows)]
    sids = [[(row[level % 4] + level) % CODES for level in range(LEVELS)] for row in words]
    return [" ".join(f"w{word}" for word in row) for row in words], sids


def toy_dataset(rows=64, seed=0):
    texts, sids = toy_rows(rows, seed)
    prompts = TOKENIZER.encode_prompts(texts)
    return Dataset.from_dict(
        {"input_ids": prompts, "labels": TOKENIZER.sids_to_ids(sids).tolist(), "length": [len(prompt) for prompt in prompts]}
    )


def toy_model(**changes):
    sizes = {"d_model": 64, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "init_std": 0.02}
    sizes |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    model = tiny_model([CODES] * LEVELS, **{**sizes, "vocab_size": len(TOKENIZER), **changes})
    model.config.sid_offset = TOKENIZER.sid_offset
    return model


def arguments(folder, **changes):
    settings = {
        "output_dir": str(folder),
        "use_cpu": True,
        "per_device_train_batch_size": 32,
        "train_sampling_strategy": "sequential",
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    return SidSFTConfig(**{**settings, **changes})


def trainer_of(
    model, folder, dataset=None, eval_dataset=None, retrieval_metrics=None, peft_config=None, callbacks=None, **changes
):
    return SidSFTTrainer(
        model=model,
        args=arguments(folder, **changes),
        train_dataset=toy_dataset() if dataset is None else dataset,
        eval_dataset=eval_dataset,
        processing_class=TOKENIZER,
        retrieval_metrics=retrieval_metrics,
        peft_config=peft_config,
        callbacks=callbacks,
    )


def logged(trainer, name):
    return [entry[name] for entry in trainer.state.log_history if name in entry]


def weights(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def assert_same_weights(one, two, atol=1e-6):
    assert set(one) == set(two)
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, two[name], atol=atol, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


# It learns


def test_a_toy_task_is_learned_to_the_last_code(tmp_path):
    """Stock TRL trains an encoder-decoder without an error, and to garbage; ours must solve the task on unseen prompts."""
    set_seed(0)
    model = toy_model()
    trainer = trainer_of(
        model,
        tmp_path,
        toy_dataset(4096, seed=0),
        max_steps=250,
        learning_rate=3e-3,
        lr_scheduler_type="cosine",
        warmup_steps=20,
        logging_steps=50,
    )
    trainer.train()
    texts, sids = toy_rows(64, seed=9)
    model.eval().set_sid_index(
        tiny_index([list(sid) for sid in {tuple(sid) for sid in toy_rows(500, seed=1)[1] + sids}], [CODES] * LEVELS)
    )
    inputs = TOKENIZER.pad({"input_ids": TOKENIZER.encode_prompts(texts)}, return_tensors="pt")
    found = [hits[0].sid for hits in model.search(**inputs, num_beams=5, top_k=1)]
    assert found == [tuple(sid) for sid in sids]
    assert model.generation_config.eos_token_id is None  # the trainer would set the tokenizer's
    greedy = model.generate(**inputs, logits_processor=[model.logits_processor()])[:, 1:]
    assert TOKENIZER.ids_to_sids(greedy.numpy()).tolist() == sids
    accuracy = logged(trainer, "mean_token_accuracy")
    assert accuracy[-1] > 0.99 > 0.5 > accuracy[0]


def test_prompt_and_completion_texts_are_tokenised_alike(tmp_path):
    texts, sids = toy_rows(8, seed=0)
    plain = Dataset.from_dict({"prompt": texts, "completion": [TOKENIZER.sid_string(sid) for sid in sids]})
    trainer = trainer_of(toy_model(), tmp_path, plain)
    expected = toy_dataset(8)
    assert trainer.train_dataset["input_ids"][:] == expected["input_ids"][:]
    assert trainer.train_dataset["labels"][:] == expected["labels"][:]
    with pytest.raises(ValueError, match="'text'.*input_ids and labels"):
        trainer_of(toy_model(), tmp_path, Dataset.from_dict({"text": texts}))


# One loss


def test_the_trainer_s_loss_is_the_model_s(tmp_path):
    model = toy_model()
    trainer = trainer_of(model, tmp_path)
    rows = [trainer.train_dataset[row] for row in range(8)]
    rows[3]["labels"] = rows[3]["labels"][:2]
    batch = trainer.data_collator(rows)
    plain = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    for count in (None, torch.tensor(100)):
        expected = toy_model()(**plain, num_items_in_batch=count).loss
        found = trainer.compute_loss(model, dict(batch), num_items_in_batch=count)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(
        trainer.model(**plain).loss, toy_model()(**plain).loss
    )  # forward without TRL's flag is the model's


@pytest.mark.parametrize("optim", ["sgd", "adamw_torch"])
def test_accumulation_gives_the_loss_and_weights_of_one_large_batch(tmp_path, optim):
    dataset = toy_dataset(64)
    dataset = dataset.map(lambda row, number: {"labels": row["labels"][: 5 - number % 3]}, with_indices=True)  # unequal counts
    results = []
    for batch, steps in ((32, 1), (8, 4)):
        model = toy_model()
        trainer = trainer_of(
            model,
            tmp_path,
            dataset,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=steps,
            max_steps=2,
            optim=optim,
            learning_rate=0.1 if optim == "sgd" else 1e-3,
        )
        trainer.train()
        results.append((logged(trainer, "loss"), logged(trainer, "grad_norm"), weights(model)))
    (loss, norm, one), (other_loss, other_norm, other) = results
    assert loss == pytest.approx(other_loss, abs=2e-4) and norm == pytest.approx(other_norm, rel=1e-3)
    assert_same_weights(one, other, atol=1e-6 if optim == "sgd" else 5e-5)


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop |= state.global_step == self.step


@pytest.mark.parametrize("strategy", ["random", "group_by_length"])
def test_a_resumed_training_ends_like_an_uninterrupted_one(tmp_path, strategy):
    """Stopped inside the second of two epochs; dropout is on, so the random state must come back, too."""
    settings = {
        "num_train_epochs": 2,
        "save_strategy": "steps",
        "save_steps": 3,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "linear",
        "train_sampling_strategy": strategy,
    }

    def start(folder, callbacks=None):
        set_seed(7)
        return trainer_of(
            toy_model(dropout=0.1), folder, toy_dataset(64), per_device_train_batch_size=16, callbacks=callbacks, **settings
        )

    whole = start(tmp_path / "whole")
    whole.train()
    stopped = start(tmp_path / "cut", [StopAt(6)])
    stopped.train()
    assert stopped.state.global_step == 6
    resumed = start(tmp_path / "cut")
    resumed.train(resume_from_checkpoint=str(tmp_path / "cut" / "checkpoint-6"))
    assert resumed.state.global_step == whole.state.global_step == 8
    assert logged(resumed, "loss")[-2:] == pytest.approx(logged(whole, "loss")[-2:], abs=1e-4)
    assert_same_weights(weights(whole.model), weights(resumed.model))


# Evaluation during training


def test_the_evaluator_selects_the_checkpoint(tmp_path):
    """Retrieval metrics are logged as `eval_…` and drive `metric_for_best_model`."""
    seen = []

    def metrics(model):
        assert not model.training and not torch.is_grad_enabled()
        seen.append(weights(model))
        return {"hr@10": [0.2, 0.9, 0.5][len(seen) - 1]}

    trainer = trainer_of(
        toy_model(),
        tmp_path,
        eval_dataset=toy_dataset(16, seed=5),
        retrieval_metrics=metrics,
        num_train_epochs=3,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="eval_hr@10",
        greater_is_better=True,
    )
    trainer.train()
    assert logged(trainer, "eval_hr@10") == [0.2, 0.9, 0.5] and len(logged(trainer, "eval_loss")) == 3
    assert trainer.state.best_metric == 0.9
    assert_same_weights(weights(trainer.model), seen[1], atol=0)
    assert any(not torch.equal(tensor, seen[2][name]) for name, tensor in seen[1].items())


def test_the_tiny_run_logged_its_retrieval_metrics(shared_run):
    entries = read_json(shared_run.training / "log.json")
    found = [entry for entry in entries if "eval_hr@10" in entry]
    assert len(found) == 1 and 0 <= found[0]["eval_mrr@10"] <= found[0]["eval_hr@10"] <= 1
    assert [entry for entry in entries if "eval_loss" in entry]


# What it refuses, and what it relies on


def test_the_installed_trl_has_the_hooks():
    trl_contract.check_trl()


def prepare_renamed(self, dataset, processing_class, args, packing, formatting, dataset_name): ...


def compute_loss_without_fused_head(self, model, inputs, return_outputs=False, num_items_in_batch=None): ...


@pytest.mark.parametrize(
    ("target", "name", "value", "word"),
    [
        (SFTTrainer, "_prepare_dataset", prepare_renamed, "formatting"),
        (SFTTrainer, "compute_loss", compute_loss_without_fused_head, "fused_lm_head"),
        (SFTTrainer, "evaluation_loop", prepare_renamed, "SFTTrainer.evaluation_loop"),
        (trl_contract.utils, "FusedCausalLMOutput", None, "log_probs"),
        (trl_contract.utils, "add_fused_lm_head", None, "add_fused_lm_head"),
    ],
)
def test_a_changed_hook_is_named_with_trl_s_version(tmp_path, monkeypatch, target, name, value, word):
    import trl

    if value is None:
        monkeypatch.delattr(target, name)
    else:
        monkeypatch.setattr(target, name, value)
    with pytest.raises(ImportError, match=word) as error:
        trainer_of(toy_model(), tmp_path)
    assert trl.__version__ in str(error.value) and "trl>=1.16,<1.17" in str(error.value)


def test_a_model_name_is_refused(tmp_path):
    with pytest.raises(TypeError, match="'facebook/bart-base'"):
        trainer_of("facebook/bart-base", tmp_path)


@pytest.mark.parametrize("name", ["packing", "padding_free"])
def test_packing_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="encoder-decoder"):
        arguments(tmp_path, **{name: True})


def test_a_processor_trains_in_full_precision(tmp_path):
    settings = arguments(tmp_path)
    assert settings.bf16 is False and settings.gradient_checkpointing is False and settings.report_to in ("none", [])


# Adapters and processes


def test_lora_trains_new_sids_and_survives_merging(tmp_path):
    from peft import LoraConfig, PeftModel

    lora = LoraConfig(
        task_type="SEQ_2_SEQ_LM",
        r=8,
        target_modules=["q_proj", "v_proj", "fc1", "fc2"],
        trainable_token_indices={"shared": list(range(TOKENIZER.sid_offset, len(TOKENIZER)))},
    )
    trainer = trainer_of(
        toy_model(), tmp_path / "run", toy_dataset(512), peft_config=lora, max_steps=60, learning_rate=1e-2, logging_steps=20
    )
    trainer.train()
    losses = logged(trainer, "loss")
    assert losses[-1] < losses[0] - 0.1
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(8)])
    plain = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    trainer.model.eval()
    with torch.no_grad():
        expected = trainer.model(**plain).loss
        trainer.save_model(str(tmp_path / "adapter"))
        merged = PeftModel.from_pretrained(toy_model(), str(tmp_path / "adapter")).merge_and_unload().eval()
        torch.testing.assert_close(merged(**plain).loss, expected, atol=1e-4, rtol=1e-4)
        assert merged.lm_head.weight is merged.model.shared.weight
        merged.save_pretrained(tmp_path / "merged")
        loaded = type(merged).from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(loaded(**plain).loss, expected, atol=1e-4, rtol=1e-4)


def train_three_steps(folder: Path, processes: int) -> None:
    """What each process runs; leaves weights and log in `folder`."""
    calls = []

    def metrics(model):
        calls.append(model)
        return {"hr@10": 0.25}

    trainer = trainer_of(
        toy_model(),
        folder,
        eval_dataset=toy_dataset(10, seed=5),
        retrieval_metrics=metrics,
        per_device_train_batch_size=32 // processes,
        max_steps=3,
        learning_rate=1e-3,
        eval_strategy="steps",
        eval_steps=3,
        per_device_eval_batch_size=5,
    )
    assert trainer.accelerator.num_processes == processes
    trainer.train()
    trainer.save_model(str(folder))
    main = trainer.is_world_process_zero()
    assert len(calls) == (1 if main else 0)  # searched once, not once per process
    if main:
        write_json(folder / "log.json", trainer.state.log_history)


def test_two_processes_train_like_one(tmp_path):
    """Under torchrun (`accelerate launch --cpu --num_processes 2` quietly starts one process)."""
    one, two = tmp_path / "one", tmp_path / "two"
    train_three_steps(one, 1)
    two.mkdir()
    script = two / "script.py"
    here = Path(__file__).parent
    script.write_text(
        f"import sys, pathlib; sys.path[:0] = [{str(here.parent)!r}, {str(here)!r}]\n"
        f"import conftest, test_sft_trainer\n"
        f"test_sft_trainer.train_three_steps(pathlib.Path({str(two)!r}), 2)\n"
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    finished = subprocess.run([*launcher, str(script)], capture_output=True, text=True, timeout=500)
    assert finished.returncode == 0, finished.stderr[-4000:]
    logs = [read_json(folder / "log.json") for folder in (one, two)]
    for key, places in (("loss", 3), ("eval_loss", 1), ("eval_hr@10", 1)):
        values = [[entry[key] for entry in log if key in entry] for log in logs]
        assert len(values[0]) == places and values[0] == pytest.approx(values[1], abs=2e-4), key
    assert_same_weights(load_file(one / "model.safetensors"), load_file(two / "model.safetensors"), atol=5e-5)
