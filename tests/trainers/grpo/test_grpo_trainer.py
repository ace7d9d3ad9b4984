"""Group-relative policy optimisation on the toy language: it learns, and its numbers are those of the search."""

from __future__ import annotations

import copy
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from toy import (
    CODES,
    LEVELS,
    TOKENIZER,
    StopAt,
    assert_same_weights,
    logged,
    toy_causal_model,
    toy_model,
    toy_rows,
    two_processes,
    weights,
)
from transformers import set_seed
from trl import GRPOConfig

from onesearch import SidGRPOConfig, SidGRPOTrainer, SidLoraConfig
from onesearch.files import read_json, write_json
from onesearch.trainers.grpo.reward_mix import RewardMix, with_preset
from onesearch.trainers.grpo.rewards import PrefixReward, WeighedReward
from onesearch.trainers.lora import lora_config

TEXTS, SIDS = toy_rows(96, seed=0)
OTHERS = [[*sid[:-1], (sid[-1] + 1) % CODES] for sid in toy_rows(120, seed=1)[1]]
CATALOGUE = np.unique(np.array([*SIDS, *toy_rows(120, seed=1)[1], *OTHERS]), axis=0)
MODELS = {"bart": toy_model, "qwen3": toy_causal_model}
PREFIX = RewardMix(model=0.0, prefix=1.0)


def requests(rows=96):
    return Dataset.from_dict(
        {
            "input_ids": TOKENIZER.encode_prompts(TEXTS[:rows]),
            "targets": [list(sid) for sid in SIDS[:rows]],
            "target_kinds": [[0]] * rows,
        }
    )


def policy(kind="bart", **changes):
    return MODELS[kind](codes=CATALOGUE, **changes)


def trainer_of(
    folder, model=None, rewards=PREFIX, dataset=None, eval_dataset=None, callbacks=None, peft_config=None, **changes
):
    settings = {
        "output_dir": str(folder),
        "use_cpu": True,
        "per_device_train_batch_size": 64,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "max_steps": 2,
    }
    preset = changes.pop("preset", None)
    values = {**settings, **changes}
    args = SidGRPOConfig(**values) if preset is None else SidGRPOConfig.of_preset(preset, **values)
    return SidGRPOTrainer(
        model=policy() if model is None else model,
        args=args,
        train_dataset=requests() if dataset is None else dataset,
        rewards=rewards,
        eval_dataset=eval_dataset,
        processing_class=copy.deepcopy(TOKENIZER),
        callbacks=callbacks,
        peft_config=peft_config,
    )


def candidates(trainer, model, inputs):
    """Log-probabilities of the codes of a batch, as the loss reads them: (rollouts, levels)."""
    trainer._batch = inputs
    return trainer._get_per_token_logps_and_entropies(model, compute_entropy=True)


def scored(trainer, rows=2):
    """Scored rollouts of the first requests."""
    trainer.model.train()
    group = trainer.num_generations
    return trainer._prepare_inputs([trainer.train_dataset[row // group] for row in range(rows * group)])


@pytest.mark.parametrize("kind", MODELS)
def test_the_policy_learns_and_its_best_sids_stay_apart(tmp_path, kind):
    """The reward of the policy's own ten best rises, the KL stays bounded, and the best SIDs do not become few."""
    changes = {"expert_sids": 1, "beta": 0.005, "learning_rate": 3e-3, "max_steps": 40}
    trainer = trainer_of(tmp_path, policy(kind), eval_dataset=requests(32), **changes)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert after["eval_reward"] > before["eval_reward"] + 0.05
    assert after["eval_distinct_sids"] >= before["eval_distinct_sids"]
    assert all(-1e-6 < value < 5 for value in logged(trainer, "kl")) and logged(trainer, "kl")[0] == pytest.approx(0, abs=1e-6)
    assert all(0 <= value <= 1 for value in logged(trainer, "frac_reward_zero_std"))
    assert trainer.model.generation_config.eos_token_id is None  # `generate` still ends a SID by its length


@pytest.mark.parametrize("kind", MODELS)
def test_log_probabilities_are_those_of_the_search_and_move_with_their_own_prefix_alone(tmp_path, kind):
    """Editing a later code moves no earlier one. On TRL's own trainer it does; see the next test."""
    model = policy(kind, **({"init_std": 0.4} if kind == "bart" else {"initializer_range": 0.4}))
    trainer = trainer_of(tmp_path, model, beta=0.1)
    batch = scored(trainer)
    found, entropy, _ = candidates(trainer, trainer.model, batch)
    wanted = model.score_sids(batch["prompts"]["input_ids"], batch["sids"], batch["prompts"]["attention_mask"])
    torch.testing.assert_close(found.view(wanted.shape), wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(batch["ref_per_token_logps"], found.detach(), atol=1e-5, rtol=0)  # before the first step
    assert (entropy >= 0).all() and found.requires_grad

    siblings = next(  # two SIDs of the catalogue that differ in their last code alone
        (one, other) for one in CATALOGUE for other in CATALOGUE if (one[:-1] == other[:-1]).all() and one[-1] != other[-1]
    )
    pair = torch.tensor(np.stack(siblings))[None].expand(2, -1, -1)
    edited, _, _ = candidates(trainer, trainer.model, {**batch, "sids": pair})
    edited = edited.view(2, 2, LEVELS)
    assert torch.equal(edited[:, 0, :-1], edited[:, 1, :-1]) and not torch.equal(edited[:, 0, -1], edited[:, 1, -1])


def test_on_trls_trainer_a_later_code_moves_an_earlier_one():
    """The reason for this trainer: with TRL's, an encoder-decoder of transformers reads the answer in its encoder."""
    from transformers import BartConfig, BartForConditionalGeneration
    from trl import GRPOTrainer

    sizes = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    sizes |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "max_position_embeddings": 64, "init_std": 0.4}
    torch.manual_seed(0)
    model = BartForConditionalGeneration(BartConfig(vocab_size=len(TOKENIZER), **sizes)).eval()
    stock = GRPOTrainer(
        model=model,
        reward_funcs=lambda completions, **kwargs: [0.0] * len(completions),
        args=GRPOConfig(output_dir="unused", use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none"),
        train_dataset=Dataset.from_dict({"prompt": TEXTS[:8]}),
        processing_class=copy.deepcopy(TOKENIZER),
    )
    prompt = torch.tensor(TOKENIZER.encode_prompts(TEXTS[:1]))
    sids = torch.from_numpy(TOKENIZER.sids_to_ids(np.array([SIDS[0], [*SIDS[0][:-1], (SIDS[0][-1] + 1) % CODES]])))
    ids = torch.cat([prompt.expand(2, -1), sids], dim=1)
    found, _, _ = stock._get_per_token_logps_and_entropies(stock.model, ids, torch.ones_like(ids), LEVELS)
    assert not torch.allclose(found[0, :-1], found[1, :-1], atol=1e-3)


def test_a_prompt_is_read_once_for_its_whole_group(tmp_path):
    trainer = trainer_of(tmp_path, beta=0.0)
    batch = scored(trainer, rows=3)
    rows = []
    hook = trainer.model.get_encoder().register_forward_hook(
        lambda module, args, kwargs, out: rows.append(len(out[0])), with_kwargs=True
    )
    candidates(trainer, trainer.model, batch)
    hook.remove()
    assert rows == [3] and len(batch["completion_ids"]) == 3 * trainer.num_generations


def test_one_step_with_trls_own_settings(tmp_path):
    """TRL's learning rate, batch, group, KL and dropout; on a machine without an accelerator also float32."""
    stock = GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False)
    names = (
        "learning_rate",
        "per_device_train_batch_size",
        "num_generations",
        "beta",
        "loss_type",
        "disable_dropout",
        "logging_steps",
    )
    args = SidGRPOConfig(output_dir=str(tmp_path), use_cpu=True, max_steps=1, **{name: getattr(stock, name) for name in names})
    model = policy()
    before = weights(model)
    trainer = SidGRPOTrainer(
        model=model, args=args, train_dataset=requests(8), rewards=PREFIX, processing_class=copy.deepcopy(TOKENIZER)
    )
    assert trainer.train().global_step == 1 and trainer.ref_model is None
    assert any(not torch.equal(tensor, before[name]) for name, tensor in weights(model).items())


def test_the_loss_is_trls_formula_with_clipping_and_a_kl_to_the_reference(tmp_path):
    """By hand: −min(ρA, clip(ρ)A) + β·KL with KL = e^d − d − 1 times ρ, mean over codes and SIDs."""
    trainer = trainer_of(tmp_path, beta=0.3, epsilon=0.1)
    batch = scored(trainer)
    now, _, _ = candidates(trainer, trainer.model, batch)
    noise = 0.3 * torch.randn(now.shape, generator=torch.Generator().manual_seed(3))
    batch |= {"old_per_token_logps": now.detach() + noise, "ref_per_token_logps": now.detach() - noise}
    trainer.current_gradient_accumulation_steps = 1
    loss = trainer._compute_loss(trainer.model, batch)
    ratio, own = torch.exp(-noise), batch["advantages"][:, None]
    policy_part = -torch.minimum(ratio * own, ratio.clamp(0.9, 1.1) * own)
    kl = (torch.exp(-noise) + noise - 1) * ratio
    torch.testing.assert_close(loss.detach(), (policy_part + 0.3 * kl).mean(), atol=1e-6, rtol=1e-5)
    assert own.unique().numel() > 2


def test_the_supervised_loss_of_the_first_target_is_added(tmp_path):
    plain, anchored = (trainer_of(tmp_path, beta=0.0, sft_weight=weight) for weight in (0.0, 0.5))
    losses = []
    for trainer in (plain, anchored):
        trainer.current_gradient_accumulation_steps = 1
        losses.append(trainer._compute_loss(trainer.model, scored(trainer)).detach())
    batch = scored(anchored)
    targets = torch.tensor(SIDS[:2])[:, None]
    nll = -anchored.model.score_sids(batch["prompts"]["input_ids"], targets, batch["prompts"]["attention_mask"]).mean()
    torch.testing.assert_close(losses[1] - losses[0], 0.5 * nll, atol=1e-5, rtol=1e-5)


def test_presets_train(tmp_path):
    """SPO takes the beam and adds two rewards; TPMA gives every position its own advantage, times its gate."""
    mix, _ = with_preset("spo", {"model": 0.0, "item": 1.0}, {})
    spo = trainer_of(tmp_path, preset="spo", rewards=mix)
    batch = scored(spo)
    best, _ = spo.model.search_sids(batch["prompts"]["input_ids"], batch["prompts"]["attention_mask"], spo.num_generations)
    assert torch.equal(batch["sids"], best) and spo.beta > 0
    spo.train()

    mix, _ = with_preset("tpma", {"ctr": 0.0, "relevance": 0.0, "item_weight": 0.5}, {})
    tpma = trainer_of(tmp_path, preset="tpma", rewards=mix, expert_sids=1)
    batch = scored(tpma)
    advantages, sids = batch["advantages"].view(2, 4, LEVELS), batch["sids"]
    matched = (sids == torch.tensor(SIDS[:2])[:, None]).float().cumsum(-1)[..., :-1] / torch.arange(1, LEVELS)
    assert (advantages[..., 1:][matched == 0] == 0).all()  # behind no matching code the gate is shut
    assert (advantages[..., 0] != 0).any() and tpma.ref_model is None and tpma.args.sft_weight == 0.1
    tpma.train()
    assert all(np.isfinite(value) for value in logged(tpma, "loss"))


def test_rewards_of_ones_own_take_part_by_name_and_a_wrong_shape_is_refused(tmp_path):
    def first_code_even(rollouts):
        return (rollouts.codes[..., 0] % 2 == 0).float()

    own = [WeighedReward("even", 1.0, first_code_even), WeighedReward("prefix", 0.5, PrefixReward())]
    trainer = trainer_of(tmp_path, rewards=own, learning_rate=3e-3, max_steps=25)
    trainer.train()
    assert np.mean(logged(trainer, "rewards/even")[-5:]) > np.mean(logged(trainer, "rewards/even")[:5]) + 0.1
    wrong = trainer_of(tmp_path, rewards=[WeighedReward("odd", 1.0, lambda rollouts: torch.zeros(3))])
    with pytest.raises(ValueError, match=r"the reward 'odd' has shape \(3,\); expected \(8, 8\)"):
        wrong.train()


def test_several_steps_use_one_generation_with_the_ratios_of_the_policy_that_drew_it(tmp_path):
    trainer = trainer_of(tmp_path, num_iterations=2, steps_per_generation=2, max_steps=4, learning_rate=3e-3, beta=0.0)
    seen = []
    generate = trainer._generate_and_score_completions
    trainer._generate_and_score_completions = lambda rows: seen.append(generate(rows)) or seen[-1]
    trainer.train()
    assert len(seen) == 1 and seen[0]["sids"].shape[0] == 16  # two batches of eight groups, each used twice
    assert "old_per_token_logps" in seen[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rollouts": "greedy"}, "rollouts='greedy': allowed are 'sample' and 'beam'"),
        ({"per_device_train_batch_size": 12, "steps_per_generation": 2}, "must be divisible by num_generations=8"),
        ({"expert_sids": -1}, "expert_sids=-1"),
        ({"beta": float("nan")}, "beta=nan"),
        ({"use_vllm": True}, "use_vllm"),
        ({"num_iterations": 2, "save_strategy": "steps", "save_steps": 3}, "falls between two generations"),
        ({"gradient_accumulation_steps": 4, "steps_per_generation": 2}, "must divide"),
        ({"sid_softmax": "vocabulary"}, "sid_softmax='vocabulary'"),
        ({"preset": "ppo"}, "preset='ppo' is unknown"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        trainer_of(tmp_path, **changes)


def test_what_cannot_be_trained_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has 4 requests, and one generation of rollouts takes 8"):
        trainer_of(tmp_path, dataset=requests(4))
    with pytest.raises(ValueError, match="no item index"):
        trainer_of(tmp_path, model=toy_model())
    with pytest.raises(TypeError, match="pass a loaded model"):
        trainer_of(tmp_path, model="checkpoint")
    with pytest.raises(ValueError, match="need a reward model, and there is none"):
        trainer_of(tmp_path, rewards=RewardMix())
    with pytest.raises(ValueError, match="give input_ids, or prompt texts"):
        trainer_of(tmp_path, dataset=requests(8).remove_columns("input_ids"))
    texts = requests(8).remove_columns("input_ids").add_column("prompt", TEXTS[:8])
    assert trainer_of(tmp_path, dataset=texts, max_steps=1).train().global_step == 1


# Adapters


@pytest.mark.parametrize("kind", MODELS)
def test_an_adapter_trains_against_the_model_without_it(tmp_path, kind):
    model = policy(kind)
    before = weights(model)
    trainer = trainer_of(
        tmp_path,
        model,
        peft_config=lora_config(SidLoraConfig(r=4, dropout=0.0), model),
        learning_rate=3e-3,
        beta=0.1,
        expert_sids=1,
    )
    trainer.train()
    assert trainer.ref_model is None and logged(trainer, "kl")[0] == pytest.approx(0, abs=1e-6) and logged(trainer, "kl")[1] > 0
    trained = {name: tensor for name, tensor in trainer.model.named_parameters() if tensor.requires_grad}
    assert trained and all("lora" in name or "token" in name for name in trained)
    batch = scored(trainer)
    with trainer.model.disable_adapter():
        original, _, _ = candidates(trainer, trainer.model, batch)
    torch.testing.assert_close(batch["ref_per_token_logps"], original, atol=1e-6, rtol=0)
    merged = trainer.model.merge_and_unload()
    assert any(not torch.equal(tensor, before[name]) for name, tensor in weights(merged).items())
    trainer.save_model(str(tmp_path / "adapter"))
    assert (tmp_path / "adapter" / "sid_index.safetensors").is_file()


# One result, however the work is cut


def resumable(folder, callbacks=None):
    """Two epochs with a checkpoint every second step."""
    set_seed(7)
    settings = {"num_train_epochs": 2, "max_steps": -1, "save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-3}
    settings |= {"lr_scheduler_type": "linear", "num_generations": 4, "expert_sids": 1}
    return trainer_of(folder, policy(), dataset=requests(64), callbacks=callbacks, **settings)


def test_a_resumed_training_ends_like_an_uninterrupted_one_bit_by_bit(tmp_path):
    whole = resumable(tmp_path / "whole")
    whole.train()
    stopped = resumable(tmp_path / "cut", [StopAt(4)])
    stopped.train()
    resumed = resumable(tmp_path / "cut")
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == whole.state.global_step == 8
    assert logged(resumed, "reward")[-4:] == logged(whole, "reward")[-4:]
    assert_same_weights(weights(whole.model), weights(resumed.model), atol=0)


@pytest.mark.slow
def test_a_killed_training_ends_like_an_uninterrupted_one(tmp_path):
    """SIGKILL within a step after the second checkpoint, then the same call again."""
    whole = resumable(tmp_path / "whole")
    whole.train()
    child = os.fork()
    if child == 0:
        trainer = resumable(tmp_path / "cut")
        generate = trainer._generate_and_score_completions

        def generate_or_die(rows):
            if trainer.state.global_step == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return generate(rows)

        trainer._generate_and_score_completions = generate_or_die
        trainer.train()
        os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    resumed = resumable(tmp_path / "cut")
    resumed.train(resume_from_checkpoint=True)
    assert_same_weights(weights(whole.model), weights(resumed.model), atol=0)


def train_shared(folder: Path, processes: int) -> None:
    """What each process runs: the same requests, groups and seeds, however many processes share them."""
    trainer = trainer_of(
        folder,
        policy(),
        max_steps=3,
        per_device_train_batch_size=64 // processes,
        learning_rate=1e-3,
        expert_sids=1,
        sft_weight=0.1,
    )
    trainer.train()
    trainer.save_model(str(folder))
    if trainer.is_world_process_zero():
        write_json(folder / "log.json", trainer.state.log_history)


def test_two_processes_train_like_one(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    train_shared(one, 1)
    two.mkdir()
    call = f"import test_grpo_trainer; test_grpo_trainer.train_shared(pathlib.Path({str(two)!r}), 2)"
    finished = two_processes(two, call, Path(__file__).parent)
    assert finished.returncode == 0, finished.stderr[-4000:]
    logs = [read_json(folder / "log.json") for folder in (one, two)]
    for key in ("loss", "grad_norm", "reward", "kl", "distinct_sids", "frac_reward_zero_std", "sft_loss"):
        values = [[entry[key] for entry in log if key in entry] for log in logs]
        assert len(values[0]) == 3 and values[0] == pytest.approx(values[1], abs=2e-4), key
    # Attention does not depend on the bias of its keys: the gradient there is rounding, which Adam scales up to steps of any direction.
    first, second = (
        {name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if not name.endswith("k_proj.bias")}
        for folder in (one, two)
    )
    assert_same_weights(first, second, atol=5e-5)
