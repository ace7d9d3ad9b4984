"""The loss with soft targets against the formula written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import tiny_index
from toy import CODES, LEVELS, MODELS, TOKENIZER, arguments, assert_same_weights, toy_dataset, toy_rows, trainer_of, weights
from transformers import set_seed

from onesearch.tokenization_sid.ragged import Ragged
from onesearch.trainers.soft.lists import TeacherLists
from onesearch.trainers.soft.soft_config import SoftTargetConfig
from onesearch.trainers.soft.soft_objective import SoftObjective
from onesearch.trainers.soft.soft_trainer import SidSoftTrainer

SHARP = {"bart": {"init_std": 0.3}, "qwen3": {"initializer_range": 0.3}}
"""Far from uniform."""

ITEMS = np.array(sorted({tuple(sid) for sid in toy_rows(64, seed=0)[1]}))
"""Codes of the catalogue."""


def teacher_lists(rows=64, longest=4, unseen=()):
    """A list for every second example; those of `unseen` are of requests that nobody made."""
    draw = np.random.default_rng(3)
    items = [draw.choice(len(ITEMS), longest if row % 2 == 0 else 0, replace=False) for row in range(rows)]
    scores = [draw.normal(size=len(own)).astype(np.float32) for own in items]
    sessions = np.arange(rows)
    asked = np.where(np.isin(sessions, unseen), rows, sessions)
    return TeacherLists(sessions, asked, Ragged.of(items), Ragged(np.concatenate(scores), Ragged.of(items).offsets))


def numbered(rows=64, lists=None):
    lists = teacher_lists(rows) if lists is None else lists
    numbers = np.where(lists.items.lengths > 0, np.arange(rows), -1)
    return toy_dataset(rows).add_column("request", numbers.tolist())


def soft_trainer(model, folder, config, lists=None, **changes):
    lists = teacher_lists() if lists is None else lists
    model.set_sid_index(tiny_index(ITEMS.tolist(), [CODES] * LEVELS))
    return SidSoftTrainer(
        model=model,
        args=arguments(folder, **changes),
        train_dataset=numbered(lists=lists),
        soft_targets=config,
        lists=lists,
        item_sids=ITEMS,
        processing_class=TOKENIZER,
    )


def log_probabilities(model, row, sid):
    """Log-probabilities of the codes at every node along a Semantic ID, (levels, codes), after the prompt of a row of the dataset."""
    prompt, tokens = toy_dataset().with_format("torch")[row]["input_ids"], torch.tensor(TOKENIZER.sids_to_ids([sid])[0])
    if model.config.is_encoder_decoder:
        start = torch.tensor([model.config.decoder_start_token_id])
        given = {"input_ids": prompt[None], "decoder_input_ids": torch.cat([start, tokens[:-1]])[None]}
        hidden = model.model(**given).last_hidden_state[0]
    else:
        hidden = model.model(input_ids=torch.cat([prompt, tokens[:-1]])[None]).last_hidden_state[0, len(prompt) - 1 :]
    groups = model.target_logits(hidden, tokens)
    return torch.stack([group.logits[0].log_softmax(-1) for group in groups])


def naive_divergences(model, row, sid, lists):
    """KL at every node along a Semantic ID, and whether the teacher has an item there."""
    found = lists.masses(np.array([row]), 1.3)
    items, masses = ITEMS[found.items[0]], found.scores[0]
    log_p = log_probabilities(model, row, sid)
    values, known = [], []
    for level in range(LEVELS):
        inside = (items[:, :level] == np.array(sid)[:level]).all(1)
        total = masses[inside].sum()
        shares = np.array([masses[inside & (items[:, level] == code)].sum() for code in range(CODES)]) / max(total, 1e-30)
        values.append(sum(q * (np.log(q) - float(log_p[level, code])) for code, q in enumerate(shares) if q > 0))
        known.append(bool(inside.any()))
    return np.array(values), np.array(known)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("weight", [0.4, 1.0])
def test_the_loss_is_the_formula(tmp_path, kind, weight):
    model = MODELS[kind](**SHARP[kind])
    lists = teacher_lists(unseen=(2,))
    trainer = soft_trainer(
        model, tmp_path, SoftTargetConfig(weight=weight, temperature=1.3), lists, per_device_train_batch_size=4
    )
    batch = next(iter(trainer.get_train_dataloader()))
    assert batch["soft_alone"].tolist() == [False, False, True, False]
    model.train()
    objective = SoftObjective(weight)
    with torch.no_grad():
        loss = float(model(**dict(batch), objective=objective).loss)
        expected, divergences = 0.0, []
        for row, sid in enumerate(toy_rows(64, seed=0)[1][:4]):
            log_p = log_probabilities(model, row, sid)
            ce = -log_p[torch.arange(LEVELS), torch.tensor(sid)].numpy()
            if row % 2:
                expected += ce.sum()
                continue
            kl, known = naive_divergences(model, row, sid, lists)
            divergences += kl.tolist()
            share = 1.0 if row == 2 else weight
            expected += (share * kl + np.where(known | (row == 2), 1 - share, 1.0) * ce).sum()
    assert loss == pytest.approx(expected / (4 * LEVELS), rel=1e-4)
    assert float(objective.terms["targets"]) == 2 * LEVELS
    assert float(objective.terms["soft_kl"]) == pytest.approx(sum(divergences), rel=1e-4)


@pytest.mark.parametrize("kind", MODELS)
def test_further_paths_are_the_teacher_s(tmp_path, kind):
    """With one item in the list every drawn path is that item's: the mean of its divergences and the target's."""
    model = MODELS[kind](**SHARP[kind])
    lists = teacher_lists(longest=1)
    config = SoftTargetConfig(weight=0.7, paths=3, temperature=1.3)
    trainer = soft_trainer(model, tmp_path, config, lists, per_device_train_batch_size=4)
    batch = next(iter(trainer.get_train_dataloader()))
    model.train()
    with torch.no_grad():
        scores = model(**dict(batch), objective=SoftObjective(0.7, paths=3)).target_scores
        for row, sid in enumerate(toy_rows(64, seed=0)[1][:4]):
            log_p = log_probabilities(model, row, sid)
            expected = -log_p[torch.arange(LEVELS), torch.tensor(sid)].numpy()
            if row % 2 == 0:
                own, known = naive_divergences(model, row, sid, lists)
                drawn, _ = naive_divergences(model, row, ITEMS[lists.items[row][0]].tolist(), lists)
                expected = 0.7 * (own + 3 * drawn) / 4 + np.where(known, 0.3, 1.0) * expected
            losses = -scores.log_probs[row][scores.is_target[row]].numpy()
            np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_without_weight_it_is_plain_fine_tuning(tmp_path, kind):
    set_seed(0)
    plain = MODELS[kind]()
    trainer_of(plain, tmp_path / "plain", max_steps=2).train()
    set_seed(0)
    model = MODELS[kind]()
    soft_trainer(model, tmp_path / "soft", SoftTargetConfig(weight=0.0), max_steps=2).train()
    assert_same_weights(weights(plain), weights(model))


def test_it_learns_the_teacher_s_distribution(tmp_path):
    """The divergence of a whole epoch falls by half and more, paths included; the evaluation is plain."""
    set_seed(0)
    model = MODELS["bart"]()
    lists = teacher_lists()
    config = SoftTargetConfig(weight=1.0, paths=2)
    trainer = soft_trainer(model, tmp_path, config, lists, max_steps=60, learning_rate=5e-3, logging_steps=20)
    trainer.train()
    first, _, last = (entry["soft_kl"] for entry in trainer.state.log_history if "soft_kl" in entry)
    assert last < 0.5 * first
    batch = next(iter(trainer.get_train_dataloader()))
    soft = {name: batch.pop(name) for name in list(batch) if name.startswith("soft_")}
    model.eval()
    with torch.no_grad():
        assert float(model(**batch, **soft, objective=SoftObjective(1.0)).loss) == float(model(**batch).loss)


def test_the_number_of_the_list_is_needed(tmp_path):
    with pytest.raises(ValueError, match="soft targets need request"):
        SidSoftTrainer(
            model=MODELS["bart"](), args=arguments(tmp_path), train_dataset=toy_dataset(), soft_targets=SoftTargetConfig(),
            lists=teacher_lists(), item_sids=ITEMS, processing_class=TOKENIZER,
        )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"teacher": "oracle"}, "'oracle': allowed are reward, sasrec, transitions, file"),
        ({"teacher": "file"}, "file=None with teacher='file'"),
        ({"file": "x.parquet"}, "no other reads one"),
        ({"weight": 1.5}, "weight=1.5"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"items": 0}, "items=0"),
        ({"teacher": "sasrec", "unseen": 1.0}, "unseen=1.0 needs teacher: reward"),
    ],
)
def test_what_the_config_refuses(values, words):
    with pytest.raises(ValueError, match=words):
        SoftTargetConfig(**values)
