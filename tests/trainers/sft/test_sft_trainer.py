"""The trainer learns, agrees with the model's own loss, and gives one result however the batch is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset
from test_architecture import ROOT
from tiny import tiny_index
from toy import (
    CODES,
    LEVELS,
    MODELS,
    TOKENIZER,
    arguments,
    assert_same_weights,
    logged,
    ragged,
    toy_dataset,
    toy_model,
    toy_rows,
    trainer_of,
    weights,
)
from transformers import set_seed
from trl import SFTTrainer

from onesearch import SidSFTTrainer
from onesearch.files import read_json
from onesearch.trainers import trl_contract

# It learns


@pytest.mark.parametrize("kind", MODELS)
def test_a_toy_task_is_learned_to_the_last_code(tmp_path, kind):
    """Stock TRL would train an encoder-decoder to garbage; this trainer must solve the task on unseen prompts."""
    set_seed(0)
    model = MODELS[kind]()
    trainer = trainer_of(
        model,
        tmp_path,
        toy_dataset(4096, seed=0),
        max_steps=250 if kind == "bart" else 120,
        learning_rate=3e-3,
        lr_scheduler_type="cosine",
        warmup_steps=20,
        logging_steps=10,
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
    if kind == "qwen3":
        inputs = TOKENIZER.pad({"input_ids": TOKENIZER.encode_prompts(texts)}, return_tensors="pt", padding_side="left")
    start = 1 if kind == "bart" else inputs["input_ids"].shape[1]
    greedy = model.generate(**inputs, logits_processor=[model.logits_processor(start)])[:, start:]
    assert TOKENIZER.ids_to_sids(greedy.numpy()).tolist() == sids
    accuracy = logged(trainer, "mean_token_accuracy")
    assert accuracy[-1] > 0.99 > 0.5 > accuracy[0]


def test_prompt_and_completion_texts_are_tokenised_alike(tmp_path):
    texts, sids = toy_rows(8, seed=0)
    plain = Dataset.from_dict({"prompt": texts, "completion": [TOKENIZER.sid_string(sid) for sid in sids]})
    trainer = trainer_of(toy_model(), tmp_path, plain)
    expected = toy_dataset(8)
    assert [row.tolist() for row in trainer.train_dataset["input_ids"][:]] == expected["input_ids"][:]
    assert [row.tolist() for row in trainer.train_dataset["labels"][:]] == expected["labels"][:]
    with pytest.raises(ValueError, match="'text'.*input_ids and labels"):
        trainer_of(toy_model(), tmp_path, Dataset.from_dict({"text": texts}))


# One loss


def indexed(model):
    """With a catalogue of the toy dataset's items and of others."""
    sids = {tuple(sid) for seed in (0, 1) for sid in toy_rows(64, seed)[1]}
    model.set_sid_index(tiny_index([list(sid) for sid in sorted(sids)], [CODES] * LEVELS))
    return model


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("sid_softmax", ["level", "children"])
@pytest.mark.parametrize("text", [False, True])
def test_the_trainer_s_loss_is_the_model_s(tmp_path, kind, sid_softmax, text):
    """Bit by bit, and so are the gradients."""
    model = indexed(MODELS[kind]()).train()
    trainer = trainer_of(model, tmp_path, sid_softmax=sid_softmax)
    other = indexed(MODELS[kind](sid_softmax=sid_softmax)).train()
    rows = [dict(trainer.train_dataset[row]) for row in range(8)]
    rows[3]["labels"] = rows[3]["labels"][:2]
    if text:
        rows[5]["labels"] = np.array([7, 8, 9])
        rows[6]["labels"] = np.array([7, *rows[6]["labels"][:2], 9])
    batch = trainer.data_collator(rows)
    plain = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    counted = trainer._get_num_items_in_batch([batch], torch.device("cpu"))
    assert counted == sum(len(row["labels"]) for row in rows)
    for count in (None, torch.tensor(100), counted):
        model.zero_grad()
        other.zero_grad()
        expected = other(**plain, num_items_in_batch=count).loss
        found = trainer.compute_loss(model, dict(batch), num_items_in_batch=count)
        assert torch.equal(found, expected)
        expected.backward()
        found.backward()
        pairs = zip(model.parameters(), other.parameters())
        assert all(torch.equal(one.grad, two.grad) for one, two in pairs)
    shifted = {name: tensor for name, tensor in plain.items() if name != "labels"} | {"shift_labels": batch["shift_labels"]}
    assert torch.equal(other(**shifted, num_items_in_batch=counted).loss, expected)


def test_what_a_sid_token_competes_with_is_the_model_s(tmp_path):
    """The trainer's setting is the model's, and travels with it; without a setting the model keeps its own."""
    losses = {}
    for sid_softmax in ("level", "children"):
        model = indexed(toy_model())
        trainer = trainer_of(model, tmp_path, sid_softmax=sid_softmax)
        assert model.config.sid_softmax == sid_softmax
        model.save_pretrained(tmp_path / sid_softmax)
        loaded = type(model).from_pretrained(tmp_path / sid_softmax)
        kept = trainer_of(loaded, tmp_path)
        assert loaded.config.sid_softmax == sid_softmax
        batch = trainer.data_collator([dict(trainer.train_dataset[row]) for row in range(8)])
        losses[sid_softmax] = trainer.compute_loss(model.eval(), dict(batch))
        assert torch.equal(kept.compute_loss(loaded.eval(), dict(batch)), losses[sid_softmax])
    assert losses["children"] < losses["level"]


@pytest.mark.parametrize("kind", MODELS)
def test_no_model_is_patched(tmp_path, kind):
    """TRL replaces `forward` on the instance; without decoder inputs its head reads the shifted prompt."""
    model = MODELS[kind]()
    trainer = trainer_of(model, tmp_path, max_steps=1)
    assert "forward" not in vars(model) and not any("forward" in vars(module) for module in model.modules())
    trainer.train()
    assert type(trainer.model) is type(model) and trainer.model is model
    if kind == "qwen3":
        return
    batch = trainer.data_collator([dict(trainer.train_dataset[row]) for row in range(8)])
    expected = trainer.compute_loss(model.eval(), dict(batch))
    del batch["decoder_input_ids"]
    assert torch.equal(trainer.compute_loss(model, dict(batch)), expected)
    batch["input_ids"] = batch["input_ids"].flip(0)  # another prompt for each target
    changed = trainer.compute_loss(model, dict(batch))
    whole = {**batch, "decoder_input_ids": model.prepare_decoder_input_ids_from_labels(batch["labels"])}
    assert torch.equal(trainer.compute_loss(model, whole), changed) and not torch.equal(changed, expected)


def test_a_loss_of_another_kind_is_refused(tmp_path):
    for changes in ({"loss_type": "dft"}, {"label_smoothing_factor": 0.1}):
        with pytest.raises(ValueError, match="the loss is the model's own"):
            arguments(tmp_path, **changes)
    with pytest.raises(ValueError, match="compute_loss_func"):
        SidSFTTrainer(toy_model(), arguments(tmp_path), toy_dataset(), compute_loss_func=lambda *_: 0)


@pytest.mark.parametrize("kind", MODELS)
def test_over_children_the_loss_is_the_search_s_score(tmp_path, kind):
    model = MODELS[kind]()
    texts, sids = toy_rows(8, seed=0)
    model.set_sid_index(
        tiny_index([list(sid) for sid in {tuple(sid) for sid in toy_rows(200, seed=1)[1] + sids}], [CODES] * LEVELS)
    )
    trainer = trainer_of(model, tmp_path, sid_softmax="children")
    batch = trainer.data_collator([dict(trainer.train_dataset[row]) for row in range(8)])
    loss = trainer.compute_loss(model.eval(), dict(batch), num_items_in_batch=1)
    inputs = TOKENIZER.pad({"input_ids": TOKENIZER.encode_prompts(texts)}, return_tensors="pt")
    found = model.search(**inputs, num_beams=300, top_k=300)
    scores = [next(hit.score for hit in hits if hit.sid == tuple(sid)) for hits, sid in zip(found, sids)]
    assert float(loss) == pytest.approx(-sum(scores), rel=1e-5)


def test_an_unknown_softmax_is_refused(tmp_path):
    with pytest.raises(ValueError, match="sid_softmax='trie'.*'level' and 'children'"):
        arguments(tmp_path, sid_softmax="trie")


@pytest.mark.parametrize("kind", MODELS)
def test_a_batch_without_targets_reaches_every_parameter(tmp_path, kind):
    """Data parallelism waits for all gradients; and nothing may become nan."""
    model = MODELS[kind](**({"tie_word_embeddings": False} if kind == "qwen3" else {}))
    trainer = trainer_of(model, tmp_path)
    batch = trainer.data_collator([trainer.train_dataset[0]])
    for name in ("labels", "shift_labels"):
        batch[name] = torch.full_like(batch[name], -100)
    trainer.compute_loss(model, batch, num_items_in_batch=torch.tensor(5)).backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize("kind", MODELS)
def test_behaviour_reaches_the_batch(tmp_path, kind):
    """The column passes the trainer's filter as an array; the model's part in it is tested with the model."""
    dataset = toy_dataset(8)
    dataset = dataset.add_column("long_view", [[row, row + 1] for row in range(8)]).add_column("dropped", [0] * 8)
    seen = []

    def codes(examples):
        seen.extend(examples)
        return np.stack([np.full((2, 3, LEVELS), example["long_view"].sum()) for example in examples])

    trainer = trainer_of(MODELS[kind](), tmp_path, dataset, long_view=codes, per_device_train_batch_size=4)
    batch = next(iter(trainer.get_train_dataloader()))
    assert batch["long_view_codes"].shape == (4, 2, 3, LEVELS) and batch["long_view_codes"].dtype == torch.int64
    assert batch["long_view_codes"][:, 0, 0, 0].tolist() == [1, 3, 5, 7]
    assert all(set(example) == {"input_ids", "labels", "length", "long_view"} for example in seen)
    assert all(isinstance(example["input_ids"], np.ndarray) for example in seen)


@pytest.mark.parametrize("kind", MODELS)
def test_a_stream_trains_like_the_dataset(tmp_path, kind):
    settings = {"max_steps": 2, "per_device_train_batch_size": 16, "learning_rate": 1e-3}
    plain = trainer_of(MODELS[kind](), tmp_path, toy_dataset(64), **settings)
    stream = trainer_of(MODELS[kind](), tmp_path, toy_dataset(64).to_iterable_dataset(), **settings)
    assert isinstance(next(iter(stream.train_dataset))["input_ids"], np.ndarray)
    plain.train()
    stream.train()
    assert logged(plain, "loss") == pytest.approx(logged(stream, "loss"), abs=1e-6)


def test_batches_of_alike_length_need_no_length_column(tmp_path):
    texts = ["w1", "w1 w2 w3"] * 32
    columns = {"input_ids": TOKENIZER.encode_prompts(texts), "labels": toy_dataset(64)["labels"][:]}
    settings = {"train_sampling_strategy": "group_by_length", "per_device_train_batch_size": 4}
    trainer = trainer_of(toy_model(), tmp_path, Dataset.from_dict(columns), **settings)
    codebook_sizes = [batch["attention_mask"].sum(1) for batch in trainer.get_train_dataloader()]
    assert sum(int(width.unique().numel() == 1) for width in codebook_sizes) >= 12


@pytest.mark.parametrize("kind", MODELS)
def test_bf16_and_checkpointing_train(tmp_path, kind):
    trainer = trainer_of(MODELS[kind](), tmp_path, bf16=True, gradient_checkpointing=True, max_steps=2)
    trainer.train()
    plain = trainer_of(MODELS[kind](), tmp_path, max_steps=2)
    plain.train()
    assert logged(trainer, "loss") == pytest.approx(logged(plain, "loss"), abs=0.02)


@pytest.mark.slow
def test_a_compiled_model_trains_alike(tmp_path):
    """Compiling takes minutes where g++ has to share a core."""
    trainer = trainer_of(toy_model(), tmp_path, torch_compile=True, max_steps=3)
    trainer.train()
    plain = trainer_of(toy_model(), tmp_path, max_steps=3)
    plain.train()
    assert logged(trainer, "loss") == pytest.approx(logged(plain, "loss"), abs=1e-3)


# Evaluation during training


def test_the_evaluator_selects_the_checkpoint(tmp_path, monkeypatch):
    """Retrieval metrics are logged as `eval_…` and drive `metric_for_best_model`."""
    said = []
    monkeypatch.setattr("transformers.trainer.logger.warning", lambda text, *values: said.append(text))
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
    assert not [text for text in said if "missing keys" in text]  # tied weights are saved once


def test_the_evaluation_loss_is_the_mean_over_targets(tmp_path):
    """Of targets, not of batches: rows have 3 to 5 targets and the last batch is smaller."""
    dataset = ragged(toy_dataset(11, seed=5))
    losses = []
    for size in (4, 11):
        trainer = trainer_of(toy_model(init_std=0.4), tmp_path, eval_dataset=dataset, per_device_eval_batch_size=size)
        losses.append(trainer.evaluate()["eval_loss"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_the_tiny_run_logged_its_retrieval_metrics(shared_run):
    entries = read_json(shared_run.training / "log.json")
    found = [entry for entry in entries if "eval_hr@10" in entry]
    assert len(found) == 1 and 0 <= found[0]["eval_mrr@10"] <= found[0]["eval_hr@10"] <= 1
    assert [entry for entry in entries if "eval_loss" in entry]


# What it refuses, and what it relies on


def test_the_installed_trl_has_the_hooks():
    trl_contract.check_trl()


def prepare_renamed(self, dataset, processing_class, args, packing, formatting, dataset_name): ...


def compute_loss_without_metrics(self, model, inputs, return_outputs=False, num_items_in_batch=None): ...


@pytest.mark.parametrize(
    ("target", "name", "value", "word"),
    [
        (SFTTrainer, "_prepare_dataset", prepare_renamed, "formatting"),
        (SFTTrainer, "compute_loss", compute_loss_without_metrics, "_total_train_tokens"),
        (SFTTrainer, "evaluation_loop", prepare_renamed, "SFTTrainer.evaluation_loop"),
        (SFTTrainer, "_prepare_dataset", None, "SFTTrainer._prepare_dataset is gone"),
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
    with pytest.raises(ValueError, match="packing"):
        arguments(tmp_path, **{name: True})


def test_a_processor_trains_in_full_precision(tmp_path):
    settings = arguments(tmp_path)
    assert settings.bf16 is False and settings.gradient_checkpointing is False and settings.report_to in ("none", [])


@pytest.mark.parametrize(("name", "kind"), [("single", "NO"), ("ddp", "MULTI_GPU"), ("fsdp", "FSDP")])
def test_accelerate_reads_the_recipes(name, kind):
    from accelerate.commands.config.config_args import load_config_from_file

    path = ROOT / "trainers" / "recipes" / "accelerate" / f"{name}.yaml"
    assert str(load_config_from_file(str(path)).distributed_type).endswith(kind)
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 25
