"""Label smoothing spreads over the trie's children and nothing else."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_index
from toy import CODES, LEVELS, MODELS, TOKENIZER, arguments, toy_dataset, toy_rows, trainer_of

from onesearch.modeling_onesearch.trie_onesearch import SidTrie
from onesearch.trainers.sft.objectives import SmoothedLabels
from onesearch.trainers.sft.target_paths import SidLayout, TargetPaths, allowed_codes

SHARP = {"bart": {"init_std": 0.3}, "qwen3": {"initializer_range": 0.3}}
"""Far from uniform."""


def with_index(model, rows=64):
    sids = sorted({tuple(sid) for sid in toy_rows(rows, seed=0)[1]})
    model.set_sid_index(tiny_index([list(sid) for sid in sids], [CODES] * LEVELS))
    return model


def naive(log_probs, sid, sids, smoothing):
    """Loss of each code of a Semantic ID; `log_probs` has a row of its level's codes for each."""
    losses = []
    for level, code in enumerate(sid):
        children = {other[level] for other in sids if tuple(other[:level]) == tuple(sid[:level])}
        spread = sum(float(log_probs[level][child]) for child in children) / len(children)
        losses.append(-(1 - smoothing) * float(log_probs[level][code]) - smoothing * spread)
    return losses


@pytest.mark.parametrize("kind", MODELS)
def test_the_smoothed_loss_is_the_formula(tmp_path, kind):
    model = with_index(MODELS[kind](**SHARP[kind]))
    trainer = trainer_of(model, tmp_path, sid_smoothing=0.2, per_device_train_batch_size=4)
    batch = next(iter(trainer.get_train_dataloader()))
    model.train()
    with torch.no_grad():
        outputs = model(**batch, objective=SmoothedLabels(0.2))
        inputs = {name: value for name, value in batch.items() if name not in ("labels", "shift_labels")}
        targets = batch["shift_labels"]
        hidden = model.model(**inputs).last_hidden_state
        groups = model.target_logits(hidden, targets)
    sids = toy_rows(64, seed=0)[1]
    expected = 0.0
    for row in range(4):
        log_probs = [group.logits[row].log_softmax(-1) for group in groups]
        expected += sum(naive(log_probs, sids[row], sids, 0.2))
    assert float(outputs.loss) == pytest.approx(expected / (4 * LEVELS), rel=1e-5)
    model.eval()
    with torch.no_grad():
        plain, asked = model(**batch).loss, model(**batch, objective=SmoothedLabels(0.2)).loss
    assert float(plain) == float(asked)


@pytest.mark.parametrize("kind", MODELS)
def test_the_smoothed_loss_in_bfloat16(tmp_path, kind):
    """Autocast, the default on a GPU, multiplies in bfloat16."""
    model = with_index(MODELS[kind](**SHARP[kind])).train()
    trainer = trainer_of(model, tmp_path, sid_smoothing=0.2, per_device_train_batch_size=4)
    batch = next(iter(trainer.get_train_dataloader()))
    with torch.no_grad():
        exact = model(**batch, objective=SmoothedLabels(0.2))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = model(**batch, objective=SmoothedLabels(0.2))
    assert float(found.loss) == pytest.approx(float(exact.loss), rel=0.02)
    torch.testing.assert_close(found.target_scores.entropy, exact.target_scores.entropy, rtol=0.05, atol=0.05)


def test_text_and_foreign_sids_are_not_smoothed():
    """Two Semantic IDs of the trie, one that it lacks, and two tokens of text."""
    layout = SidLayout(100, (4, 3))
    trie = SidTrie.build(torch.tensor([[0, 0], [0, 2], [3, 1]]).numpy(), (4, 3))
    targets = torch.tensor([[100, 106], [101, 104], [5, 7], [103, 105], [100, -100]])
    every = TargetPaths.of(targets, layout)
    assert every.rows.tolist() == [0, 1, 3] and every.codes.tolist() == [[0, 2], [1, 0], [3, 1]]
    found = TargetPaths.of(targets, layout, trie)
    assert found.rows.tolist() == [0, 3] and found.place.tolist() == [0, -1, -1, 1, -1]
    assert layout.tokens(found.codes).tolist() == [[100, 106], [103, 105]]
    first, second = allowed_codes(trie, found.codes, layout.sizes)
    assert first.tolist() == [[True, False, False, True]] * 2
    assert second.tolist() == [[True, False, True], [False, True, False]]


@pytest.mark.parametrize("kind", MODELS)
def test_smoothing_trains_beside_text(tmp_path, kind):
    """Targets of text, of another length, take their plain loss."""
    model = with_index(MODELS[kind]())
    text = TOKENIZER("w1 w2 w3", add_special_tokens=False)["input_ids"]
    dataset = toy_dataset(32).map(lambda row, number: {"labels": text if number % 2 else row["labels"]}, with_indices=True)
    trainer = trainer_of(model, tmp_path, dataset, sid_smoothing=0.1, per_device_train_batch_size=8)
    batch = next(iter(trainer.get_train_dataloader()))
    with torch.no_grad():
        smoothed = model.train()(**batch, objective=SmoothedLabels(0.1)).target_scores
        plain = model(**batch).target_scores
    is_text = torch.tensor([False, True] * 4)
    torch.testing.assert_close(smoothed.log_probs[is_text], plain.log_probs[is_text])
    assert (smoothed.log_probs[~is_text] != plain.log_probs[~is_text]).any()
    torch.testing.assert_close(smoothed.entropy, plain.entropy)
    assert torch.equal(smoothed.is_top, plain.is_top) and torch.equal(smoothed.is_target, plain.is_target)


@pytest.mark.parametrize(
    "values", [{"sid_smoothing": 1.0}, {"weight_average": "mean"}, {"ema_decay": 1.0}, {"average_from": -0.1}]
)
def test_what_it_refuses(tmp_path, values):
    (name, value), *_ = values.items()
    with pytest.raises(ValueError, match=f"{name}={value!r}"):
        arguments(tmp_path, **values)


def test_trl_s_smoothing_names_ours(tmp_path):
    with pytest.raises(ValueError, match="sid_smoothing"):
        arguments(tmp_path, label_smoothing_factor=0.1)
