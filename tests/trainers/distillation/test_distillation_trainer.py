"""Each term against its formula written out, positions, and what switches off."""

from __future__ import annotations

import math

import pytest
import torch
from toy import (
    LEVELS,
    MODELS,
    TOKENIZER,
    arguments,
    assert_same_weights,
    logged,
    ragged,
    toy_causal_model,
    toy_dataset,
    toy_model,
    trainer_of,
    weights,
)

from onesearch import SidDistillationConfig, SidDistillationTrainer
from onesearch.trainers.distillation.adversarial import perturb, prompt_embeddings, prompt_tokens
from onesearch.trainers.distillation.distillation_trainer import DistillationHead
from onesearch.trainers.distillation.losses import fgm_step, focal_cross_entropy, symmetric_kl, teacher_kl

PLAIN = {
    "kl_weight": 0.0,
    "r_drop_weight": 0.0,
    "adversarial_weight": 0.0,
    "focal_alpha": 1.0,
    "focal_gamma": 0.0,
}
"""All terms off."""

SHARP = {"bart": {"init_std": 0.3}, "qwen3": {"initializer_range": 0.3}}
"""Far from uniform."""


DROPOUT = {"bart": {"dropout": 0.1}, "qwen3": {"attention_dropout": 0.1}}


def stop_dropout(model):
    """All passes alike from here on, so that they can be compared with the naive terms."""
    for module in model.modules():
        for name in ("dropout", "attention_dropout"):
            if isinstance(vars(module).get(name), float):
                setattr(module, name, 0.0)


def distiller(model, folder, dataset=None, eval_dataset=None, **changes):
    return SidDistillationTrainer(
        model=model,
        args=arguments(folder, SidDistillationConfig, **changes),
        train_dataset=toy_dataset(teacher=True) if dataset is None else dataset,
        eval_dataset=eval_dataset,
        processing_class=TOKENIZER,
    )


def softmax(row):
    top = max(row)
    exponentials = [math.exp(value - top) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def kl(one, other):
    return sum(p * math.log(p / q) for p, q in zip(softmax(one), softmax(other)))


# Formulas


def test_focal_cross_entropy_is_the_formula():
    logits, target = torch.randn(7, 5, dtype=torch.float64) * 3, torch.randint(0, 5, (7,))
    expected = []
    for row, place in zip(logits.tolist(), target.tolist()):
        p = softmax(row)[place]
        expected.append(-2 * (1 - p) ** 3 * math.log(p))
    assert focal_cross_entropy(logits, target, 2.0, 3.0).tolist() == pytest.approx(expected)
    torch.testing.assert_close(
        focal_cross_entropy(logits, target, 1.0, 0.0), torch.nn.functional.cross_entropy(logits, target, reduction="none")
    )
    certain = torch.tensor([[100.0, 0.0]], requires_grad=True)
    focal_cross_entropy(certain, torch.tensor([0]), 2.0, 0.5).sum().backward()
    assert certain.grad.isfinite().all()


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_teacher_s_kl_is_the_formula(temperature):
    teacher, student = torch.randn(2, 6, 5, dtype=torch.float64, requires_grad=True)
    found = teacher_kl(teacher, student, temperature)
    expected = [
        temperature**2 / 5 * kl([value / temperature for value in one], [value / temperature for value in other])
        for one, other in zip(teacher.tolist(), student.tolist())
    ]
    assert found.tolist() == pytest.approx(expected)
    assert teacher_kl(teacher, student, temperature, False).tolist() == pytest.approx([5 * value for value in expected])


def test_the_teacher_takes_no_gradient():
    teacher, student = torch.randn(6, 5, requires_grad=True), torch.randn(6, 5, requires_grad=True)
    teacher_kl(teacher, student, 1.0).sum().backward()
    assert teacher.grad is None and student.grad.any()


def test_r_drop_is_the_formula():
    one, other = torch.randn(2, 6, 5, dtype=torch.float64)
    expected = [(kl(a, b) + kl(b, a)) / 2 for a, b in zip(one.tolist(), other.tolist())]
    assert symmetric_kl(one, other).tolist() == pytest.approx(expected)
    assert not symmetric_kl(one, one).any()


def test_fgm_has_one_norm_per_example():
    gradient = torch.randn(3, 4, 5, dtype=torch.float64)
    gradient[1] = 0
    sizes = (0.6, 0.6, 0.2)
    step = fgm_step(gradient, torch.tensor(sizes, dtype=torch.float64))
    for row in (0, 2):
        norm = math.sqrt(sum(value**2 for token in gradient[row].tolist() for value in token))
        torch.testing.assert_close(step[row], sizes[row] * gradient[row] / norm)
    assert not step[1].any()


# The whole loss


def naive_terms(model, batch, args):
    """All terms of all targets from whole forward passes, target by target; no dropout."""
    offset, causal = TOKENIZER.sid_offset, not model.config.is_encoder_decoder
    names = ("input_ids", "attention_mask") if causal else ("input_ids", "attention_mask", "decoder_input_ids")
    student_inputs = {name: batch[name] for name in names}
    teacher_inputs = {
        **student_inputs,
        "input_ids": batch["teacher_input_ids"],
        "attention_mask": batch["teacher_attention_mask"],
    }
    embeddings = model.get_input_embeddings()(batch["input_ids"]).detach().requires_grad_()

    def per_target(inputs, labels):
        logits = model(**inputs).logits
        for row in range(len(labels)):
            level = 0
            for place in range(labels.shape[1]):
                if labels[row, place] != -100:
                    cut = logits[row, place, offset + 8 * level : offset + 8 * (level + 1)]
                    yield cut, int(labels[row, place]) - offset - 8 * level
                    level += 1

    def ce(cut, place):
        p = cut.softmax(-1)[place]
        return -args.focal_alpha * (1 - p) ** args.focal_gamma * p.log()

    moved = {**student_inputs, "inputs_embeds": embeddings}
    del moved["input_ids"]
    for row in range(len(embeddings)):
        own = {name: value[row : row + 1] for name, value in moved.items()}
        total = sum(ce(*pair) for pair in per_target(own, batch["shift_labels"][row : row + 1]))
        (gradient,) = torch.autograd.grad(total, embeddings, retain_graph=True)
        gradient = gradient[row]
        if causal:
            gradient = gradient * (batch["labels"][row] == -100)[:, None]
        is_prompt = batch["attention_mask"][row].bool()
        if causal:
            is_prompt &= batch["labels"][row] == -100
        norms = [token.norm().item() for token in embeddings[row][is_prompt]]
        size = args.adversarial_epsilon * (sum(norms) / len(norms) if args.adversarial_relative else 1)
        step = size * gradient / gradient.norm()
        embeddings = torch.cat([embeddings[:row], (embeddings[row] + step)[None], embeddings[row + 1 :]])
        embeddings = embeddings.detach().requires_grad_()
        moved["inputs_embeds"] = embeddings
    teacher_labels = batch["teacher_shift_labels"] if causal else batch["shift_labels"]
    student = list(per_target(student_inputs, batch["shift_labels"]))
    teacher = list(per_target(teacher_inputs, teacher_labels))
    adversarial = list(per_target(moved, batch["shift_labels"]))
    tau = args.kl_temperature
    return {
        "ce": sum(ce(*pair) for pair in student).item(),
        "kl": sum(
            tau**2 / 8 * kl((one / tau).tolist(), (other / tau).tolist())
            for (one, _), (other, _) in zip(teacher, student, strict=True)
        ),
        "adversarial_ce": sum(ce(*pair) for pair in adversarial).item(),
        "teacher_ce": sum(-cut.log_softmax(-1)[place] for cut, place in teacher).item(),
    }


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("lengths", ["equal", "ragged"])
def test_the_loss_is_the_naive_one(tmp_path, kind, lengths):
    settings = {
        "kl_weight": 0.3,
        "kl_temperature": 2.0,
        "adversarial_weight": 0.7,
        "teacher_ce_weight": 0.9,
        "r_drop_weight": 0.5,
        **({"adversarial_epsilon": 0.6, "adversarial_relative": False} if lengths == "equal" else {"adversarial_epsilon": 0.2}),
    }
    model = MODELS[kind](**SHARP[kind], **DROPOUT[kind])
    dataset = toy_dataset(4, teacher=True)
    trainer = distiller(model, tmp_path, ragged(dataset) if lengths == "ragged" else dataset, **settings)
    stop_dropout(model)
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(4)])
    expected = naive_terms(MODELS[kind](**SHARP[kind]), batch, trainer.args)
    model.train()
    loss = trainer.compute_loss(model, dict(batch), num_items_in_batch=torch.tensor(50))
    count = int((batch["shift_labels"] != -100).sum())
    for name, value in expected.items():
        (mean,) = trainer._metrics["train"][name]
        assert mean * count == pytest.approx(value, rel=1e-4), name
    assert trainer._metrics["train"]["r_drop"] == [0.0]  # no dropout, no difference
    total = expected["ce"] + 0.3 * expected["kl"] + 0.7 * expected["adversarial_ce"] + 0.9 * expected["teacher_ce"]
    assert loss.item() == pytest.approx(total / 50, rel=1e-4)


@pytest.mark.parametrize("kind", MODELS)
def test_certainty_about_the_first_code_counts(tmp_path, kind):
    """Teacher and student differ at the first SID position alone; the authors' shift passes over it."""
    model = MODELS[kind]()
    trainer = distiller(model, tmp_path, **{**PLAIN, "kl_weight": 1.0})
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(4)])
    head = DistillationHead(trainer.args)
    model.train()
    level = slice(*model.config.sid_slice(0))
    original, calls = model.target_logits, []

    def certain_teacher(hidden, targets):
        groups = original(hidden, targets)
        calls.append(1)
        if len(calls) == 2:  # student, teacher
            sure = 50.0 * torch.nn.functional.one_hot(groups[0].places, groups[0].logits.shape[-1])
            groups = [groups[0]._replace(logits=sure), *first[1:]]
        else:
            first.extend(groups)
        return groups

    first = []
    model.target_logits = certain_teacher
    inputs = {name: value for name, value in batch.items() if name not in ("labels", "shift_labels")}
    scores, sums = head(model, inputs, batch["shift_labels"])
    assert len(calls) == 2 and level.stop - level.start == 8
    assert sums["kl"] == pytest.approx(4 * math.log(8) / 8, rel=0.05)  # nearly uniform student, sure teacher, 4 first codes
    plain = -model.score_targets(
        model.model(**{k: v for k, v in inputs.items() if "teacher" not in k}).last_hidden_state, batch["shift_labels"]
    )[0]
    extra = (-scores.log_probs - plain).detach()
    is_target = batch["shift_labels"] != -100
    per_code = extra[is_target].view(4, LEVELS)
    assert (per_code[:, 0] > 0.2).all() and per_code[:, 1:].abs().max() < 1e-5


@pytest.mark.parametrize("kind", MODELS)
def test_a_teacher_that_reads_the_same_agrees(tmp_path, kind):
    """Equal prompts: no KL; a decoder-only teacher's longer prompt moves its targets, the KL stays aligned."""
    model = MODELS[kind](**SHARP[kind]).train()
    trainer = distiller(model, tmp_path, **{**PLAIN, "kl_weight": 1.0})
    rows = [dict(trainer.train_dataset[row]) for row in range(4)]
    for keep in (True, False):
        examples = [{**row, "teacher_input_ids": row["input_ids"]} if keep else row for row in rows]
        trainer.compute_loss(model, trainer.data_collator(examples))
    same, other = trainer._metrics["train"]["kl"]
    assert same == pytest.approx(0.0, abs=1e-7) and other > 1e-3


# What switches off


@pytest.mark.parametrize("kind", MODELS)
def test_without_weights_it_is_plain_fine_tuning(tmp_path, kind):
    changes = DROPOUT[kind]
    settings = {"max_steps": 3, "learning_rate": 1e-3, "per_device_train_batch_size": 16}
    one, two = MODELS[kind](**changes), MODELS[kind](**changes)
    plain = trainer_of(one, tmp_path, **settings)
    plain.train()  # making a trainer sets the seed
    off = distiller(two, tmp_path, toy_dataset(), eval_dataset=toy_dataset(8, seed=2), **settings, **PLAIN)
    off.train()
    assert logged(plain, "loss") == pytest.approx(logged(off, "loss"), abs=1e-6)
    assert logged(plain, "entropy") == pytest.approx(logged(off, "entropy"), abs=1e-4)
    assert_same_weights(weights(one), weights(two))
    assert off.evaluate()["eval_loss"] == pytest.approx(plain.evaluate(toy_dataset(8, seed=2))["eval_loss"], abs=1e-5)


def test_accumulation_gives_the_weights_of_one_large_batch(tmp_path):
    dataset = ragged(toy_dataset(32, teacher=True))
    results = []
    for batch, steps in ((16, 1), (4, 4)):
        model = toy_model(init_std=0.1)
        settings = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": steps, "optim": "sgd"}
        settings |= {"teacher_ce_weight": 0.5, "r_drop_weight": 0.0}
        trainer = distiller(model, tmp_path, dataset, max_steps=2, learning_rate=0.1, **settings)
        trainer.train()
        results.append((logged(trainer, "loss"), weights(model)))
    assert results[0][0] == pytest.approx(results[1][0], abs=2e-4)
    assert_same_weights(results[0][1], results[1][1], atol=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_all_terms_train_with_dropout_and_adapters(tmp_path, kind):
    from onesearch import SidLoraConfig
    from onesearch.trainers.lora import lora_config

    model = MODELS[kind](**DROPOUT[kind])
    trainer = SidDistillationTrainer(
        model=model,
        args=arguments(tmp_path, SidDistillationConfig, max_steps=12, learning_rate=1e-2),
        train_dataset=toy_dataset(32, teacher=True),  # one batch, again and again
        processing_class=TOKENIZER,
        peft_config=lora_config(SidLoraConfig(r=4), model),
    )
    trainer.train()
    losses = logged(trainer, "loss")
    assert losses[-1] < losses[0] and min(logged(trainer, "r_drop")) > 0 and min(logged(trainer, "kl")) > 0
    assert model.training


ADVERSARIAL = {**PLAIN, "adversarial_weight": 1.0}


@pytest.mark.parametrize("kind", MODELS)
def test_the_default_perturbation_is_a_share_of_the_embeddings_at_any_size(tmp_path, kind, caplog):
    """Embeddings that are four times as large are moved four times as far, and nothing is warned of."""
    size = {"bart": "init_std", "qwen3": "initializer_range"}[kind]
    moves = []
    for std in (0.02, 0.08):
        model = MODELS[kind](**{size: std})
        trainer = distiller(model, tmp_path, **ADVERSARIAL)
        batch = trainer.data_collator([trainer.train_dataset[row] for row in range(4)])
        embeddings = prompt_embeddings(model, batch["input_ids"], {}).detach().requires_grad_()
        is_prompt = prompt_tokens(batch["attention_mask"], batch["shift_labels"] != -100, kind == "bart")
        loss = (embeddings * torch.arange(1.0, 5.0)[:, None, None]).square().sum()
        moved = perturb(embeddings, loss, is_prompt, trainer.args)
        norms = (moved.embeddings - embeddings).flatten(1).norm(dim=1)
        assert not (moved.embeddings - embeddings)[~is_prompt].any()
        for row in range(4):
            assert norms[row].item() == pytest.approx(
                0.03 * embeddings[row][is_prompt[row]].norm(dim=1).mean().item(), rel=1e-4
            )
        moves.append(norms.mean().item())
        model.train()
        trainer.compute_loss(model, dict(batch), num_items_in_batch=torch.tensor(20))
        assert trainer._metrics["train"]["adversarial_ratio"] == pytest.approx([0.03])
    assert moves[1] == pytest.approx(4 * moves[0], rel=0.1)
    assert not caplog.records


def test_a_perturbation_of_the_embeddings_size_is_warned_of_once(tmp_path, caplog):
    """At a width of 64 and a standard deviation of 0.02 the embeddings' norm is 0.16: the paper's 0.6 is 3.75 times as large."""
    model = toy_model()
    trainer = distiller(model, tmp_path, **ADVERSARIAL, adversarial_epsilon=0.6, adversarial_relative=False)
    batch = trainer.data_collator([trainer.train_dataset[row] for row in range(4)])
    model.train()
    for _ in range(2):
        trainer.compute_loss(model, dict(batch), num_items_in_batch=torch.tensor(20))
    first, second = trainer._metrics["train"]["adversarial_ratio"]
    assert first == second == pytest.approx(3.75, rel=0.1)
    (record,) = caplog.records
    assert "times as large as a token's embedding" in record.message and "adversarial_epsilon to 0.005" in record.message


def test_r_drop_without_dropout_is_refused(tmp_path):
    for kind, names in (("bart", "dropout or attention_dropout"), ("qwen3", "attention_dropout")):
        with pytest.raises(ValueError, match=f"r_drop_weight=0.5 compares two dropout passes.*Set {names}"):
            distiller(MODELS[kind](), tmp_path, **{**PLAIN, "r_drop_weight": 0.5})
        distiller(MODELS[kind](**DROPOUT[kind]), tmp_path, **{**PLAIN, "r_drop_weight": 0.5})
        distiller(MODELS[kind](), tmp_path, **PLAIN)


def test_the_dropout_of_an_adapter_counts(tmp_path):
    from onesearch import SidLoraConfig
    from onesearch.trainers.lora import lora_config

    for dropout in (0.1, 0.0):
        model = toy_model()
        parts = {
            "model": model,
            "args": arguments(tmp_path, SidDistillationConfig),
            "train_dataset": toy_dataset(teacher=True),
            "processing_class": TOKENIZER,
            "peft_config": lora_config(SidLoraConfig(r=2, dropout=dropout), model),
        }
        if dropout:
            SidDistillationTrainer(**parts)
        else:
            with pytest.raises(ValueError, match="two dropout passes"):
                SidDistillationTrainer(**parts)


def test_what_it_refuses(tmp_path):
    with pytest.raises(ValueError, match="teacher_input_ids"):
        distiller(toy_causal_model(), tmp_path, toy_dataset())
    for changes, word in (
        ({"kl_weight": -1.0}, "kl_weight=-1.0"),
        ({"kl_temperature": 0.0}, "kl_temperature=0.0"),
        ({"adversarial_epsilon": -0.1}, "adversarial_epsilon=-0.1"),
        ({"loss_type": "dft"}, "loss_type"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor"),
        ({"sid_smoothing": 0.1}, "sid_smoothing=0.1 does not apply"),
        ({"torch_compile": True}, "torch_compile"),
    ):
        with pytest.raises(ValueError, match=word):
            arguments(tmp_path, SidDistillationConfig, **changes)
