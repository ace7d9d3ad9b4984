"""The joint trainer: one result however the batch is cut, over processes, and after a kill; Semantic IDs that move together."""

from __future__ import annotations

import math
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from joint import joint_trainer
from safetensors.torch import load_file
from toy import assert_same_weights, logged, script_of, torchrun, weights
from transformers import TrainerCallback

from onesearch.trainers.checkpoints import last_complete_checkpoint
from onesearch.trainers.unisearch.unisearch_config import NegativeSchedule


class Step:
    """Gradients of one training step in a phase, without an optimiser."""

    def __init__(self, trainer, step):
        trainer.create_optimizer()
        trainer.state.max_steps, trainer.state.global_step = 8, step
        trainer.current_gradient_accumulation_steps = 1
        trainer.callback_handler.callbacks[-2].on_train_begin(trainer.args, trainer.state, trainer.control)
        trainer.model.zero_grad()
        self.loss = trainer.training_step(trainer.model, {"rows": torch.arange(12)})
        self.gradients = {name: part.grad for name, part in trainer.model.named_parameters() if part.grad is not None}


def test_cached_gradients_are_those_of_the_whole_batch(shared_run, tmp_path):
    """GradCache: parts of 5 rows of a batch of 12, in the joint phase."""
    steps = []
    for rows in (0, 5):
        trainer = joint_trainer(shared_run.root, tmp_path, settings={"cache_rows": rows})
        steps.append(Step(trainer, 4))
    one, two = steps
    assert float(one.loss) == pytest.approx(float(two.loss), abs=1e-5)
    assert set(one.gradients) == set(two.gradients) and any("item_encoder" in name for name in one.gradients)
    for name, gradient in one.gradients.items():
        torch.testing.assert_close(gradient, two.gradients[name], atol=2e-6, rtol=1e-3, msg=name)


def test_the_token_loss_stops_before_the_item_encoder(shared_run, tmp_path):
    """Without contrast and codebook losses the item encoder has no gradient, unless the switch lets the token loss through."""
    alone = {"contrast_weight": 0.0, "codebook_weight": 0.0, "warm_up": 0.0}
    norms = []
    for stop in (True, False):
        step = Step(joint_trainer(shared_run.root, tmp_path, settings={**alone, "stop_gradient": stop}), 4)
        norms.append(sum(float(part.abs().sum()) for name, part in step.gradients.items() if "item_encoder" in name))
    assert norms[0] == 0 and norms[1] > 0


@pytest.fixture(scope="module")
def uninterrupted(shared_run, tmp_path_factory):
    trainer = joint_trainer(shared_run.root, tmp_path_factory.mktemp("whole"), dropout=0.1, save_strategy="steps", save_steps=2)
    trainer.train()
    return trainer


def test_targets_histories_index_and_bank_change_together(uninterrupted):
    trainer, sids = uninterrupted, uninterrupted.sids
    examples, index = trainer.examples, trainer.base.sid_index
    item_ids = examples.views.logs.item_ids.tolist()
    assert np.array_equal(index.codes_of(item_ids), sids.codes)
    assert np.array_equal(examples.views.item_sids, sids.codes)
    assert np.array_equal(examples.tokenizer.ids_to_sids(examples.targets), sids.codes)
    assert [entry["sid_step"] for entry in trainer.state.log_history if "sid_step" in entry] == [0, 2, 3, 6]
    assert logged(trainer, "churn") and all(0 <= share <= 1 for share in logged(trainer, "churn"))
    assert all(math.isfinite(loss) for loss in logged(trainer, "loss"))
    steps = [entry["step"] for entry in trainer.state.log_history if "loss" in entry]
    assert {2, 3, 6} <= set(steps)  # a refresh at a logging step does not take the place of its loss


class KillAt(TrainerCallback):
    """Ends the process without a word at the end of a step."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_training_ends_like_an_uninterrupted_one(shared_run, uninterrupted, tmp_path):
    """SIGKILL behind a checkpoint whose Semantic IDs are not those of its weights; dropout is on."""
    settings = {"dropout": 0.1, "save_strategy": "steps", "save_steps": 2}
    child = os.fork()
    if child == 0:
        try:
            joint_trainer(shared_run.root, tmp_path, callbacks=[KillAt(5)], **settings).train()
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert Path(last_complete_checkpoint(tmp_path)).name == "checkpoint-4"
    resumed = joint_trainer(shared_run.root, tmp_path, **settings)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 8
    assert_same_weights(weights(resumed.model), weights(uninterrupted.model), atol=0)
    assert np.array_equal(resumed.sids.codes, uninterrupted.sids.codes)
    assert torch.equal(resumed.sids.bank, uninterrupted.sids.bank)


def train_in(market_folder, folder, processes):
    """What each process runs: the same examples in each step, however many processes share them."""
    batch = {"per_device_train_batch_size": 16 // processes, "train_sampling_strategy": "sequential"}
    # Adam scales up gradients that are rounding; larger steps bring vectors to borders between codes, where rounding decides.
    batch |= {"optim": "sgd", "learning_rate": 0.01}
    settings = {"negatives": NegativeSchedule(memory=0, category=0, prefix=0, beam=0), "codebook_start": "random"}
    trainer = joint_trainer(market_folder, folder, settings=settings, **batch)
    assert trainer.accelerator.num_processes == processes
    trainer.train()
    trainer.save_model(str(folder))


def test_two_processes_train_like_one(shared_run, tmp_path):
    """Negatives are gathered: each query of a process is compared with the items of both."""
    one, two = tmp_path / "one", tmp_path / "two"
    train_in(shared_run.root, one, 1)
    two.mkdir()
    call = f"import test_unisearch_trainer; test_unisearch_trainer.train_in({str(shared_run.root)!r}, pathlib.Path({str(two)!r}), 2)"
    script = script_of(two, call, Path(__file__).parent, Path(__file__).parents[2])
    finished = subprocess.run([*torchrun(2), *script], capture_output=True, text=True, timeout=500)
    assert finished.returncode == 0, finished.stderr[-4000:]
    first, second = (
        {name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if "bias" not in name}
        for folder in (one, two)
    )
    assert_same_weights(first, second, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"freeze": 0.5, "momentum": 0.5, "level_input": "partial"},
        {"two_stage": True, "freeze": 0.5},
        {"quantizer": "vq", "codebook_start": "random", "bound": "ball", "residual": "none"},
        {
            "quantised_weight": 0.5,
            "gradient": "rotation",
            "stop_gradient": False,
            "coarse_to_fine": False,
            "residual": "codes",
            "refit": 0,
            "level_input": "own",
        },
    ],
    ids=["freeze and momentum", "two stages", "plain", "options"],
)
def test_options_train(shared_run, tmp_path, settings):
    trainer = joint_trainer(shared_run.root, tmp_path, settings=settings, max_steps=4)
    trainer.train()
    trainer.finish()
    assert all(math.isfinite(loss) for loss in logged(trainer, "loss"))
    frozen = not next(trainer.base.model.item_encoder.parameters()).requires_grad
    assert frozen == ("freeze" in settings)
    if frozen:
        again = trainer.catalogue.encode(trainer.base, trainer.accelerator, {})
        assert np.array_equal(again.codes, trainer.sids.codes)


@pytest.mark.slow
def test_it_trains_in_bf16(shared_run, tmp_path):
    trainer = joint_trainer(shared_run.root, tmp_path, bf16=True, max_steps=4)
    trainer.train()
    assert all(math.isfinite(loss) for loss in logged(trainer, "loss"))


def test_the_best_checkpoint_cannot_be_kept(shared_run, tmp_path):
    with pytest.raises(ValueError, match="load_best_model_at_end"):
        joint_trainer(
            shared_run.root,
            tmp_path,
            load_best_model_at_end=True,
            eval_strategy="steps",
            eval_steps=2,
            save_strategy="steps",
            save_steps=2,
        )
