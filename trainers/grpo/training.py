"""A stage of group-relative policy optimisation in a run: requests of its market in, a better policy out."""

from __future__ import annotations

import numpy as np
from transformers import set_seed

from onesearch.data.requests import request_rows
from onesearch.files import RunFolder
from onesearch.views.reward.reward_folder import FOLDER_NAME as REWARD_NAME
from onesearch.views.reward.reward_folder import load_reward
from onesearch.views.session_views import LongViewTable, ViewTensors

from ..configs import TrainingConfig
from ..dpo.data.beam_lists import Requests
from ..dpo.plots import Panel
from ..dpo.policy_quality import TopTen, joined
from ..dpo.preference_config import PreferenceConfig, PreferenceStage
from ..dpo.training import StageMethod, checked_arguments, load_policy, mixed_requests, save_stage, train_preference_stage
from ..lora import lora_config
from ..preference.session_scores import SessionScorer
from ..reward.reward_config import RewardConfig
from ..run_inputs import load_inputs
from ..validation import retrieval_metrics
from .data import rollout_requests
from .grpo_config import SidGRPOConfig
from .grpo_trainer import SidGRPOTrainer
from .model_rewards import judged_grades
from .reward_mix import with_preset

PANELS: tuple[Panel, ...] = (
    ("Reward of the rollouts", "weighted sum", ("reward",)),
    ("Reward of the policy's own top ten", "reward model's score", ("eval_reward@10",)),
    ("KL from the reference", "nats per code", ("kl",)),
    ("Groups without signal, and distinct rollouts", "share", ("frac_reward_zero_std", "distinct_sids")),
    ("Different SIDs in the policy's own top ten", "SIDs over all validation requests", ("eval_distinct@10",)),
    ("Hit rate and relevance, generator alone", "share, cosine", ("eval_hr@10", "eval_mrr@10", "eval_relevance@10")),
)
"""Panels of the plots of a stage."""


def grpo_arguments(run: RunFolder, config: PreferenceConfig, number: int, progress: bool) -> SidGRPOConfig:
    """Settings of a stage's trainer; those of its preset, overridden by its own.

    Args:
        run: folder of the run.
        config: configuration of the stages.
        number: place of the stage in `config.stages`, from 0.
        progress: show progress bars.

    Raises:
        TypeError: a name in `arguments` is no field of the trainer's config.
        ValueError: a preset, a reward or a value is not allowed, or `max_steps` is missing.
    """
    stage = config.stages[number]
    _, arguments = with_preset(stage.preset, stage.rewards, stage.arguments)
    return checked_arguments(SidGRPOConfig, run, stage, arguments, progress)


def train_grpo_stage(
    run: RunFolder,
    training: TrainingConfig,
    config: PreferenceConfig,
    number: int,
    reward: RewardConfig | None = None,
    resume: bool = False,
    progress: bool = True,
) -> None:
    """Train one stage of group-relative policy optimisation; arguments, files and errors are those of `train_preference_stage`."""
    method = StageMethod(grpo_arguments, _train)
    train_preference_stage(run, training, config, number, reward, resume, progress, method)


def _train(
    run: RunFolder,
    training: TrainingConfig,
    config: PreferenceConfig,
    stage: PreferenceStage,
    arguments: SidGRPOConfig,
    resume: bool,
) -> None:
    """Train a stage and leave its weights in its folder; see `StageMethod`."""
    mix, _ = with_preset(stage.preset, stage.rewards, {})
    set_seed(arguments.seed)
    inputs = load_inputs(run, training)
    model, views = load_policy(run.checkpoint), inputs.builder.views
    scorer = SessionScorer.of_run(run, views.market, load_reward(run.checkpoint / REWARD_NAME), inputs.index)
    rows = request_rows(views.market, "train")
    random = np.random.default_rng([arguments.seed, 21])
    rows = np.sort(random.choice(rows, min(len(rows), config.requests), replace=False))
    requests = mixed_requests(rows, views, config.requests, stage.recombined, arguments.seed)
    shown = bool(mix.interaction and mix.feedback[2])
    held_out = request_rows(views.market, "validation")[: config.validation_requests]
    eval_dataset = rollout_requests(views, inputs.tokenizer, Requests(held_out, held_out), shown) if len(held_out) else None
    trainer = SidGRPOTrainer(
        model=model,
        args=arguments,
        train_dataset=rollout_requests(views, inputs.tokenizer, requests, shown),
        rewards=mix,
        scorer=scorer,
        grades=judged_grades(views.market) if mix.relevance else None,
        eval_dataset=eval_dataset,
        processing_class=inputs.tokenizer,
        retrieval_metrics=joined(
            retrieval_metrics(training, inputs), TopTen(held_out, views, inputs.tokenizer, scorer, training.validation_beams)
        ),
        long_view=LongViewTable(views, model.config.long_view_levels) if inputs.tokenizer.prompt.long_view_tokens else None,
        history=ViewTensors.of(views),
        peft_config=lora_config(config.lora, model) if config.lora is not None else None,
    )
    trainer.train(resume_from_checkpoint=resume)
    save_stage(trainer, stage.name, config.lora is not None, PANELS)


__all__ = ["PANELS", "grpo_arguments", "train_grpo_stage"]
