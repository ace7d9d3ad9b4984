"""Log-probabilities of candidates: each prompt is read once, a later code moves no earlier one, policy and reference agree."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from datasets import Dataset
from tiny import SID_MODELS, random_codes, random_prompts, tiny_index
from toy import TOKENIZER, toy_rows
from transformers import BartConfig, BartForConditionalGeneration
from trl import DPOConfig, DPOTrainer

from onesearch.trainers.configs import SidLoraConfig
from onesearch.trainers.lora import lora_config
from onesearch.trainers.preference.likelihoods import SOFTMAXES, candidate_likelihoods, padded_candidates
from onesearch.trainers.preference.references import frozen_copy, reference_likelihoods

SIZES = (8, 4, 4)
CODES = random_codes(60, SIZES, seed=4)
LISTS = [CODES[:5], CODES[5:6], CODES[10:17]]


@pytest.fixture(params=SID_MODELS)
def model(request):
    return SID_MODELS[request.param](SIZES, CODES)


def prompts_of(rows=3, seed=2):
    input_ids, mask = random_prompts(rows, seed=seed)
    return {"input_ids": input_ids, "attention_mask": mask}


def alone(model, prompts, row, sid, softmax):
    """Log-probabilities of one SID by plain calls of the model, one per level, with the softmax written out."""
    found = []
    input_ids = prompts["input_ids"][row, prompts["attention_mask"][row].bool()][None]
    known = {tuple(codes) for codes in CODES.tolist()}
    for level in range(len(SIZES)):
        starts = [model.config.sid_slice(before)[0] for before in range(level)]
        tokens = torch.tensor([[code + start for code, start in zip(sid, starts)]], dtype=torch.long)
        if model.config.is_encoder_decoder:
            start = torch.full((1, 1), model.config.decoder_start_token_id)
            logits = model(input_ids=input_ids, decoder_input_ids=torch.cat([start, tokens], 1)).logits
        else:
            logits = model(input_ids=torch.cat([input_ids, tokens], 1)).logits
        logits = logits[0, -1, slice(*model.config.sid_slice(level))]
        if softmax == "children":
            allowed = {codes[level] for codes in known if codes[:level] == tuple(sid[:level])}
            barred = torch.tensor([code not in allowed for code in range(SIZES[level])])
            logits = logits.masked_fill(barred, -torch.inf)
        found.append(logits.log_softmax(-1)[sid[level]])
    return torch.stack(found)


@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_candidates_score_and_learn_as_by_plain_calls(model, softmax):
    prompts, sids = prompts_of(), padded_candidates(LISTS, 3)
    found = candidate_likelihoods(model, prompts, sids, softmax)
    assert found.is_candidate.sum(1).tolist() == [5, 1, 7]
    weights = torch.randn(sids.shape, generator=torch.Generator().manual_seed(0))
    (found.log_probs * weights).sum().backward()
    gradients = {name: own.grad.clone() for name, own in model.named_parameters() if own.grad is not None}
    model.zero_grad()
    total = torch.zeros(())
    for row, codes in enumerate(LISTS):
        for place, sid in enumerate(codes.tolist()):
            expected = alone(model, prompts, row, sid, softmax)
            torch.testing.assert_close(found.log_probs[row, place], expected, atol=1e-5, rtol=1e-5)
            total = total + (expected * weights[row, place]).sum()
    total.backward()
    for name, own in model.named_parameters():
        torch.testing.assert_close(
            gradients[name], own.grad, atol=1e-4, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert not found.log_probs[~found.is_candidate].any() and not found.entropy[~found.is_candidate].any()


@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_entropy_and_top_are_those_of_each_softmax(model, softmax):
    sids = torch.from_numpy(CODES)[None]
    found = candidate_likelihoods(model, prompts_of(1), sids, softmax)
    # Over the first level all 60 SIDs share one softmax; each code occurs.
    first = {int(code): prob for code, prob in zip(CODES[:, 0], found.log_probs[0, :, 0].tolist())}
    assert len(first) == SIZES[0]
    shares = np.exp(np.array(list(first.values())))
    assert shares.sum() == pytest.approx(1, abs=1e-5)
    assert found.entropy[0, :, 0].tolist() == pytest.approx([-(shares * np.log(shares)).sum()] * 60, abs=1e-5)
    best = max(first, key=lambda code: first[code])
    assert found.is_top[0, :, 0].tolist() == [float(code == best) for code in CODES[:, 0]]
    certain = found.log_probs == 0
    assert not found.entropy[certain].any() and found.is_top[certain].all()


def test_each_prompt_is_read_once(model):
    reader = model.get_encoder() if model.config.is_encoder_decoder else model.model
    seen = []
    reader.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    prompts = prompts_of()
    candidate_likelihoods(model, prompts, padded_candidates(LISTS, 3))
    assert seen == [tuple(prompts["input_ids"].shape)]


def test_a_later_code_moves_no_earlier_one(model):
    """What TRL's own trainer gets wrong on an encoder-decoder; see the test below."""
    prompts = prompts_of(1)
    prefix = next(tuple(codes[:2]) for codes in CODES.tolist() if sum(row[:2] == codes[:2] for row in CODES.tolist()) > 1)
    one, other = [codes for codes in np.unique(CODES, axis=0).tolist() if tuple(codes[:2]) == prefix][:2]
    found = [candidate_likelihoods(model, prompts, torch.tensor([[sid]])).log_probs[0, 0] for sid in (one, other)]
    torch.testing.assert_close(found[0][:2], found[1][:2], atol=0, rtol=0)
    assert found[0][2] != found[1][2]


def test_in_trl_a_later_code_moves_an_earlier_one(tmp_path):
    """The stock trainer runs on transformers' BART without an error: its encoder reads the answer."""
    torch.manual_seed(0)
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "init_std": 0.2}
    bart = BartForConditionalGeneration(BartConfig(vocab_size=len(TOKENIZER), max_position_embeddings=64, **sizes, **heads))
    text, sids = toy_rows(1, seed=0)
    edited = [*sids[0][:-1], (sids[0][-1] + 1) % 8]
    columns = {"prompt": text * 2, "chosen": [TOKENIZER.sid_string(sid) for sid in (sids[0], edited)]}
    trainer = DPOTrainer(
        model=bart,
        ref_model=copy.deepcopy(bart),
        args=DPOConfig(str(tmp_path), use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none"),
        train_dataset=Dataset.from_dict({**columns, "rejected": columns["chosen"]}),
        processing_class=copy.deepcopy(TOKENIZER),
    )
    bart.eval()
    first = []
    for row in trainer.train_dataset:
        batch = trainer.data_collator([row])
        labels = batch["input_ids"].masked_fill(batch.pop("completion_mask") == 0, -100)
        with torch.no_grad():
            log_probs = bart(**batch, labels=labels, fused_lm_head=True).log_probs[0]
        first.append(float(log_probs[log_probs != 0][0]))
    assert abs(first[0] - first[1]) > 1e-3


def test_a_reference_is_a_copy_or_the_adapter_switched_off(model):
    prompts, sids = prompts_of(), padded_candidates(LISTS, 3)
    reference = frozen_copy(model)
    assert reference.sid_index is model.sid_index and reference.lm_head.weight is not model.lm_head.weight
    before = candidate_likelihoods(model, prompts, sids).of_sids().detach()
    torch.testing.assert_close(reference_likelihoods(model, reference, prompts, sids).of_sids(), before)
    with pytest.raises(ValueError, match="no adapter to switch off"):
        reference_likelihoods(model, None, prompts, sids)
    from peft import get_peft_model

    adapted = get_peft_model(model, lora_config(SidLoraConfig(r=2, dropout=0.0), model))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    moved = candidate_likelihoods(adapted, prompts, sids).of_sids()
    assert (moved - before).abs().max() > 0.01
    moved.sum().backward()
    assert {name.split(".")[-2] for name, own in adapted.named_parameters() if own.grad is not None} >= {"default"}
    torch.testing.assert_close(reference_likelihoods(adapted, None, prompts, sids).of_sids(), before, atol=1e-5, rtol=0)
    torch.testing.assert_close(candidate_likelihoods(adapted, prompts, sids).of_sids(), moved)


def test_wrong_candidates_are_refused(model):
    known = set(map(tuple, CODES.tolist()))
    free = next(sid for sid in np.ndindex(*SIZES) if sid not in known)
    with pytest.raises(ValueError, match=rf"candidate \[{free[0]}, {free[1]}, {free[2]}\] is no Semantic ID"):
        candidate_likelihoods(model, prompts_of(1), torch.tensor([[free]]))
    with pytest.raises(ValueError, match="sid_softmax='vocabulary': allowed are 'children' and 'level'"):
        candidate_likelihoods(model, prompts_of(1), torch.from_numpy(CODES)[None], "vocabulary")
    with pytest.raises(ValueError, match="prompt 1 have 2 codes each; Semantic IDs have 3"):
        padded_candidates([CODES[:2], CODES[:1, :2]], 3)


def test_ragged_lists_may_be_empty():
    sids = padded_candidates([CODES[:2], CODES[:0]], 3)
    assert sids.tolist() == [CODES[:2].tolist(), [[-1] * 3] * 2]


def test_the_index_follows_the_model():
    model = SID_MODELS["encoder-decoder"](SIZES, CODES)
    frozen = frozen_copy(model)
    model.set_sid_index(tiny_index(CODES[:9], SIZES))
    assert len(frozen.sid_index.item_ids) == 60 and not any(own.requires_grad for own in frozen.parameters())
