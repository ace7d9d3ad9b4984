"""Adapters: what they train, what is refused, and three ways back to the same hits."""

from __future__ import annotations

import logging

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tiny import random_codes, tiny_index
from torch import nn
from toy import CODES, LEVELS, MODELS, TOKENIZER, StopAt, logged, toy_dataset, toy_model, toy_rows, trainer_of
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from onesearch import SidIndex, SidLoraConfig
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.trainers.lora import check_adapters, lora_config

PROMPTS = TOKENIZER.pad({"input_ids": TOKENIZER.encode_prompts(toy_rows(6, seed=4)[0])}, return_tensors="pt")
AUTO = {"bart": AutoModelForSeq2SeqLM, "qwen3": AutoModelForCausalLM}


def saved_base(kind, folder, index=True, **changes):
    """The model as it is loaded from its folder."""
    model = MODELS[kind](**changes)
    if index:
        model.set_sid_index(tiny_index(random_codes(40, [CODES] * LEVELS), [CODES] * LEVELS))
    model.save_pretrained(folder)
    return type(model).from_pretrained(folder)


CONFIG = SidLoraConfig(r=4, dropout=0.0)


def trained(kind, folder, config=CONFIG, steps=4, index=True, model_changes=None, **settings):
    """A trainer whose adapters moved far, and the folder of its base."""
    base = saved_base(kind, folder / "base", index, **(model_changes or {}))
    settings = {"max_steps": steps, "learning_rate": 3e-2, **settings}
    trainer = trainer_of(base, folder / "run", peft_config=lora_config(config, base), **settings)
    trainer.train()
    trainer.model.eval()
    return trainer


def hits_of(model):
    return [[(hit.item_id, hit.score) for hit in hits] for hits in model.eval().search(**PROMPTS, num_beams=12, top_k=8)]


def assert_same_hits(one, other):
    for first, second in zip(one, other, strict=True):
        assert [item for item, _ in first] == [item for item, _ in second]
        assert [score for _, score in first] == pytest.approx([score for _, score in second], abs=1e-4)


def is_tied(model):
    return model.get_output_embeddings().weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()


# What is trained


@pytest.mark.parametrize("kind", MODELS)
def test_an_adapter_trains_layers_and_sid_rows(tmp_path, kind):
    model = get_peft_model(MODELS[kind](), lora_config(SidLoraConfig(), MODELS[kind]()))
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    (delta,) = [name for name in names if "trainable_tokens" in name]
    rows = model.get_parameter(delta)
    assert rows.shape[0] == len(TOKENIZER) - TOKENIZER.sid_offset
    linears = {
        name for name, module in MODELS[kind]().named_modules() if isinstance(module, nn.Linear) and "lm_head" not in name
    }
    assert len(names) == 2 * len(linears) + 1 and not any("lm_head" in name for name in names)


@pytest.mark.parametrize("kind", MODELS)
def test_training_moves_sid_rows_alone_and_both_sides(tmp_path, kind):
    trainer = trained(kind, tmp_path, SidLoraConfig(r=8, dropout=0.0), steps=40, learning_rate=1e-2, dataset=toy_dataset(1280))
    losses = logged(trainer, "loss")
    assert min(losses[-5:]) < losses[0] - 0.03
    before = MODELS[kind]().get_input_embeddings().weight
    merged = trainer.model.merge_and_unload()
    after, offset = merged.get_input_embeddings().weight, TOKENIZER.sid_offset
    assert is_tied(merged) and torch.equal(before[:offset], after[:offset])
    assert (before[offset:] != after[offset:]).any(1).all()


def test_an_untied_head_learns_its_rows_too(tmp_path):
    trainer = trained("qwen3", tmp_path, model_changes={"tie_word_embeddings": False})
    expected = hits_of(trainer.model)
    trainer.save_model(str(tmp_path / "adapter"))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "adapter")
    assert_same_hits(hits_of(loaded), expected)
    merged = trainer.model.merge_and_unload()
    before = MODELS["qwen3"](tie_word_embeddings=False)
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        moved = (merged.get_parameter(name) != before.get_parameter(name)).any(1)
        assert moved[TOKENIZER.sid_offset :].any() and not moved[: TOKENIZER.sid_offset].any()


def test_the_wrapped_head_projects_slices_exactly():
    """Slices of the head under PEFT's wrapper are those of its output over the vocabulary, with the same gradients."""
    model = toy_model()
    wrapped = get_peft_model(model, lora_config(SidLoraConfig(), model))
    rows = [parameter for name, parameter in wrapped.named_parameters() if "trainable_tokens_delta" in name][0]
    with torch.no_grad():
        rows += torch.randn_like(rows)
    hidden = torch.randn(3, 64)
    for start, stop in (
        (0, len(TOKENIZER)),
        model.config.sid_slice(2),
        (TOKENIZER.sid_offset - 3, TOKENIZER.sid_offset + 5),
        (0, 7),
    ):
        part, whole = model.project(hidden, start, stop), model.lm_head(hidden)[..., start:stop]
        torch.testing.assert_close(part, whole)
        gradients = [torch.autograd.grad(logits.square().sum(), rows, allow_unused=True)[0] for logits in (part, whole)]
        torch.testing.assert_close(*[rows.new_zeros(rows.shape) if found is None else found for found in gradients])
        with wrapped.disable_adapter():
            torch.testing.assert_close(model.project(hidden, start, stop), toy_model().project(hidden, start, stop))
    calls = []
    model.lm_head.register_forward_hook(lambda *_: calls.append(1))
    model.project(hidden, *model.config.sid_slice(0))
    assert not calls


# What is refused


class WithExtra(nn.Module):
    """Stands for a freshly added part of the model."""

    def __init__(self):
        super().__init__()
        self.q_proj = nn.Linear(4, 4)


@pytest.mark.parametrize(
    ("kind", "name"), [("bart", "shared"), ("bart", "lm_head"), ("bart", "decoder"), ("qwen3", "embed_tokens")]
)
def test_copies_of_tied_weights_are_refused(tmp_path, kind, name):
    task = {"bart": "SEQ_2_SEQ_LM", "qwen3": "CAUSAL_LM"}[kind]
    config = LoraConfig(task_type=task, target_modules=["q_proj"], modules_to_save=[name])
    with pytest.raises(ValueError, match=f"modules_to_save names '{name}'.*trainable_token_indices"):
        trainer_of(MODELS[kind](), tmp_path, peft_config=config)
    wrapped = get_peft_model(MODELS[kind](), config)
    with pytest.raises(ValueError, match="modules_to_save names"):
        trainer_of(wrapped, tmp_path)
    native = MODELS[kind]()
    native.add_adapter(config)
    with pytest.raises(ValueError, match="modules_to_save names"):
        check_adapters(native)
    with pytest.raises(ValueError, match="modules_to_save names|no module"):
        lora_config(SidLoraConfig(extra_modules=(name,)), MODELS[kind]())


def test_freshly_added_modules_train_in_full():
    model = toy_model()
    model.model.extra = WithExtra()
    config = lora_config(SidLoraConfig(extra_modules=("extra",)), model)
    wrapped = get_peft_model(model, config)
    names = [name for name, parameter in wrapped.named_parameters() if parameter.requires_grad and "extra" in name]
    assert len(names) == 2 and all("modules_to_save" in name for name in names)
    with pytest.raises(ValueError, match="no module 'extras'"):
        lora_config(SidLoraConfig(extra_modules=("extras",)), toy_model())


def test_an_adapter_of_an_unsaved_base_is_warned_of(tmp_path, caplog):
    model = toy_model()
    with caplog.at_level(logging.WARNING):
        trainer_of(model, tmp_path, peft_config=lora_config(SidLoraConfig(), model))
    assert "never saved" in caplog.text


# Saving and loading


@pytest.mark.parametrize("kind", MODELS)
def test_three_ways_back_to_the_same_hits(tmp_path, kind):
    trainer = trained(kind, tmp_path)
    expected, adapter = hits_of(trainer.model), tmp_path / "adapter"
    trainer.save_model(str(adapter))
    base = AUTO[kind].from_pretrained(tmp_path / "base")
    assert [item for hits in hits_of(base) for item, _ in hits] != [item for hits in expected for item, _ in hits]
    loaded = PeftModel.from_pretrained(base, adapter)
    assert_same_hits(hits_of(loaded), expected)
    automatic = AUTO[kind].from_pretrained(adapter)
    assert_same_hits(hits_of(automatic), expected)
    assert_same_hits(hits_of(type(base).from_pretrained(adapter)), expected)
    merged = loaded.merge_and_unload()
    assert is_tied(merged)
    merged.save_pretrained(tmp_path / "merged")
    again = AUTO[kind].from_pretrained(tmp_path / "merged")
    assert is_tied(again)
    assert_same_hits(hits_of(merged), expected)
    assert_same_hits(hits_of(again), expected)


def test_the_adapter_s_index_wins_over_the_base_s(tmp_path):
    """A catalogue that changed after the base was saved, updates included."""
    trainer = trained("bart", tmp_path, index=False)
    index = tiny_index(
        random_codes(30, [CODES] * LEVELS, seed=8), [CODES] * LEVELS, item_ids=[f"new-{row}" for row in range(30)]
    )
    trainer.model.set_sid_index(index)
    trainer.model.get_base_model().search_config = SearchConfig(num_beams=3)
    expected, adapter = hits_of(trainer.model), tmp_path / "adapter"
    trainer.save_model(str(adapter))
    with pytest.raises(ValueError, match="no item index"):
        hits_of(AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "base"))
    loaded = AutoModelForSeq2SeqLM.from_pretrained(adapter)
    assert_same_hits(hits_of(loaded), expected)
    assert loaded.search_config == SearchConfig(num_beams=3)
    loaded = PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "base"), adapter)
    assert loaded.load_sid_index(adapter) and not loaded.load_sid_index(tmp_path / "base")
    assert_same_hits(hits_of(loaded), expected)
    best = expected[0][0][0]
    updated = SidIndex.load(adapter / "sid_index.safetensors")
    updated.remove_items([best])
    updated.save_updates(adapter / "sid_index.safetensors")
    found = hits_of(AutoModelForSeq2SeqLM.from_pretrained(adapter))
    assert best not in [item for item, _ in found[0]]


def test_checkpoints_hold_the_index_and_resume(tmp_path):
    settings = {"steps": 6, "learning_rate": 1e-3, "save_strategy": "steps", "save_steps": 3}
    trainer = trained("bart", tmp_path / "whole", **settings)
    folder = tmp_path / "whole" / "run" / "checkpoint-3"
    assert (folder / "sid_index.safetensors").is_file() and (folder / "adapter_model.safetensors").is_file()
    assert not (folder / "model.safetensors").exists()
    base = saved_base("bart", tmp_path / "base")
    resumed = trainer_of(
        base, tmp_path / "cut", peft_config=lora_config(SidLoraConfig(r=4, dropout=0.0), base), max_steps=6, learning_rate=1e-3
    )
    resumed.add_callback(StopAt(6))
    resumed.train(resume_from_checkpoint=str(folder))
    assert_same_hits(hits_of(resumed.model), hits_of(trainer.model))
