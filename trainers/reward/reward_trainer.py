"""Training of the reward model on the searches of a market's training split."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from onesearch.data.market import Market
from onesearch.data.requests import SPLITS, split_sessions, training_market
from onesearch.data.user_logs import UserLogs
from onesearch.devices import use_one_gpu
from onesearch.modeling_onesearch.configuration_reward_onesearch import OneSearchRewardConfig
from onesearch.modeling_onesearch.modeling_reward_onesearch import OneSearchRewardModel
from onesearch.tokenization_sid.embedding.text_encoder import unit_rows
from onesearch.views.reward.facets import item_facets
from onesearch.views.reward.inputs import ItemTable, RewardInputs, own_embeddings
from onesearch.views.reward.memory import BehaviourMemory
from onesearch.views.reward.session_columns import SessionColumns, user_numbers

from ..trainer_mixins import FastLinearLayersMixin, OwnAcceleratorMixin
from .data import LabelledSearches, RewardCollator, known_towers
from .levels import Interactions, label_sessions
from .losses import list_wise, match_loss
from .reward_config import RewardConfig

logger = logging.getLogger(__name__)

NORMALISING_SEARCHES = 1000
"""Searches from which the means and scales of the cross features are taken; our choice."""


NOT_BY_TIME = ("leave_last_out", "random")
"""Splits after which a measured search is no later than the training sessions of other users."""


class RewardTrainer(OwnAcceleratorMixin, FastLinearLayersMixin, Trainer):
    """transformers' `Trainer` with further losses added to the towers' own.

    Args:
        list_weight: weight of the list-wise loss; see `RewardConfig`.
        match_weight: weight of the loss over all items of a batch; see `RewardConfig`.
    """

    def __init__(self, *args: Any, list_weight: float = 0.0, match_weight: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.list_weight, self.match_weight = list_weight, match_weight
        self.model_accepts_loss_kwargs = False

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean binary cross-entropy of the towers, plus the weighted list-wise and match losses."""
        outputs = model(**inputs)
        loss = outputs.loss
        if self.list_weight:
            loss = loss + self.list_weight * list_wise(outputs.logits[..., 2], inputs["labels"], inputs["candidates"])
        if self.match_weight:
            loss = loss + self.match_weight * match_loss(outputs.matches, inputs["labels"], inputs["candidates"])
        return (loss, outputs) if return_outputs else loss


class TrainedReward(NamedTuple):
    """A trained reward model with what it reads.

    Attributes:
        model: the model.
        inputs: makes its tensors.
        columns: what was known before each session of the market.
        interactions: labelled pairs that it was trained on.
    """

    model: OneSearchRewardModel
    inputs: RewardInputs
    columns: SessionColumns
    interactions: Interactions


class Vectors(NamedTuple):
    """Text vectors of a market.

    Attributes:
        items: of the items, by row, float32 ``(items, size)``.
        queries: of the distinct queries, float32 ``(queries, size)``.
        texts: the distinct queries, ``(queries,)``.
    """

    items: np.ndarray
    queries: np.ndarray
    texts: list[str]


def train_reward(
    market: Market,
    codes: np.ndarray,
    codebook_sizes: tuple[int, ...],
    vectors: Vectors,
    config: RewardConfig,
    output: str | Path,
    beams: tuple[np.ndarray, np.ndarray] | None = None,
) -> TrainedReward:
    """Train a reward model.

    Steps:
        1. Number the facets of the items, and count the behaviour of the training split by time.
        2. Label the items of the training searches, after a warm-up in which the counts only grow.
        3. Take means and scales of the cross features from some of these searches.
        4. Train. Each search sees only counts and events from strictly before its own time. Where the market is split otherwise than by
           time, a measured search sees all that other users did in training; a training search then does so, too, and sees its own user's
           behaviour alone as of its time.

    Args:
        market: catalogue and sessions.
        codes: codes of the Semantic IDs by item row, int64 ``(items, levels)``.
        codebook_sizes: number of codes of each level.
        vectors: text vectors of items and queries.
        config: sizes and training.
        output: folder of the trainer's own files.
        beams: row of the session and row of the item of each hit of the generator on training searches, both ``(hits,)``.

    Raises:
        ValueError: no training search was answered with a click or a purchase.
    """
    logs = UserLogs(market)
    training = split_sessions(market) == SPLITS.index("train")
    facets = item_facets(market.items.data.table)
    past, users = training_market(market), None
    if market.info.get("split", {}).get("method") in NOT_BY_TIME:
        users = user_numbers(market)
    memory = BehaviourMemory.of(past, UserLogs(past), facets.leaf, None if users is None else users[training])
    ids = own_embeddings(logs, training, config.min_events)
    inputs = RewardInputs(ItemTable(unit_rows(vectors.items), codes, facets, ids), memory, config.max_history, config.without)
    columns = SessionColumns(market, logs, memory, vectors.texts, unit_rows(vectors.queries), config.max_history, users)
    interactions = _labelled(market, facets.leaf, training, config, beams)
    searches = LabelledSearches(interactions, known_towers(interactions))
    torch.manual_seed(config.seed)
    model = OneSearchRewardModel(_model_config(config, inputs, codebook_sizes))
    collator = RewardCollator(searches, columns, inputs, config.hidden_gaps, config.seed)
    _normalise(model, collator, config)
    weights = {"list_weight": config.list_weight, "match_weight": config.match_weight}
    trainer = RewardTrainer(model, _arguments(config, output), data_collator=collator, train_dataset=searches, **weights)
    trainer.train()
    return TrainedReward(model.cpu().eval(), inputs, columns, interactions)  # hits are ranked on the processor


def _labelled(
    market: Market,
    leaf: np.ndarray,
    training: np.ndarray,
    config: RewardConfig,
    beams: tuple[np.ndarray, np.ndarray] | None,
) -> Interactions:
    """Label the items of the training searches after the warm-up, and warn of levels that the market does not show."""
    chosen = np.flatnonzero(training)
    chosen = chosen[int(len(chosen) * config.warm_up) :]
    interactions = label_sessions(market, leaf, chosen, config.negatives, beams, config.seed)
    if not len(interactions.sessions):
        raise ValueError("no training search was answered with a click or a purchase; a reward model needs some")
    if interactions.missing():
        logger.warning("reward model: the market has no examples of %s", "; ".join(interactions.missing()))
    return interactions


def _model_config(config: RewardConfig, inputs: RewardInputs, codebook_sizes: tuple[int, ...]) -> OneSearchRewardConfig:
    return OneSearchRewardConfig(
        vector_size=inputs.table.vectors.shape[1],
        codebook_sizes=list(codebook_sizes),
        num_facets=len(inputs.table.facets.kind_of),
        num_ids=int(inputs.table.ids.max(initial=0)),
        features=list(inputs.names),
        hidden_size=config.hidden_size,
        attention_heads=config.attention_heads,
        tower_size=config.tower_size,
        dropout=config.dropout,
        recent=config.recent,
        max_history=config.max_history,
    )


def _normalise(model: OneSearchRewardModel, collator: RewardCollator, config: RewardConfig) -> None:
    """Set means and scales of the cross features from `NORMALISING_SEARCHES` random searches."""
    rng = np.random.default_rng([config.seed, 16])
    count = len(collator.searches)
    batch = collator(rng.choice(count, min(count, NORMALISING_SEARCHES), replace=False).tolist())
    values = batch["features"][batch["candidates"] >= 0]
    model.feature_mean.copy_(values.mean(0))
    model.feature_scale.copy_(values.std(0).clamp(min=1e-3))


def _arguments(config: RewardConfig, output: str | Path) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(output),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        lr_scheduler_type="linear",
        warmup_steps=0.1,
        save_strategy="no",
        report_to="none",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        logging_steps=100,
        disable_tqdm=True,
        seed=config.seed,
    )
    use_one_gpu(arguments)
    return arguments


__all__ = ["RewardTrainer", "TrainedReward", "Vectors", "train_reward"]
