"""What the beam decoders compute is what the models' own forward computes."""

from __future__ import annotations

import pytest
import torch
from oracles import ForcedLogits
from tiny import TEXT_TOKENS, random_codes, random_prompts, tiny_causal_model, tiny_model

from onesearch import OneSearchForCausalLM, OneSearchForConditionalGeneration
from onesearch.modeling_onesearch import kernels_onesearch
from onesearch.modeling_onesearch.decoding_onesearch import BartBeamDecoder
from onesearch.modeling_onesearch.plain_decoding_onesearch import PlainBartDecoder

CODEBOOK_SIZES = (8, 4, 4)
CODES = random_codes(60, CODEBOOK_SIZES, seed=4)
MODELS = {
    "bart": lambda **changes: tiny_model(CODEBOOK_SIZES, CODES, **changes),
    "bart, three layers, scaled embeddings": lambda **changes: tiny_model(
        CODEBOOK_SIZES, CODES, decoder_layers=3, encoder_layers=2, scale_embedding=True, activation_function="relu", **changes
    ),
    "qwen3": lambda **changes: tiny_causal_model(CODEBOOK_SIZES, CODES, **changes),
    "qwen3, biases, a head per key, untied": lambda **changes: tiny_causal_model(
        CODEBOOK_SIZES,
        CODES,
        attention_bias=True,
        num_key_value_heads=4,
        num_hidden_layers=3,
        tie_word_embeddings=False,
        **changes,
    ),
    "qwen3, one key head, scaled rotation": lambda **changes: tiny_causal_model(
        CODEBOOK_SIZES,
        CODES,
        num_key_value_heads=1,
        rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0},
        **changes,
    ),
}


def run_beams(model, input_ids, attention_mask, seed=0):
    """Three steps with random codes and parents: hidden states of each, and the tokens of each row so far."""
    random = torch.Generator().manual_seed(seed)
    decoder = model._beam_decoder(model.model, input_ids, attention_mask)
    queries = len(input_ids)
    tokens, beams = [[] for _ in range(queries)], 1
    yield decoder.start(), tokens
    for active in (3, 5, 2):
        codes = torch.randint(TEXT_TOKENS, TEXT_TOKENS + sum(CODEBOOK_SIZES), (queries, active), generator=random)
        parents = torch.randint(0, beams, (queries, active), generator=random) + torch.arange(queries)[:, None] * beams
        tokens = [[*tokens[parent], code] for parent, code in zip(parents.flatten().tolist(), codes.flatten().tolist())]
        beams = active
        yield decoder.step(codes, parents.flatten()), tokens


def forced_hidden(model, prompt, mask, tokens):
    """(width,) hidden state after the tokens, by the model's own forward on the prompt without its padding."""
    tokens, prompt = torch.tensor([tokens], dtype=torch.long), prompt[mask.bool()][None]
    if model.config.is_encoder_decoder:
        decoder_input_ids = torch.cat([torch.tensor([[model.config.decoder_start_token_id]]), tokens], dim=1)
        out = model.model(input_ids=prompt, decoder_input_ids=decoder_input_ids)
        return out.last_hidden_state[0, -1]
    return model.model(input_ids=torch.cat([prompt, tokens], dim=1)).last_hidden_state[0, -1]


def check_beams(model, padding_side):
    input_ids, attention_mask = random_prompts(4, seed=1, padding_side=padding_side)
    with torch.no_grad():
        for hidden, tokens in run_beams(model, input_ids, attention_mask):
            assert hidden.shape[0] == len(tokens)
            for row, own in enumerate(tokens):
                query = row * len(input_ids) // len(tokens)
                expected = forced_hidden(model, input_ids[query], attention_mask[query], own)
                torch.testing.assert_close(hidden[row], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("name", MODELS)
def test_beams_see_what_forward_sees(name, padding_side):
    check_beams(MODELS[name](), padding_side)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["bart", "qwen3"])
def test_any_attention_implementation_serves(name, implementation):
    model = MODELS[name](attn_implementation=implementation)
    assert model.config._attn_implementation.endswith(implementation)  # sdpa is registered with a prefix
    check_beams(model, "left")
    check_beams(model, "right")


@pytest.mark.parametrize("name", ["bart", "qwen3"])
def test_half_precision_gives_valid_sids(name, tmp_path):
    model = MODELS[name]()
    model.save_pretrained(tmp_path)
    half = type(model).from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    prompts = random_prompts(4, seed=3)
    for implementation in ("eager", "sdpa"):
        half.set_attn_implementation(implementation)
        codes, scores = half.search_sids(*prompts, 9)
        assert scores.dtype == torch.float32 and (scores > -torch.inf).all()
        assert set(map(tuple, codes.flatten(0, 1).tolist())) <= set(map(tuple, CODES.tolist()))
        found = [(code, score) for code, score in zip(codes[0].tolist(), scores[0].tolist())]
        exact = {tuple(sid): score for sid, score in zip(*(part[0].tolist() for part in model.search_sids(*prompts, 60)))}
        assert all(abs(exact[tuple(code)] - score) < 0.5 + 0.1 * abs(score) for code, score in found)


def test_the_prompt_runs_once_per_query_and_its_keys_are_not_repeated():
    for name in ("bart", "qwen3"):
        model = MODELS[name]()
        input_ids, attention_mask = random_prompts(3)
        decoder = model._beam_decoder(model.model, input_ids, attention_mask)
        decoder.start()
        decoder.step(torch.full((3, 40), TEXT_TOKENS), torch.arange(3).repeat_interleave(40))
        assert all(part.shape[0] == 3 for pair in decoder.shared for part in pair)
        assert all(own.stored.keys.shape[0] == 3 * 40 for own in decoder.own)


def plain_decoder(model, prompts):
    """The decoder that `model` searches with, and whether it runs plain functions."""
    decoder = model._beam_decoder(model.model, *prompts)
    return decoder, isinstance(decoder, PlainBartDecoder)


@torch.no_grad()
def test_plain_functions_keep_a_row_for_each_code_of_the_beams():
    model, prompts = MODELS["bart"](), random_prompts(3)
    decoder, is_plain = plain_decoder(model, prompts)
    assert is_plain
    decoder.start()
    decoder.step(torch.full((3, 40), TEXT_TOKENS), torch.arange(3).repeat_interleave(40))
    decoder.step(torch.full((3, 7), TEXT_TOKENS), torch.arange(0, 120, 40).repeat_interleave(7))
    assert all(part.shape[0] == 3 for pair in decoder.shared for part in pair)
    assert [own.count for own in decoder.own] == [3 + 120 + 21] * len(decoder.own)
    assert decoder.places.rows[8].tolist() == [1, 3 + 40, 123 + 8]  # the prompt's start, its beam's first code, its own


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_plain_functions_compute_what_the_modules_compute(padding_side, dtype):
    model = MODELS["bart, three layers, scaled embeddings"]().to(dtype)
    prompts = random_prompts(4, seed=1, padding_side=padding_side)
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    found = [states for states, _ in run_beams(model, *prompts)]
    model._beam_decoder = BartBeamDecoder
    for states, (expected, _) in zip(found, run_beams(model, *prompts)):
        torch.testing.assert_close(states, expected, atol=tolerance, rtol=tolerance)


@torch.no_grad()
def test_plain_functions_without_numba_are_the_same(monkeypatch):
    model, prompts = MODELS["bart"](), random_prompts(3, seed=2)
    found = [states for states, _ in run_beams(model, *prompts)]
    monkeypatch.setattr(kernels_onesearch, "AVAILABLE", False)
    for states, (expected, _) in zip(found, run_beams(model, *prompts)):
        torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-5)


def test_modules_run_where_a_layer_is_not_the_plain_one():
    model, prompts = MODELS["bart"](), random_prompts(2)
    layer = model.model.decoder.layers[0]
    assert not plain_decoder(model, prompts)[1]  # with gradients
    with torch.no_grad():
        assert plain_decoder(model, prompts)[1]
        handle = layer.fc1.register_forward_hook(lambda *_: None)
        assert not plain_decoder(model, prompts)[1]
        handle.remove()
        assert not plain_decoder(model.train(), prompts)[1]
        model.eval().set_attn_implementation("eager")
        assert not plain_decoder(model, prompts)[1]
        model.set_attn_implementation("sdpa")
        with torch.autocast("cpu", torch.bfloat16):
            assert not plain_decoder(model, prompts)[1]
        layer.fc1 = torch.nn.Sequential(layer.fc1)
        assert not plain_decoder(model, prompts)[1]


def test_a_sliding_window_is_refused_in_search():
    model = tiny_causal_model(CODEBOOK_SIZES, CODES, use_sliding_window=True, sliding_window=4, max_window_layers=1)
    assert model.config.layer_types == ["full_attention", "sliding_attention"]
    with pytest.raises(ValueError, match="sliding-window.*use_sliding_window"):
        model.search(*random_prompts(2))
    assert model(random_prompts(2)[0]).logits.shape[0] == 2


TARGETS = {
    OneSearchForConditionalGeneration: ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2", "lm_head"],
    OneSearchForCausalLM: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"],
}


@pytest.mark.parametrize("name", ["bart", "qwen3"])
@pytest.mark.parametrize("with_head", [False, True], ids=["without the head", "with the head"])
@pytest.mark.filterwarnings(
    "ignore:Model with `tie_word_embeddings", "ignore:Model has `tie_word_embeddings", "ignore:`is_gradient_checkpointing"
)
def test_adapters_search_the_same_as_merged(name, with_head):
    peft = pytest.importorskip("peft")
    untied = {"tie_word_embeddings": False} if name == "qwen3" else {}
    model = MODELS[name](**untied)
    prompts = random_prompts(3, seed=5)
    before, _ = model.search_sids(*prompts, 8)
    targets = [target for target in TARGETS[type(model)] if with_head or target != "lm_head"]
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=targets, init_lora_weights=False)).eval()
    found = {manner: wrapped.search_sids(*prompts, 8, normalize=manner) for manner in ("children", "level", "vocabulary")}
    assert not torch.equal(before, found["children"][0])
    for manner, (codes, scores) in found.items():
        oracle = ForcedLogits(wrapped.get_base_model(), *prompts, manner)
        for query in range(3):
            expected = oracle.best(CODES.tolist(), query, 8)
            assert list(map(tuple, codes[query].tolist())) == [sid for sid, _ in expected]
            assert scores[query].tolist() == pytest.approx([sum(parts) for _, parts in expected], abs=1e-4)
    hits = wrapped.search(*prompts, 8)
    if with_head and not untied:
        return  # merging would change the embedding that the head shares
    merged = wrapped.merge_and_unload()
    codes, scores = merged.search_sids(*prompts, 8)
    assert torch.equal(codes, found["children"][0])
    torch.testing.assert_close(scores, found["children"][1], atol=1e-4, rtol=0)
    assert [[hit.item_id for hit in row] for row in merged.search(*prompts, 8)] == [
        [hit.item_id for hit in row] for row in hits
    ]
