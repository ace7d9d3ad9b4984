"""The decoder-only model: its loss, its weights on disk, its Qwen3 origin, and how it loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tiny import (
    TEXT_TOKENS,
    random_codes,
    random_prompts,
    save_tiny_bart,
    save_tiny_qwen3,
    sid_batch,
    tiny_causal_model,
    tiny_config,
    tiny_index,
    tiny_model,
)

import onesearch
from onesearch import OneSearchForCausalLM, OneSearchQwen3Config, OneSearchQwen3Model, SidTokenizer
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME

CODEBOOK_SIZES = (8, 4, 4)
CODES = random_codes(40, CODEBOOK_SIZES, seed=1)
STARTS = np.cumsum([TEXT_TOKENS, *CODEBOOK_SIZES[:-1]])


@pytest.fixture
def model():
    return tiny_causal_model(CODEBOOK_SIZES, CODES)


def batch_of(model, rows, seed=0, padding_side="right"):
    """Prompts, each continued by the SID of a random item, which is what is learned."""
    batch = sid_batch(model, CODES, rows, seed)
    if padding_side == "right":
        shifts = (batch["attention_mask"] == 0).sum(1).tolist()
        batch = {name: torch.stack([row.roll(-by) for row, by in zip(rows, shifts)]) for name, rows in batch.items()}
    return batch


def expected_loss(model, logits, labels):
    """Each target under the softmax of its level's slice, or of the vocabulary, one after the other."""
    losses = []
    for row, column in (labels != -100).nonzero().tolist():
        if column == 0:
            continue  # nothing precedes it
        target = int(labels[row, column])
        level = int(np.searchsorted(STARTS, target, side="right")) - 1
        start, stop = model.config.sid_slice(level) if level >= 0 else (0, model.config.vocab_size)
        losses.append(F.cross_entropy(logits[row, column - 1, start:stop].float(), torch.tensor(target - start)))
    return torch.stack(losses)


# The loss


@pytest.mark.parametrize("padding_side", ["left", "right"])
def test_a_sid_is_predicted_from_the_position_before_over_its_level_s_slice(model, padding_side):
    batch = batch_of(model, 5, padding_side=padding_side)
    out = model(**batch)
    losses = expected_loss(model, out.logits, batch["labels"])
    assert len(losses) == 15
    torch.testing.assert_close(out.loss, losses.mean())


def test_text_and_sids_mix_in_one_batch(model):
    batch = batch_of(model, 4, seed=3)
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)  # the first token too
    out = model(**batch)
    losses = expected_loss(model, out.logits, batch["labels"])
    torch.testing.assert_close(out.loss, losses.mean())
    torch.testing.assert_close(model(**batch, num_items_in_batch=7).loss, losses.sum() / 7)


def test_only_the_logits_asked_for_are_made(model):
    batch = batch_of(model, 2)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    whole = model(**inputs)
    torch.testing.assert_close(model(**inputs, logits_to_keep=1).logits, whole.logits[:, -1:])
    torch.testing.assert_close(model(**inputs, logits_to_keep=torch.tensor([2, 5])).logits, whole.logits[:, [2, 5]])
    assert whole.loss is None and whole.past_key_values is not None
    assert model.train()(**inputs).logits is not None


def test_the_loss_of_a_sid_is_what_search_scores_over_the_level(model):
    """Training and search speak of the same probability."""
    prompts, mask = random_prompts(1, seed=2)
    (hits,) = model.search(prompts, mask, 40, top_k=40, normalize="level")
    for hit in hits[::5]:
        sid = torch.tensor(hit.sid)[None] + torch.from_numpy(STARTS)
        labels = torch.cat([torch.full_like(prompts, -100), sid], dim=1)
        loss = model(input_ids=torch.cat([prompts, sid], dim=1), labels=labels, num_items_in_batch=1).loss
        assert -loss.item() == pytest.approx(hit.score, abs=1e-4)


# Saving and loading


@pytest.mark.parametrize("tied", [True, False])
def test_save_then_load_gives_the_same_logits_and_hits(tied, tmp_path):
    model = tiny_causal_model(CODEBOOK_SIZES, CODES, tie_word_embeddings=tied)
    model.save_pretrained(tmp_path)
    assert ("lm_head.weight" in load_file(tmp_path / "model.safetensors")) != tied
    loaded, report = OneSearchForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == tied
    batch = batch_of(model, 4)
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    prompts = random_prompts(4)
    assert loaded.search(*prompts, 10) == model.search(*prompts, 10)
    assert loaded.generation_config.max_new_tokens == len(CODEBOOK_SIZES) and loaded.generation_config.eos_token_id is None
    assert loaded.config.sid_codebook_sizes == list(CODEBOOK_SIZES) and loaded.config.sid_fingerprint == "fingerprint"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A model, its index and its tokenizer, as they are published."""
    folder = tmp_path_factory.mktemp("causal") / "checkpoint"
    tokenizer = SidTokenizer.train(
        ["red running shoe", "blue rain coat"], CODEBOOK_SIZES, vocab_size=300, fingerprint="fingerprint"
    )
    config = tiny_causal_model(CODEBOOK_SIZES).config.to_dict() | {
        "vocab_size": len(tokenizer),
        "sid_offset": tokenizer.sid_offset,
    }
    torch.manual_seed(0)
    model = OneSearchForCausalLM(OneSearchQwen3Config(**config)).eval()
    model.set_sid_index(tiny_index(CODES, CODEBOOK_SIZES))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_auto_classes_give_our_classes(checkpoint):
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    assert type(AutoConfig.from_pretrained(checkpoint)) is onesearch.OneSearchQwen3Config
    assert type(AutoTokenizer.from_pretrained(checkpoint)) is SidTokenizer
    assert type(AutoModel.from_pretrained(checkpoint)) is OneSearchQwen3Model
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert type(model) is OneSearchForCausalLM and len(model.sid_index) == 40
    assert type(AutoModelForCausalLM.from_config(model.config)) is OneSearchForCausalLM
    with pytest.raises(ValueError, match="OneSearchQwen3Config"):
        AutoModelForSeq2SeqLM.from_pretrained(checkpoint)
    with pytest.raises(ValueError, match="OneSearchConfig"):
        AutoModelForCausalLM.from_config(tiny_config())


BARE_MACHINE = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("onesearch", "numba"):
            raise ImportError(f"{name} is not on this machine")

sys.meta_path.insert(0, Blocker())
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

folder, query = sys.argv[1:]
trusted = dict(trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(folder, **trusted)
model = AutoModelForCausalLM.from_pretrained(folder, **trusted).eval()
AutoModel.from_pretrained(folder, **trusted)
assert AutoConfig.from_pretrained(folder, **trusted).model_type == "onesearch_qwen3"
assert not [name for name in sys.modules if name.split(".")[0] == "onesearch"]
(ids,) = tokenizer.encode_prompts([query], [model.sid_index.codes[:3]])
input_ids = torch.tensor([ids])
with torch.no_grad():
    logits = model(input_ids=input_ids).logits[0, -1]
item_filter = model.sid_index.filter(exclude=["item-3"])
(hits,) = model.search(input_ids, num_beams=10, top_k=10, item_filter=item_filter)
out = model.generate(
    input_ids=input_ids, num_beams=10, num_return_sequences=10, logits_processor=[model.logits_processor(len(ids), item_filter)]
)
codes = model.search_sids(input_ids, None, 10, item_filter)[0][0]
kernels = [module for name, module in sys.modules.items() if name.endswith(".kernels_onesearch")]
assert [module.AVAILABLE for module in kernels] == [False]
generation = sys.modules[kernels[0].__name__.replace("kernels", "generation")]
try:
    generation.beam_search(lambda *_: None, model.sid_index.trie, 1, 1, compiled=True)
except ValueError as error:
    assert "compiled=True" in str(error) and "pip install onesearch[fast]" in str(error)
else:
    raise AssertionError("no error")
assert tokenizer.ids_to_sids(out[:, len(ids):].numpy()).tolist() == codes.tolist()
again = folder + "-again"  # what this machine saves loads here, too
model.save_pretrained(again)
tokenizer.save_pretrained(again)
assert AutoTokenizer.from_pretrained(again, **trusted).encode_prompts([query], [model.sid_index.codes[:3]]) == [ids]
other = AutoModelForCausalLM.from_pretrained(again, **trusted)
(others,) = other.search(input_ids, num_beams=10, top_k=10, item_filter=other.sid_index.filter(exclude=["item-3"]))
assert [(hit.item_id, hit.sid, hit.score) for hit in others] == [(hit.item_id, hit.sid, hit.score) for hit in hits]
print(json.dumps({"ids": ids, "logits": logits.tolist(), "hits": [[hit.item_id, list(hit.sid), hit.score] for hit in hits]}))
"""


def test_a_machine_without_the_package_and_numba_gives_the_same(checkpoint, tmp_path):
    environment = {**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")}
    command = [sys.executable, "-I", "-c", BARE_MACHINE, str(checkpoint), "red shoe"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path, env=environment)
    assert finished.returncode == 0, finished.stderr[-4000:]
    found = json.loads(finished.stdout.splitlines()[-1])
    model = OneSearchForCausalLM.from_pretrained(checkpoint).eval()
    (ids,) = SidTokenizer.from_pretrained(checkpoint).encode_prompts(["red shoe"], [CODES[:3]])
    assert found["ids"] == ids
    assert found["logits"] == pytest.approx(model(torch.tensor([ids])).logits[0, -1].tolist(), abs=1e-5)
    (hits,) = model.search(torch.tensor([ids]), num_beams=10, item_filter=model.sid_index.filter(exclude=["item-3"]))
    assert [hit[:2] for hit in found["hits"]] == [[hit.item_id, list(hit.sid)] for hit in hits]
    assert [hit[2] for hit in found["hits"]] == pytest.approx([hit.score for hit in hits], abs=1e-5)


def test_the_checkpoint_holds_what_it_needs(checkpoint):
    names = {path.name for path in checkpoint.iterdir()}
    room = os.path.dirname(sys.modules[OneSearchForCausalLM.__module__].__file__)
    code = {name for name in os.listdir(room) if name.endswith("_onesearch.py") and "reward" not in name}
    assert code <= names
    assert {"config.json", "model.safetensors", SID_INDEX_NAME, "tokenizer.json", "tokenization_sid.py"} <= names
    config = json.loads((checkpoint / "config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "configuration_onesearch.OneSearchQwen3Config",
        "AutoModel": "modeling_onesearch.OneSearchQwen3Model",
        "AutoModelForCausalLM": "modeling_onesearch.OneSearchForCausalLM",
    }


# From Qwen3


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("padding", [0, 30], ids=["exact", "padded vocabulary"])
def test_a_qwen3_checkpoint_initialises_the_model(tied, padding, tmp_path):
    """Qwen3's vocabulary is padded: the SIDs of an extended tokenizer may lie on rows that the checkpoint has already."""
    old = TEXT_TOKENS + padding
    qwen = save_tiny_qwen3(tmp_path / "qwen", old, tie_word_embeddings=tied)
    size = max(old, TEXT_TOKENS + sum(CODEBOOK_SIZES))
    model = OneSearchForCausalLM.from_qwen3(tmp_path / "qwen", size, CODEBOOK_SIZES, TEXT_TOKENS, "fingerprint").eval()
    assert model.config.vocab_size == size and model.config.sid_fingerprint == "fingerprint"
    assert model.config.tie_word_embeddings == tied and (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    ours, theirs = model.state_dict(), qwen.state_dict()
    assert set(ours) == set(theirs)
    for name, tensor in theirs.items():
        assert torch.equal(ours[name][: len(tensor)], tensor), name
    input_ids, attention_mask = random_prompts(3)
    logits = model(input_ids=input_ids, attention_mask=attention_mask).logits
    assert logits.shape[-1] == size
    expected = qwen(input_ids=input_ids, attention_mask=attention_mask).logits
    torch.testing.assert_close(logits[..., :old], expected)
    assert model.generation_config.max_new_tokens == 3
    model.set_sid_index(tiny_index(CODES, CODEBOOK_SIZES))
    model.save_pretrained(tmp_path / "ours")
    loaded = OneSearchForCausalLM.from_pretrained(tmp_path / "ours").eval()
    assert loaded.search(input_ids, attention_mask, 5) == model.search(input_ids, attention_mask, 5)


def test_the_type_of_the_weights_is_kept(tmp_path):
    save_tiny_qwen3(tmp_path)
    model = OneSearchForCausalLM.from_qwen3(tmp_path, TEXT_TOKENS + 16, CODEBOOK_SIZES, TEXT_TOKENS, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_what_is_no_qwen3_or_does_not_fit_is_refused(tmp_path):
    save_tiny_qwen3(tmp_path / "qwen")
    with pytest.raises(ValueError, match="SidTokenizer.extend"):
        OneSearchForCausalLM.from_qwen3(tmp_path / "qwen", TEXT_TOKENS - 1, (2,), 10)
    with pytest.raises(ValueError, match="vocabulary of at least 56"):
        OneSearchForCausalLM.from_qwen3(tmp_path / "qwen", TEXT_TOKENS + 15, CODEBOOK_SIZES, TEXT_TOKENS)
    tiny_model(CODEBOOK_SIZES).config.save_pretrained(tmp_path / "onesearch")
    save_tiny_bart(tmp_path / "bart")
    with pytest.raises(ValueError, match="'bart'.*from_qwen3"):
        OneSearchForCausalLM.from_qwen3(tmp_path / "bart", 400, CODEBOOK_SIZES, 384)
    with pytest.raises(ValueError, match="'qwen3'|Unrecognized configuration class"):
        onesearch.OneSearchForConditionalGeneration.from_bart(tmp_path / "qwen", 400, CODEBOOK_SIZES, 384)
