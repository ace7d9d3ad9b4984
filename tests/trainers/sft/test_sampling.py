"""Batches of alike length, in any order, and the watch over the encoder."""

from __future__ import annotations

import logging

import numpy as np
from toy import MODELS, logged, toy_dataset, toy_model, trainer_of

from onesearch.trainers.prompt_watch import ALIKE
from onesearch.trainers.sft.length_sampler import LengthSampler

LENGTHS = np.random.default_rng(0).integers(1, 60, 1003)


def batches_of(sampler):
    order = np.array(list(sampler))
    return [order[start : start + sampler.batch_size] for start in range(0, len(order), sampler.batch_size)]


def test_every_example_comes_once_an_epoch():
    sampler = LengthSampler(LENGTHS, 10, seed=3)
    assert len(sampler) == 1003
    assert sorted(sampler) == list(range(1003))


def test_batches_are_of_alike_length_and_the_odd_one_is_last():
    spans = {}
    for group in (1, 4, 50):
        *whole, last = batches_of(LengthSampler(LENGTHS, 10, seed=3, group=group))
        assert len(last) == 3 and {len(batch) for batch in whole} == {10}
        spans[group] = np.mean([np.ptp(LENGTHS[batch]) for batch in whole])
    assert spans[50] < 3 < spans[4] < 20 < 40 < spans[1]


def test_batches_do_not_come_sorted():
    """Sorted ones teach the tasks one after the other; less is learned so."""
    means = np.array([LENGTHS[batch].mean() for batch in batches_of(LengthSampler(LENGTHS, 10, seed=3))[:-1]])
    falling = np.mean(np.diff(means) <= 0)
    assert 0.35 < falling < 0.65
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.3


def test_the_order_depends_on_seed_and_epoch_alone():
    first, again, other = (LengthSampler(LENGTHS, 10, seed=seed) for seed in (3, 3, 4))
    assert list(first) == list(again) == list(first) != list(other)
    again.set_epoch(1)
    assert list(again) != list(first)
    again.set_epoch(0)
    assert list(again) == list(first)


def test_logs_say_how_much_the_prompts_tell(tmp_path):
    trainer = trainer_of(toy_model(), tmp_path, toy_dataset(64), max_steps=2)
    trainer.train()
    assert all(spread > ALIKE for spread in logged(trainer, "prompt_spread"))
    assert len(logged(trainer, "prompt_spread")) == len(logged(trainer, "loss")) > 0
    assert not trainer.model.get_encoder()._forward_hooks


def test_an_encoder_that_says_nothing_is_reported_once(tmp_path, caplog):
    model = toy_model()
    norm = model.get_encoder().layers[-1].final_layer_norm
    norm.weight.data.zero_()
    norm.bias.data.fill_(1.0)
    trainer = trainer_of(model, tmp_path, toy_dataset(64), max_steps=3, learning_rate=1e-6)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert max(logged(trainer, "prompt_spread")) < ALIKE
    assert caplog.text.count("ignores its prompts") == 1


def test_a_causal_model_has_no_encoder_to_watch(tmp_path):
    trainer = trainer_of(MODELS["qwen3"](), tmp_path, toy_dataset(32), max_steps=1)
    trainer.train()
    assert not [entry for entry in trainer.state.log_history if "prompt_spread" in entry]
