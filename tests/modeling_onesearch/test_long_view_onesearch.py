"""The long view: where its vectors go, and that every way of running the model sees the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import (
    LONG_VIEW,
    SID_MODELS,
    TEXT_TOKENS,
    gradients,
    long_view_tables,
    random_codes,
    random_long_view,
    random_prompts,
    save_tiny_bart,
    save_tiny_qwen3,
    sid_batch,
    tiny_causal_model,
    tiny_index,
    tiny_model,
    with_places,
)
from transformers import AutoModel, LogitsProcessorList
from transformers.models.bart.modeling_bart import BartModel
from transformers.models.qwen3.modeling_qwen3 import Qwen3Model

from onesearch import OneSearchForCausalLM, OneSearchForConditionalGeneration
from onesearch.modeling_onesearch.long_view_onesearch import LongViewMixin

CODEBOOK_SIZES = (8, 4, 4)
CODES = random_codes(60, CODEBOOK_SIZES, seed=4)
STARTS = np.cumsum([TEXT_TOKENS, *CODEBOOK_SIZES[:-1]])


def make(kind, **changes):
    return SID_MODELS[kind](CODEBOOK_SIZES, CODES, **{**LONG_VIEW, **changes})


@pytest.fixture(params=SID_MODELS)
def kind(request):
    return request.param


@pytest.fixture
def model(kind):
    return make(kind)


def prompts_of(model, rows, seed=0, padding_side=None):
    """Prompts with placeholders; padded as `generate` needs it."""
    padding_side = padding_side or ("right" if model.config.is_encoder_decoder else "left")
    return with_places(*random_prompts(rows, seed=seed, padding_side=padding_side))


def batch_of(model, rows, seed=0):
    """Prompts, histories and the SID of a random item each as target."""
    codes = random_long_view(rows, CODEBOOK_SIZES, seed=seed)
    return {**sid_batch(model, CODES, rows, seed, prompts_of(model, rows, seed)), "long_view_codes": codes}


def run(model, **inputs):
    """The model's forward; the decoder of an encoder-decoder reads its start token."""
    start = {"decoder_input_ids": torch.full((len(inputs["input_ids"]), 1), 2)} if model.config.is_encoder_decoder else {}
    return model(**inputs, **start)


def long_view_of(model, codes):
    """(rows, long_view_tokens, width) vectors of the sequences."""
    reader = model._prompt_reader()
    return reader.long_view(*reader.long_view_pooling(codes))


# Vectors


@pytest.mark.parametrize("items", [0, 1, 7])
def test_nothing_known_is_a_defined_answer(kind, items):
    model = make(kind)
    empty = torch.full((2, 2, items, 3), -1)
    means, held = model._prompt_reader().long_view_pooling(empty)
    assert not means.any() and not held.any()
    vectors = long_view_of(model, empty)
    assert vectors.isfinite().all() and torch.equal(vectors[0], vectors[1])
    prompts = prompts_of(model, 2)
    assert_same(model.search_sids(*prompts, 6, long_view_codes=empty), model.search_sids(*prompts, 6))


def test_a_thousand_items_are_not_larger_than_one(kind):
    """The paper's sums would be; means of what repeats are the same, and the vectors' size does not depend on the length."""
    model = make(kind)
    one = random_long_view(3, CODEBOOK_SIZES, items=1, seed=5).clamp(min=0)
    vectors = long_view_of(model, one)
    torch.testing.assert_close(long_view_of(model, one.repeat(1, 1, 1000, 1)), vectors)
    sizes = [long_view_of(model, random_long_view(3, CODEBOOK_SIZES, items=items)).norm(dim=-1) for items in (2, 30, 1000)]
    for size in sizes[1:]:
        torch.testing.assert_close(size, sizes[0], rtol=0.1, atol=0)


def test_an_empty_sequence_is_not_looked_at(model):
    codes = random_long_view(2, CODEBOOK_SIZES)
    codes[:, 1] = -1
    before = long_view_of(model, codes)
    with torch.no_grad():
        model._prompt_reader().long_view.slots[1] += 5
    torch.testing.assert_close(long_view_of(model, codes), before)


@pytest.mark.parametrize("changes", [{}, {"scale_embedding": True}, {"init_std": 0.02}], ids=str)
def test_the_vectors_start_at_the_size_of_the_embeddings(changes):
    model = tiny_model(CODEBOOK_SIZES, d_model=32, **LONG_VIEW, **changes)
    embeddings = model.model.encoder.embed_tokens(torch.arange(4, TEXT_TOKENS))
    vectors = long_view_of(model, random_long_view(20, CODEBOOK_SIZES))
    assert 0.8 < (vectors.square().mean() / embeddings.square().mean()).sqrt() < 1.25
    spread = (vectors - vectors.mean(0)).square().mean() / vectors.square().mean()
    assert spread > 0.02  # histories tell users apart from the start


# Places


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_the_vectors_stand_in_the_places_and_nowhere_else(model, padding_side):
    input_ids, attention_mask = prompts_of(model, 4, padding_side=padding_side)
    codes = random_long_view(4, CODEBOOK_SIZES)
    reader, vectors = model._prompt_reader(), long_view_of(model, codes)
    embeddings = reader.embed_tokens(input_ids).clone()
    for row in range(4):
        (places,) = (input_ids[row] == 3).nonzero(as_tuple=True)
        embeddings[row, places] = vectors[row]
    backbone = model.model.encoder if model.config.is_encoder_decoder else model.model
    found = backbone(input_ids=input_ids, attention_mask=attention_mask, long_view_codes=codes).last_hidden_state
    expected = backbone(inputs_embeds=embeddings, attention_mask=attention_mask).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_rows_without_places_stay_as_they_are(model):
    input_ids, attention_mask = prompts_of(model, 4)
    input_ids[1][input_ids[1] == 3] = 9
    codes = random_long_view(4, CODEBOOK_SIZES)
    codes[1] = -1
    whole = model.search_sids(input_ids, attention_mask, 5, long_view_codes=codes)
    alone = model.search_sids(input_ids[[1]], attention_mask[[1]], 5)
    assert torch.equal(whole[0][1], alone[0][0])
    torch.testing.assert_close(whole[1][1], alone[1][0], atol=1e-5, rtol=0)


def test_histories_matter_and_only_to_their_own_row(model):
    prompts, codes = prompts_of(model, 4), random_long_view(4, CODEBOOK_SIZES)
    scores = model.search_sids(*prompts, 6, long_view_codes=codes)[1]
    other = codes.clone()
    other[2] = random_long_view(4, CODEBOOK_SIZES, seed=9)[3]
    changed = (model.search_sids(*prompts, 6, long_view_codes=other)[1] - scores).abs().amax(1)
    assert changed[2] > 1e-3 and changed[[0, 1, 3]].max() == 0


# Ways of running it


def generated(model, input_ids, attention_mask, beams, **kwargs):
    """Codes and scores of transformers' own beam search with the processor."""
    length = 1 if model.config.is_encoder_decoder else input_ids.shape[1]
    out = model.generate(
        input_ids=input_ids,
        attention_mask=attention_mask,
        num_beams=beams,
        num_return_sequences=beams,
        length_penalty=0.0,
        logits_processor=[model.logits_processor(length)],
        output_scores=True,
        return_dict_in_generate=True,
        **kwargs,
    )
    codes = out.sequences[:, length:].view(len(input_ids), beams, -1) - torch.from_numpy(STARTS)
    return codes, out.sequences_scores.view(len(input_ids), beams)


def assert_same(found, expected):
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_search_finds_what_generate_finds(kind, implementation):
    model = make(kind, attn_implementation=implementation)
    codes = random_long_view(4, CODEBOOK_SIZES, seed=1)
    for side in ("left", "right") if model.config.is_encoder_decoder else ("left",):
        prompts = prompts_of(model, 4, padding_side=side)
        found = model.search_sids(*prompts, 7, long_view_codes=codes)
        assert_same(found, generated(model, *prompts, 7, long_view_codes=codes))
    assert_same(model.search_sids(*prompts, 7), generated(model, *prompts, 7))


def test_a_decoder_only_model_takes_either_padding_and_needs_no_cache():
    model, codes = make("decoder-only"), random_long_view(4, CODEBOOK_SIZES, seed=1)
    left = prompts_of(model, 4)
    found = model.search_sids(*left, 7, long_view_codes=codes)
    assert_same(model.search_sids(*prompts_of(model, 4, padding_side="right"), 7, long_view_codes=codes), found)
    assert_same(generated(model, *left, 7, long_view_codes=codes, use_cache=False), found)


def test_hits_and_filters_go_by_row(model):
    prompts, codes = prompts_of(model, 4), random_long_view(4, CODEBOOK_SIZES)
    some, others = (model.sid_index.filter(items=[f"item-{row}" for row in range(start, 60, 2)]) for start in (0, 1))
    item_filter = [some, others, some, None]
    hits = model.search(*prompts, 8, item_filter=item_filter, long_view_codes=codes)
    for row in range(4):
        own = [part[[row]] for part in (*prompts, codes)]
        (alone,) = model.search(*own[:2], 8, item_filter=item_filter[row], long_view_codes=own[2])
        assert [hit.item_id for hit in hits[row]] == [hit.item_id for hit in alone]
        assert [hit.score for hit in hits[row]] == pytest.approx([hit.score for hit in alone], abs=1e-4)


def test_later_steps_of_generate_do_not_run_the_resampler(model):
    calls = []
    model._prompt_reader().long_view.register_forward_hook(lambda *_: calls.append(1))
    generated(model, *prompts_of(model, 2), 3, long_view_codes=random_long_view(2, CODEBOOK_SIZES))
    assert len(calls) == 1


@pytest.mark.parametrize("with_codes", [True, False])
def test_the_compiler_sees_one_graph(model, with_codes):
    """Through the tracer alone: no machine code is made."""
    reader = model._prompt_reader()
    input_ids, attention_mask = prompts_of(model, 4)
    inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
    if with_codes:
        inputs["long_view_codes"] = random_long_view(4, CODEBOOK_SIZES)
    compiled = torch.compile(reader, backend="eager", fullgraph=True)
    is_token = attention_mask.bool()
    if not model.config.is_encoder_decoder:  # the encoder alone leaves padding out here, and has no states for it
        is_token = torch.ones_like(is_token)
    with torch.no_grad():
        torch.testing.assert_close(compiled(**inputs).last_hidden_state[is_token], reader(**inputs).last_hidden_state[is_token])


def test_half_precision_runs(model, tmp_path):
    model.save_pretrained(tmp_path)
    half = type(model).from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    batch = batch_of(model, 4)
    assert {tensor.dtype for tensor in half.state_dict().values()} == {torch.bfloat16}
    torch.testing.assert_close(half(**batch).loss, model(**batch).loss, atol=0.2, rtol=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(model(**batch).loss, model(**batch).loss, atol=0.2, rtol=0.1)
    codes, scores = half.search_sids(*prompts_of(model, 4), 5, long_view_codes=batch["long_view_codes"])
    assert scores.dtype == torch.float32 and set(map(tuple, codes.flatten(0, 1).tolist())) <= set(map(tuple, CODES.tolist()))


# Training


def test_everything_but_the_centroids_learns(model):
    model.train()
    model(**batch_of(model, 6)).loss.backward()
    found = gradients(model)
    assert set(found) == {name for name, _ in model.named_parameters()}
    own = {name: gradient for name, gradient in found.items() if "long_view" in name}
    silent = {name for name, gradient in own.items() if not gradient.any()}
    assert len(own) > 40 and {name.rpartition("key.")[2] for name in silent} <= {"bias"}  # a softmax does not see them
    assert not [name for name, _ in model.named_parameters() if "centroids" in name]


def test_what_only_the_history_tells_is_learned():
    """Every other click is the target. Without the history nothing beats the loss of a uniform guess, 1.6."""
    model = make("encoder-decoder").train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    random = np.random.default_rng(0)
    input_ids = torch.tensor([[0, 3, 3, 3, 9, 2]]).expand(32, -1)
    for _ in range(150):
        sids = np.stack([random.integers(0, width, 32) for width in CODEBOOK_SIZES], axis=-1)
        codes = np.stack([random.integers(0, width, (32, 2, 60)) for width in CODEBOOK_SIZES], axis=-1)
        codes[:, 0, ::2] = sids[:, None]
        loss = model(input_ids, labels=torch.from_numpy(sids + STARTS), long_view_codes=torch.from_numpy(codes)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.8


def test_a_batch_without_places_reaches_every_parameter(model):
    """Else data parallelism waits for the resampler for ever."""
    model.train()
    batch = batch_of(model, 3)
    batch["input_ids"][batch["input_ids"] == 3] = 9
    del batch["long_view_codes"]
    loss = model(**batch).loss
    loss.backward()
    found = gradients(model)
    assert set(found) == {name for name, _ in model.named_parameters()}
    assert not any(gradient.any() for name, gradient in found.items() if "long_view" in name)
    assert torch.equal(loss, model.eval()(**batch).loss)


def test_an_objective_sees_the_long_view(model):
    batch = batch_of(model, 4)
    expected = model(**batch)

    def plain(own, inputs, targets):
        return own.score_targets(own.model(**inputs).last_hidden_state, targets)

    assert torch.equal(model(**batch, objective=plain).loss, expected.loss)
    del batch["long_view_codes"]
    assert model(**batch, objective=plain).loss != expected.loss


def test_recorded_states_are_the_parent_s(model):
    batch = batch_of(model, 3)
    out = model(**batch, output_hidden_states=True, return_dict=True)
    layers = out.encoder_hidden_states if model.config.is_encoder_decoder else out.hidden_states
    assert len(layers) == 1 + model.config.num_hidden_layers


# Saving and loading


def test_save_then_load_gives_the_same(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert [name for name in ours if name.endswith("long_view_pooling.centroids")]
    assert set(ours) == set(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)
    prompts, codes = prompts_of(model, 4), random_long_view(4, CODEBOOK_SIZES)
    assert loaded.search(*prompts, 8, long_view_codes=codes) == model.search(*prompts, 8, long_view_codes=codes)
    assert loaded.config.long_view_tokens == 3 and loaded.config.long_view_token_id == 3
    backbone = AutoModel.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(tensor, ours[f"model.{name}"]) for name, tensor in backbone.items())


def test_a_model_without_long_view_is_what_it_was(kind):
    """No parameter, no random number drawn, the same outputs as the plain backbone."""
    plain = SID_MODELS[kind](CODEBOOK_SIZES)
    assert not [name for name, _ in plain.named_modules() if "long_view" in name]
    assert not [name for name in plain.state_dict() if "long_view" in name]
    backbone = BartModel if plain.config.is_encoder_decoder else Qwen3Model
    torch.manual_seed(0)
    other = backbone(plain.config).eval()
    ours, theirs = plain.model.state_dict(), other.state_dict()
    assert list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)
    input_ids, attention_mask = random_prompts(3)
    found = run(plain.model, input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    expected = run(other, input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    if plain.config.is_encoder_decoder:  # its encoder leaves padding out: the same up to rounding
        torch.testing.assert_close(found, expected)
    else:
        assert torch.equal(found, expected)


def test_a_checkpoint_gets_a_long_view_when_loaded(kind, tmp_path):
    plain = SID_MODELS[kind](CODEBOOK_SIZES, CODES)
    plain.save_pretrained(tmp_path)
    model, report = type(plain).from_pretrained(tmp_path, output_loading_info=True, **LONG_VIEW)
    assert report["missing_keys"] and all("long_view" in name for name in report["missing_keys"])
    reader = model._prompt_reader()
    assert not reader.long_view_pooling.centroids.any()
    assert reader.long_view.queries.std() > 0.5 and reader.long_view.norm.weight.eq(0.4).all()
    prompts = random_prompts(3, padding_side="left")
    assert model.search(*prompts, 5) == plain.search(*prompts, 5)
    with pytest.raises(ValueError, match="set_long_view_centroids"):
        model.search(*prompts_of(model, 3), 5, long_view_codes=random_long_view(3, CODEBOOK_SIZES))
    with pytest.raises(ValueError, match="long_view_dim"):
        type(plain).from_pretrained(tmp_path, **{**LONG_VIEW, "long_view_dim": 0})


def test_bart_and_qwen3_checkpoints_get_a_long_view(kind, tmp_path):
    if kind == "encoder-decoder":
        origin, _ = save_tiny_bart(tmp_path)
        start, offset = OneSearchForConditionalGeneration.from_bart, origin.config.vocab_size
    else:
        origin = save_tiny_qwen3(tmp_path)
        start, offset = OneSearchForCausalLM.from_qwen3, origin.config.vocab_size
    model = start(
        tmp_path, offset + sum(CODEBOOK_SIZES), CODEBOOK_SIZES, offset, "fingerprint", dtype=torch.float32, **LONG_VIEW
    ).eval()
    names = {name for name in model.model.state_dict() if "long_view" not in name}
    assert names == set(origin.model.state_dict()) < set(model.model.state_dict())
    model.set_long_view_centroids(long_view_tables(CODEBOOK_SIZES))
    model.set_sid_index(tiny_index(CODES, CODEBOOK_SIZES))
    input_ids, attention_mask = prompts_of(model, 4)
    embeddings = model.get_input_embeddings()(torch.arange(4, offset))
    vectors = long_view_of(model, random_long_view(4, CODEBOOK_SIZES))
    assert 0.8 < (vectors.square().mean() / embeddings.square().mean()).sqrt() < 1.25
    assert len(model.search(input_ids, attention_mask, 5, long_view_codes=random_long_view(4, CODEBOOK_SIZES))) == 4


BARE_MACHINE = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("onesearch", "numba"):
            raise ImportError(f"{name} is not on this machine")

sys.meta_path.insert(0, Blocker())
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

answers = {}
for kind, (folder, inputs) in json.loads(sys.argv[1]).items():
    auto = AutoModelForSeq2SeqLM if kind == "encoder-decoder" else AutoModelForCausalLM
    inputs = {name: torch.tensor(rows) for name, rows in inputs.items()}
    model = auto.from_pretrained(folder, trust_remote_code=True).eval()
    found = lambda model: [[[hit.item_id, hit.score] for hit in row] for row in model.search(**inputs, num_beams=6)]
    answers[kind] = found(model)
    length = 1 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    model.generate(**inputs, num_beams=6, logits_processor=[model.logits_processor(length)])
    model.save_pretrained(folder + "-again")
    again = auto.from_pretrained(folder + "-again", trust_remote_code=True).eval()
    assert found(again) == answers[kind]
assert not [name for name in sys.modules if name.split(".")[0] == "onesearch"]
print(json.dumps(answers))
"""


def test_a_machine_without_the_package_gives_the_same(tmp_path):
    """Both models in one process."""
    expected, given = {}, {}
    for kind in SID_MODELS:
        model, folder = make(kind), tmp_path / kind
        model.save_pretrained(folder)
        prompts, codes = prompts_of(model, 3), random_long_view(3, CODEBOOK_SIZES)
        inputs = {"input_ids": prompts[0], "attention_mask": prompts[1], "long_view_codes": codes}
        expected[kind] = model.search(**inputs, num_beams=6)
        given[kind] = str(folder), {name: tensor.tolist() for name, tensor in inputs.items()}
    command = [sys.executable, "-I", "-c", BARE_MACHINE, json.dumps(given)]
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path, env=environment)
    assert finished.returncode == 0, finished.stderr[-4000:]
    answers = json.loads(finished.stdout.splitlines()[-1])
    assert set(answers) == set(expected)
    for kind, found in answers.items():
        assert [[item for item, _ in row] for row in found] == [[hit.item_id for hit in row] for row in expected[kind]]
        for row, hits in zip(found, expected[kind]):
            assert [score for _, score in row] == pytest.approx([hit.score for hit in hits], abs=1e-5)


# Adapters


@pytest.mark.filterwarnings("ignore:Model with `tie_word_embeddings", "ignore:Model has `tie_word_embeddings")
def test_an_adapter_trains_the_resampler_saves_and_merges(kind, tmp_path):
    """A base with a new long view; the adapter holds LoRA, new tokens and the resampler, but not the centroids."""
    peft = pytest.importorskip("peft")
    model = make(kind)
    model.save_pretrained(tmp_path / "base")
    batch, prompts = batch_of(model, 8), prompts_of(model, 4, seed=7)
    codes = random_long_view(4, CODEBOOK_SIZES, seed=7)
    before = model.search_sids(*prompts, 8, long_view_codes=codes)
    embedding = "shared" if model.config.is_encoder_decoder else "embed_tokens"
    config = peft.LoraConfig(
        r=2,
        target_modules=["q_proj", "v_proj"],
        trainable_token_indices={embedding: list(range(TEXT_TOKENS, TEXT_TOKENS + sum(CODEBOOK_SIZES)))},
        modules_to_save=["long_view"],
    )
    wrapped = peft.get_peft_model(model, config).train()
    start = {name: tensor.clone() for name, tensor in wrapped.state_dict().items()}
    optimizer = torch.optim.AdamW([one for one in wrapped.parameters() if one.requires_grad], lr=1e-2)
    for _ in range(3):
        wrapped(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, tensor in wrapped.state_dict().items() if not torch.equal(tensor, start[name])}
    assert all("lora_" in name or "trainable_tokens_" in name or ".long_view.modules_to_save." in name for name in moved)
    assert {part for part in ("lora_B", "trainable_tokens_delta", "long_view") if any(part in name for name in moved)} == {
        "lora_B",
        "trainable_tokens_delta",
        "long_view",
    }
    wrapped.eval()
    found = wrapped.search_sids(*prompts, 8, long_view_codes=codes)
    assert not torch.equal(found[1], before[1])
    with wrapped.disable_adapter():
        assert_same(wrapped.search_sids(*prompts, 8, long_view_codes=codes), before)
    wrapped.save_pretrained(tmp_path / "adapter")
    names = set(load_file(tmp_path / "adapter" / "adapter_model.safetensors"))
    assert any("long_view.queries" in name for name in names) and not [name for name in names if "centroids" in name]
    base = type(model).from_pretrained(tmp_path / "base")
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert_same(loaded.search_sids(*prompts, 8, long_view_codes=codes), found)
    merged = loaded.merge_and_unload()
    assert_same(merged.search_sids(*prompts, 8, long_view_codes=codes), found)
    merged.save_pretrained(tmp_path / "merged")
    again = type(model).from_pretrained(tmp_path / "merged")
    assert_same(again.search_sids(*prompts, 8, long_view_codes=codes), found)


@pytest.mark.parametrize("targets", [["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"], "all-linear"], ids=str)
def test_adapters_for_the_backbone_leave_the_resampler_alone(targets):
    peft = pytest.importorskip("peft")
    model = make("encoder-decoder")
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=targets, init_lora_weights=False)).eval()
    touched = {name for name, _ in wrapped.named_parameters() if "lora_" in name and "long_view" in name}
    assert bool(touched) == (targets == "all-linear")
    prompts, codes = prompts_of(model, 3), random_long_view(3, CODEBOOK_SIZES)
    found = wrapped.search_sids(*prompts, 6, long_view_codes=codes)
    assert_same(wrapped.merge_and_unload().search_sids(*prompts, 6, long_view_codes=codes), found)


# What does not fit


def broken(codes, place, value):
    codes = codes.clone()
    codes[place] = value
    return codes


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda codes: codes[:, 0], r"\(3, 9, 3\), expected \(batch, sequences=2, items, levels=3\)"),
        (lambda codes: codes[:, :1], "sequences=2"),
        (lambda codes: codes[..., :2], "levels=3"),
        (lambda codes: codes.float(), "float32"),
        (lambda codes: codes[:2], "2 rows for 3 prompts"),
        (lambda codes: broken(codes, (1, 0, 4), torch.tensor([0, 4, 0])), r"level 1 lie in \[-1, 4\], allowed are 0..3"),
        (lambda codes: broken(codes, (1, 0, 4), -2), r"level 0 lie in \[-2"),
        (lambda codes: broken(codes, (1, 0, 4), torch.tensor([0, -1, 0])), "all levels"),
    ],
)
def test_codes_that_do_not_fit_are_refused(model, change, words):
    prompts, codes = prompts_of(model, 3), change(random_long_view(3, CODEBOOK_SIZES))
    for search in (model.search, model.search_sids):
        with pytest.raises(ValueError, match=words):
            search(*prompts, 5, long_view_codes=codes)
    with pytest.raises(ValueError, match=words):
        run(model, input_ids=prompts[0], attention_mask=prompts[1], long_view_codes=codes)


def test_prompts_that_do_not_fit_are_refused(model):
    (input_ids, attention_mask), codes = prompts_of(model, 3), random_long_view(3, CODEBOOK_SIZES)
    cut = input_ids.clone()
    cut[1, (input_ids[1] == 3).nonzero()[0]] = 9
    with pytest.raises(ValueError, match="row 1 holds 2 copies of long_view_token_id=3.*3 .long_view_tokens"):
        model.search(cut, attention_mask, long_view_codes=codes)
    with pytest.raises(ValueError, match="row 1 holds 2 copies"):
        run(model, input_ids=cut)
    bare = input_ids.clone()
    bare[2][bare[2] == 3] = 9
    with pytest.raises(ValueError, match=r"rows \[2\] have long_view_codes.*no place"):
        run(model, input_ids=bare, attention_mask=attention_mask, long_view_codes=codes)
    reader = model._prompt_reader()
    with pytest.raises(ValueError, match="inputs_embeds"):
        reader(inputs_embeds=reader.embed_tokens(input_ids), long_view_codes=codes)
    for both in ({}, {"input_ids": input_ids, "inputs_embeds": reader.embed_tokens(input_ids)}):
        with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
            reader(**both)


def test_a_model_without_long_view_says_so(kind):
    model = SID_MODELS[kind](CODEBOOK_SIZES, CODES)
    with pytest.raises(ValueError, match="long_view_tokens=0"):
        model.search(*random_prompts(2), long_view_codes=random_long_view(2, CODEBOOK_SIZES))
    with pytest.raises(ValueError, match="long_view_tokens=0"):
        model.set_long_view_centroids(long_view_tables(CODEBOOK_SIZES))


def test_tables_that_do_not_fit_are_refused(model):
    good = long_view_tables(CODEBOOK_SIZES)
    for tables in (good[:2], [*good, good[0]], long_view_tables(CODEBOOK_SIZES, 5), long_view_tables((8, 4, 5))):
        with pytest.raises(ValueError, match=r"\(8, 6\), \(4, 6\), \(4, 6\)"):
            model.set_long_view_centroids(tables)
    with pytest.raises(ValueError, match="finite"):
        model.set_long_view_centroids([good[0] * np.nan, *good[1:]])
    with pytest.raises(ValueError, match="zeros"):
        model.set_long_view_centroids([table * 0 for table in good])
    assert isinstance(model._prompt_reader(), LongViewMixin)
    model.set_long_view_centroids([torch.from_numpy(table) for table in good])


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_free_generate_is_not_stopped_by_its_own_placeholders(use_cache):
    """A decoder-only model could emit the placeholder of its long view: it is suppressed, and harmless where somebody allows it."""
    model = tiny_causal_model(**LONG_VIEW)
    with torch.no_grad():  # the placeholder is the most likely token everywhere
        model.lm_head.weight.zero_()
    free = {"max_new_tokens": 4, "min_new_tokens": None, "do_sample": False, "constrained": False, "use_cache": use_cache}
    placeholder = LONG_VIEW["long_view_token_id"]
    forced = LogitsProcessorList([lambda ids, scores: scores + 100.0 * (torch.arange(scores.shape[1]) == placeholder)])
    prompts, mask = random_prompts(2, padding_side="left")
    found = model.generate(prompts, attention_mask=mask, logits_processor=forced, **free)[:, prompts.shape[1] :]
    assert found.shape == (2, 4) and placeholder not in found
    if use_cache:
        model.generation_config.suppress_tokens = None
        found = model.generate(prompts, attention_mask=mask, logits_processor=forced, **free)[:, prompts.shape[1] :]
        assert (found == placeholder).all()
