"""One result, however the work is cut: into smaller batches, over processes, or by a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file
from toy import (
    MODELS,
    TOKENIZER,
    StopAt,
    arguments,
    assert_same_weights,
    logged,
    ragged,
    script_of,
    toy_dataset,
    toy_model,
    trainer_of,
    two_processes,
    weights,
)
from transformers import TrainerCallback, set_seed

from onesearch.files import read_json, write_json
from onesearch.trainers.checkpoints import is_complete, last_complete_checkpoint

# Batches


@pytest.mark.parametrize(("kind", "optim"), [("bart", "sgd"), ("bart", "adamw_torch"), ("qwen3", "sgd")])
def test_accumulation_gives_the_loss_and_weights_of_one_large_batch(tmp_path, kind, optim):
    dataset = ragged(toy_dataset(64))
    results = []
    for batch, steps in ((32, 1), (8, 4)):
        model = MODELS[kind]()
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


# Kills


class KillAt(TrainerCallback):
    """Ends the process without a word: at the end of a step, or while a checkpoint is written."""

    def __init__(self, step, while_saving=False):
        self.step, self.while_saving = step, while_saving

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step and not self.while_saving:
            os.kill(os.getpid(), signal.SIGKILL)


def killed_trainer(folder, callbacks=None, kill_in_save=None):
    """Two epochs of four steps with a checkpoint every second step, dropout on.

    `kill_in_save`: (step, file) kills the process after the checkpoint of that step has got the file, and half of the next one.
    """
    set_seed(7)
    settings = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-3}
    settings |= {"lr_scheduler_type": "linear", "train_sampling_strategy": "group_by_length"}
    trainer = trainer_of(
        toy_model(dropout=0.1), folder, toy_dataset(60), per_device_train_batch_size=16, callbacks=callbacks, **settings
    )
    if kill_in_save is not None:
        step, method = kill_in_save
        original = getattr(trainer, method)

        def save_and_die(output_dir, *args):
            original(output_dir, *args)
            if trainer.state.global_step == step:
                newest = max(Path(output_dir).iterdir(), key=lambda path: path.stat().st_mtime_ns)
                with newest.open("r+b") as file:
                    file.truncate(newest.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)

        setattr(trainer, method, save_and_die)
    return trainer


def in_child(run):
    """Run in a forked process; True if it was killed."""
    child = os.fork()
    if child == 0:
        try:
            run()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child raised"
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    trainer = killed_trainer(tmp_path_factory.mktemp("whole"))
    trainer.train()
    assert trainer.state.global_step == 8
    return weights(trainer.model)


KILLS = [
    ({"callbacks": [KillAt(1)]}, None),  # before the first checkpoint
    ({"callbacks": [KillAt(5)]}, "checkpoint-4"),  # in the second epoch
    ({"kill_in_save": (4, "_save")}, "checkpoint-2"),  # half of the weights
    ({"kill_in_save": (4, "_save_rng_state")}, "checkpoint-2"),  # all but the trainer's state
    ({"kill_in_save": (2, "_save_optimizer_and_scheduler")}, None),
    ({"callbacks": [KillAt(8)]}, "checkpoint-6"),  # at the very end
]


@pytest.mark.parametrize(("kill", "found"), KILLS, ids=["1", "5", "weights-4", "rng-4", "optimizer-2", "8"])
def test_a_killed_training_ends_like_an_uninterrupted_one(tmp_path, uninterrupted, caplog, kill, found):
    """SIGKILL, then the same call again with `resume_from_checkpoint=True`."""
    assert in_child(lambda: killed_trainer(tmp_path, **kill).train(resume_from_checkpoint=True))
    caplog.clear()
    last = last_complete_checkpoint(tmp_path)
    assert (last and Path(last).name) == found
    assert ("half-written" in caplog.text) == ("kill_in_save" in kill)
    resumed = killed_trainer(tmp_path)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 8
    assert_same_weights(weights(resumed.model), uninterrupted, atol=0)


def test_a_half_written_checkpoint_by_name_is_an_error(tmp_path):
    trainer = killed_trainer(tmp_path)
    trainer.train()
    folder = tmp_path / "checkpoint-8"
    assert is_complete(folder)
    (folder / "trainer_state.json").write_text('{"epoch": 2.0, "glo')
    assert not is_complete(folder)
    with pytest.raises(ValueError, match="half-written.*True"):
        killed_trainer(tmp_path).train(resume_from_checkpoint=str(folder))
    assert Path(last_complete_checkpoint(tmp_path)).name == "checkpoint-6"


def run_killed(folder):
    """What the subprocess runs: slow steps, so that kills fall anywhere."""
    killed_trainer(folder).train(resume_from_checkpoint=True)
    (folder / "done").touch()


@pytest.mark.slow
def test_a_subprocess_killed_again_and_again_ends_like_an_uninterrupted_one(tmp_path, uninterrupted):
    """Killed from outside, whenever a new checkpoint begins to appear; then left alone."""
    command = [
        sys.executable,
        *script_of(
            tmp_path,
            f"import test_invariants; test_invariants.run_killed(pathlib.Path({str(tmp_path)!r}))",
            Path(__file__).parent,
        ),
    ]
    for wanted in (2, 4, 6):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while not (tmp_path / f"checkpoint-{wanted}").exists() and process.poll() is None:
            time.sleep(0.001)
        process.kill()
        process.wait()
        assert process.returncode == -signal.SIGKILL and not (tmp_path / "done").exists()
    finished = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert finished.returncode == 0 and (tmp_path / "done").exists(), finished.stderr[-4000:]
    assert_same_weights(load_file(tmp_path / "checkpoint-8" / "model.safetensors"), on_disk(uninterrupted), atol=0)


def on_disk(state):
    """Without the tied copies."""
    return {name: tensor for name, tensor in state.items() if "embed_tokens" not in name and name != "lm_head.weight"}


# Processes


def train_uneven(folder: Path, processes: int, kind: str = "bart", **changes) -> None:
    """What each process runs; leaves weights and log in `folder`.

    Neither the 70 training rows nor the 11 evaluation rows divide by the batch: what fills up the last batches must not count.
    """
    calls = []

    def metrics(model):
        calls.append(model)
        return {"hr@10": 0.25}

    trainer = trainer_of(
        MODELS[kind](),
        folder,
        ragged(toy_dataset(70)),
        eval_dataset=ragged(toy_dataset(11, seed=5)),
        retrieval_metrics=metrics if "fsdp" not in changes else None,
        **{
            "per_device_train_batch_size": 16 // processes,
            "gradient_accumulation_steps": 2,
            "num_train_epochs": 1,
            "learning_rate": 1e-3,
            "train_sampling_strategy": "group_by_length",
            "eval_strategy": "epoch",
            "per_device_eval_batch_size": 4,
            **changes,
        },
    )
    assert trainer.accelerator.num_processes == processes
    trainer.train()
    trainer.save_model(str(folder))
    main = trainer.is_world_process_zero()
    assert trainer.retrieval_metrics is None or len(calls) == (1 if main else 0)  # searched once, not once per process
    if main:
        write_json(folder / "log.json", trainer.state.log_history)


def assert_same_runs(one: Path, two: Path, steps: int) -> None:
    logs = [read_json(folder / "log.json") for folder in (one, two)]
    for key, places in (("loss", steps), ("grad_norm", steps), ("eval_loss", 1)):
        values = [[entry[key] for entry in log if key in entry] for log in logs]
        assert len(values[0]) == places and values[0] == pytest.approx(values[1], abs=2e-4), key
    # Attention does not depend on the bias of its keys: the gradient there is rounding, which Adam scales up to steps of any direction.
    first, second = (
        {name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if not name.endswith("k_proj.bias")}
        for folder in (one, two)
    )
    assert_same_weights(first, second, atol=5e-5)


def test_two_processes_train_like_one(tmp_path):
    """Under torchrun (`accelerate launch --cpu --num_processes 2` quietly starts one process)."""
    one, two = tmp_path / "one", tmp_path / "two"
    train_uneven(one, 1)
    two.mkdir()
    call = f"import test_invariants; test_invariants.train_uneven(pathlib.Path({str(two)!r}), 2)"
    finished = two_processes(two, call, Path(__file__).parent)
    assert finished.returncode == 0, finished.stderr[-4000:]
    assert_same_runs(one, two, steps=3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_a_sharded_step_is_a_whole_one(tmp_path, kind):
    """FSDP2: the head reads gathered rows, and the tied embedding stays one parameter."""
    call = f"import sharded; sharded.compare({kind!r}, {str(tmp_path / 'run')!r})"
    finished = two_processes(tmp_path, call, Path(__file__).parent)
    assert finished.returncode == 0, finished.stderr[-4000:]


@pytest.mark.slow
def test_fsdp_that_accelerate_would_not_do_is_an_error(tmp_path):
    call = f"import test_invariants; test_invariants.train_uneven(pathlib.Path({str(tmp_path)!r}), 2, fsdp=True)"
    finished = two_processes(tmp_path, call, Path(__file__).parent)
    assert finished.returncode != 0 and "FSDP is set, but Accelerate shards" in finished.stderr


def distil_uneven(folder: Path, processes: int, kind: str) -> None:
    """All terms of self-distillation over 70 rows; no dropout, which no two processes draw alike."""
    from onesearch import SidDistillationConfig, SidDistillationTrainer

    sharp = {"bart": {"init_std": 0.1}, "qwen3": {"initializer_range": 0.1}}[kind]
    settings = {"per_device_train_batch_size": 16 // processes, "gradient_accumulation_steps": 2, "num_train_epochs": 1}
    trainer = SidDistillationTrainer(
        model=MODELS[kind](**sharp),
        args=arguments(folder, SidDistillationConfig, teacher_ce_weight=0.5, r_drop_weight=0.0, learning_rate=1e-3, **settings),
        train_dataset=ragged(toy_dataset(70, teacher=True)),
        eval_dataset=toy_dataset(8),
        processing_class=TOKENIZER,
    )
    trainer.train()
    trainer.evaluate()
    trainer.save_model(str(folder))
    if trainer.is_world_process_zero():
        write_json(folder / "log.json", trainer.state.log_history)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_two_processes_distil_like_one(tmp_path, kind):
    one, two = tmp_path / "one", tmp_path / "two"
    distil_uneven(one, 1, kind)
    two.mkdir()
    call = f"import test_invariants; test_invariants.distil_uneven(pathlib.Path({str(two)!r}), 2, {kind!r})"
    finished = two_processes(two, call, Path(__file__).parent)
    assert finished.returncode == 0, finished.stderr[-4000:]
    assert_same_runs(one, two, steps=3)
    logs = [read_json(folder / "log.json") for folder in (one, two)]
    for term in ("ce", "kl", "adversarial_ce", "teacher_ce"):
        values = [[entry[term] for entry in log if term in entry] for log in logs]
        assert len(values[0]) == 3 and values[0] == pytest.approx(values[1], rel=1e-3), term
