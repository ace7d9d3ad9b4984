"""`generate` keeps to the catalogue by itself, and lets go where it is told to."""

from __future__ import annotations

import pytest
import torch
from tiny import SID_MODELS, TEXT_TOKENS, random_codes, random_prompts, tiny_causal_model, tiny_index, tiny_model
from toy import CODES as TOY_CODES
from toy import LEVELS, TOKENIZER, toy_causal_model, toy_dataset, toy_model, toy_rows
from transformers import DataCollatorForSeq2Seq, GenerationConfig, Seq2SeqTrainer, Seq2SeqTrainingArguments, pipeline

CODEBOOK_SIZES = (8, 4, 4)
CODES = random_codes(20, CODEBOOK_SIZES, seed=4)
SIDS = {tuple(sid) for sid in CODES.tolist()}


@pytest.fixture(params=SID_MODELS)
def make(request):
    return SID_MODELS[request.param]


@pytest.fixture
def model(make):
    return make(CODEBOOK_SIZES, CODES)


def prompts_of(model, rows=6):
    side = "right" if model.config.is_encoder_decoder else "left"
    input_ids, attention_mask = random_prompts(rows, seed=2, padding_side=side)
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def sids_of(model, tokens):
    """SIDs at the end of each row of generated tokens."""
    starts = torch.tensor([model.config.sid_slice(level)[0] for level in range(3)])
    return [tuple(row) for row in (tokens[:, -3:] - starts).tolist()]


@pytest.mark.parametrize("settings", [{}, {"num_beams": 4, "num_return_sequences": 4}, {"do_sample": True}], ids=str)
def test_a_plain_call_keeps_to_the_catalogue(model, settings):
    prompts = prompts_of(model)
    length = 1 if model.config.is_encoder_decoder else prompts["input_ids"].shape[1]
    torch.manual_seed(0)
    found = model.generate(**prompts, **settings)
    torch.manual_seed(0)
    asked = model.generate(**prompts, **settings, logits_processor=[model.logits_processor(length)])
    assert torch.equal(found, asked) and set(sids_of(model, found)) <= SIDS
    best = model.search_sids(**prompts, num_beams=1)[0][:, 0]
    if not settings:
        assert sids_of(model, found) == [tuple(sid) for sid in best.tolist()]


def test_it_ends_after_one_sid_however_many_tokens_are_asked_for(model):
    prompts = prompts_of(model)
    expected = model.generate(**prompts)
    assert torch.equal(model.generate(**prompts, max_new_tokens=30), expected)
    own = GenerationConfig(max_new_tokens=30, pad_token_id=1, bos_token_id=0)
    assert set(sids_of(model, model.generate(**prompts, generation_config=own))) <= SIDS
    longer = model.generate(**prompts, max_new_tokens=4, eos_token_id=[2])
    assert torch.equal(longer[:, :-1], expected) and (longer[:, -1] == 2).all()


def test_the_switch_lets_any_token_through(model, tmp_path):
    prompts = prompts_of(model)
    free = model.generate(**prompts, constrained=False)
    assert not set(sids_of(model, free)) <= SIDS
    model.generation_config.constrained = False
    assert torch.equal(model.generate(**prompts), free)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path).eval()
    assert torch.equal(loaded.generate(**prompts), free)
    assert set(sids_of(model, loaded.generate(**prompts, constrained=True))) <= SIDS
    own = GenerationConfig(max_new_tokens=3, pad_token_id=1, bos_token_id=0, constrained=True)
    assert set(sids_of(model, loaded.generate(**prompts, generation_config=own))) <= SIDS


def test_without_an_index_it_is_transformers_own(make):
    model = make(CODEBOOK_SIZES)
    prompts = prompts_of(model)
    assert model.generate(**prompts).shape[1] == model.generate(**prompts, constrained=False).shape[1]
    with pytest.raises(ValueError, match="no item index"):
        model.generate(**prompts, constrained=True)
    with pytest.raises(TypeError, match="constrained='yes' must be true or false"):
        model.generate(**prompts, constrained="yes")


def test_a_caller_s_own_constraint_stands_alone(model):
    prompts = prompts_of(model)
    item_filter = model.sid_index.filter(items=["item-3"])
    length = 1 if model.config.is_encoder_decoder else prompts["input_ids"].shape[1]
    found = model.generate(**prompts, logits_processor=[model.logits_processor(length, item_filter)])
    assert set(sids_of(model, found)) == {tuple(CODES[3].tolist())}
    token = TEXT_TOKENS - 1
    assert (model.generate(**prompts, prefix_allowed_tokens_fn=lambda row, ids: [token])[:, -3:] == token).all()


def test_a_history_at_the_prompt_s_end_is_no_prefix_of_the_answer():
    model = tiny_causal_model(CODEBOOK_SIZES, CODES)
    starts = torch.tensor([model.config.sid_slice(level)[0] for level in range(3)])
    input_ids = torch.cat([torch.tensor([[0, 9, 7]]), (torch.from_numpy(CODES[:1]) + starts)[:, :2]], dim=1)
    found = model.generate(input_ids, attention_mask=torch.ones_like(input_ids))
    assert found.shape[1] == 8 and set(sids_of(model, found)) <= SIDS
    embedded = model.generate(inputs_embeds=model.embed_prompts(input_ids), attention_mask=torch.ones_like(input_ids))
    assert torch.equal(embedded, found[:, 5:])


def test_a_begun_sid_is_completed():
    model = tiny_model(CODEBOOK_SIZES, CODES)
    first = TEXT_TOKENS + int(CODES[0, 0])
    prompts = prompts_of(model, 1)
    found = model.generate(**prompts, decoder_input_ids=torch.tensor([[2, first]]), max_new_tokens=2, min_new_tokens=2)
    assert found[0, 1] == first and set(sids_of(model, found)) <= SIDS


def test_a_compiled_model_generates_the_same_from_a_static_cache():
    model = tiny_causal_model(CODEBOOK_SIZES, CODES)
    prompts = prompts_of(model)
    expected = model.generate(**prompts)
    model.forward = torch.compile(model.forward, backend="eager", fullgraph=True)
    assert torch.equal(model.generate(**prompts, cache_implementation="static"), expected)


# Callers that know nothing of tries


def with_catalogue(model):
    sids = {tuple(sid) for sid in toy_rows(64, 0)[1]}
    model.set_sid_index(tiny_index([list(sid) for sid in sorted(sids)], [TOY_CODES] * LEVELS))
    return model, sids


def test_a_text_generation_pipeline_gives_items():
    model, sids = with_catalogue(toy_causal_model())
    pipe = pipeline("text-generation", model=model, tokenizer=TOKENIZER, device="cpu")
    text = pipe("w1 w2 w3 w4", return_full_text=False)[0]["generated_text"]
    assert text.replace(" ", "") in {TOKENIZER.sid_string(sid) for sid in sids}


def test_predict_with_generate_gives_items(tmp_path):
    model, sids = with_catalogue(toy_model())
    trainer = Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(
            output_dir=str(tmp_path), use_cpu=True, predict_with_generate=True, report_to="none", disable_tqdm=True
        ),
        data_collator=DataCollatorForSeq2Seq(TOKENIZER, model),
    )
    rows = toy_dataset(8).select_columns(["input_ids", "labels"])
    found = trainer.predict(rows).predictions
    starts = [model.config.sid_slice(level)[0] for level in range(LEVELS)]
    assert {tuple(row) for row in (found[:, 1 : 1 + LEVELS] - starts).tolist()} <= sids
