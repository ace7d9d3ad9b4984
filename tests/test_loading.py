"""Loading a checkpoint: through the Auto classes, and on a machine that does not have the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch

QUERY, HISTORY = "red shoe", 3


def python(code: str, folder, *arguments: str) -> str:
    """Output of `code` in a fresh process that starts in `folder` and sees neither the checkout nor the user's settings."""
    command = [sys.executable, "-I", "-c", code, *arguments]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}  # copied code would be compiled anew
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder, env=environment)
    assert finished.returncode == 0, finished.stderr[-4000:]
    return finished.stdout


@pytest.fixture(scope="module")
def expected(shared_searcher):
    """Ids, logits and hits, as the package itself gives them."""
    tokenizer, model = shared_searcher.tokenizer, shared_searcher.model
    index = model.sid_index
    history = index.codes[:HISTORY]
    (ids,) = tokenizer.encode_prompts([QUERY], [history])
    logits = model(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([[2]])).logits[0, 0]
    (hits,) = model.search(torch.tensor([ids]), num_beams=10, top_k=10)
    return {"ids": ids, "logits": logits.tolist(), "hits": [[hit.item_id, list(hit.sid), hit.score] for hit in hits]}


def assert_same(found, expected):
    assert found["ids"] == expected["ids"]
    assert found["logits"] == pytest.approx(expected["logits"], abs=1e-6)
    assert [hit[:2] for hit in found["hits"]] == [hit[:2] for hit in expected["hits"]]
    assert [hit[2] for hit in found["hits"]] == pytest.approx([hit[2] for hit in expected["hits"]], abs=1e-5)


def test_the_auto_classes_give_our_classes(shared_run, expected):
    from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer

    import onesearch

    folder = shared_run.checkpoint
    assert type(AutoConfig.from_pretrained(folder)) is onesearch.OneSearchConfig
    assert type(AutoTokenizer.from_pretrained(folder)) is onesearch.SidTokenizer
    assert type(AutoModel.from_pretrained(folder)) is onesearch.OneSearchModel
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    assert type(model) is onesearch.OneSearchForConditionalGeneration
    logits = model(input_ids=torch.tensor([expected["ids"]]), decoder_input_ids=torch.tensor([[2]])).logits[0, 0]
    assert logits.tolist() == expected["logits"]
    assert type(AutoModelForSeq2SeqLM.from_config(model.config)) is onesearch.OneSearchForConditionalGeneration


def test_importing_the_package_imports_neither_torch_nor_transformers(tmp_path):
    code = "import sys, onesearch; print(sorted({'torch', 'transformers', 'trl', 'faiss', 'datasets'} & set(sys.modules)))"
    assert python(code, tmp_path) == "[]\n"


ORDERS = {
    "onesearch, then transformers": "import onesearch, transformers",
    "transformers' classes, then onesearch": "from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer; import onesearch",
    "one of our classes before any of theirs": "from onesearch import OneSearchConfig",
    "sentence-transformers, which imports them": "import onesearch; from sentence_transformers import SentenceTransformer",
    "our model before any of theirs": "from onesearch import OneSearchForConditionalGeneration",
    "our tokenizer before any of theirs": "from onesearch import SidTokenizer",
    "the Auto tokenizer alone": "import onesearch; from transformers import AutoTokenizer as auto; auto.from_pretrained(folder)",
    "the Auto configuration alone": "import onesearch; from transformers import AutoConfig as auto; auto.from_pretrained(folder)",
    "from inside of transformers": "import onesearch; from transformers.modeling_utils import PreTrainedModel",
    "the searcher alone": "from onesearch import Searcher; Searcher.from_pretrained(folder)",
    "the trainer alone": "from onesearch import SidSFTTrainer",
}

IN_ANY_ORDER = """
import json, os, sys, time
import accelerate, datasets, huggingface_hub, safetensors, scipy.stats, sklearn, tokenizers, torch  # once for all children

assert not {"transformers", "onesearch"} & set(sys.modules)
folder, orders = sys.argv[1], json.loads(sys.argv[2])
for name, order in orders.items():
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0, name
        continue
    exec(order)
    from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer
    for auto in (AutoTokenizer, AutoModelForSeq2SeqLM, AutoModel, AutoConfig):
        loaded = auto.from_pretrained(folder)
        assert type(loaded).__module__.startswith("onesearch."), f"{name}: {type(loaded)}"
    sys.stdout.flush()
    os._exit(0)
"""


QUICK, OTHERS = list(ORDERS)[:2], list(ORDERS)[2:]
"""The package first and the package last; then every order in between."""


@pytest.mark.parametrize("names", [QUICK, pytest.param(OTHERS, marks=pytest.mark.slow)], ids=["quick", "all others"])
def test_any_order_of_imports_registers(names, shared_run, tmp_path):
    python(IN_ANY_ORDER, tmp_path, str(shared_run.checkpoint), json.dumps({name: ORDERS[name] for name in names}))


WITHOUT_THE_PACKAGE = """
import json, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "onesearch":
            raise ImportError(f"{name} is not on this machine")

sys.meta_path.insert(0, Blocker())
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer

folder, query, count = sys.argv[1:]
trusted = dict(trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(folder, **trusted)
model = AutoModelForSeq2SeqLM.from_pretrained(folder, **trusted).eval()
AutoModel.from_pretrained(folder, **trusted)
assert AutoConfig.from_pretrained(folder, **trusted).model_type == "onesearch"
assert not [name for name in sys.modules if name.split(".")[0] == "onesearch"]
history = model.sid_index.codes[: int(count)]
(ids,) = tokenizer.encode_prompts([query], [history])
assert tokenizer(tokenizer.render_prompt(query, history)).input_ids == ids
input_ids = torch.tensor([ids])
with torch.no_grad():
    logits = model(input_ids=input_ids, decoder_input_ids=torch.tensor([[2]])).logits[0, 0]
(hits,) = model.search(input_ids, num_beams=10, top_k=10)
out = model.generate(input_ids=input_ids, num_beams=10, num_return_sequences=10, logits_processor=[model.logits_processor()])
assert tokenizer.ids_to_sids(out[:, 1:].numpy()).tolist() == model.search_sids(input_ids, None, 10)[0][0].tolist()
again = folder + "-again"  # what this machine saves loads here, too
model.save_pretrained(again)
tokenizer.save_pretrained(again)
assert AutoTokenizer.from_pretrained(again, **trusted).encode_prompts([query], [history]) == [ids]
(others,) = AutoModelForSeq2SeqLM.from_pretrained(again, **trusted).search(input_ids, num_beams=10, top_k=10)
assert [(hit.item_id, hit.sid, hit.score) for hit in others] == [(hit.item_id, hit.sid, hit.score) for hit in hits]
print(json.dumps({"ids": ids, "logits": logits.tolist(), "hits": [[hit.item_id, list(hit.sid), hit.score] for hit in hits]}))
"""


def test_a_machine_without_the_package_gives_the_same(checkpoint, expected, tmp_path, monkeypatch):
    """In a clean process where `onesearch` cannot be imported; what that process saves loads there again."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    output = python(WITHOUT_THE_PACKAGE, tmp_path, str(checkpoint), QUERY, str(HISTORY))
    assert_same(json.loads(output.splitlines()[-1]), expected)


def test_the_checkpoint_holds_what_it_needs_and_no_pickle(shared_run):
    names = {path.name for path in shared_run.checkpoint.rglob("*") if path.is_file()}
    assert {"config.json", "model.safetensors", "sid_index.safetensors", "tokenizer.json", "README.md"} <= names
    code = {
        "long_view_onesearch.py",
        "configuration_onesearch.py",
        "modeling_onesearch.py",
        "generation_onesearch.py",
        "tokenization_sid.py",
        "prompts.py",
        "ragged.py",
    }
    assert code <= names
    assert {name.rpartition(".")[2] for name in names} == {"json", "safetensors", "parquet", "py", "md", "png"}
    config = json.loads((shared_run.checkpoint / "config.json").read_text())
    assert {"AutoConfig", "AutoModel", "AutoModelForSeq2SeqLM"} <= set(config["auto_map"])


def test_hits_are_plain_values(shared_searcher):
    (hit,) = shared_searcher.search(QUERY, top_k=1)
    plain = {"item_id": hit.item_id, "sid": list(hit.sid), "score": hit.score, "level_scores": None, "towers": None}
    shown = {"title": hit.title, "brand": hit.brand, "price": hit.price, "url": None, "image": None}
    assert json.loads(json.dumps(asdict(hit))) == plain | shown
    assert hit.title and hit.brand and hit.price
