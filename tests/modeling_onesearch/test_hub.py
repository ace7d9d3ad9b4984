"""What reaches the Hub: a model that searches, by either way of pushing it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from fakehub import FakeHub
from tiny import random_codes, tiny_model

from onesearch import OneSearchForConditionalGeneration, Searcher
from onesearch.modeling_onesearch.card_onesearch import NO_RESULTS
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig

CODEBOOK_SIZES = (8, 4, 4)

PUSH_AND_LOAD = """
import sys
from transformers import AutoModelForSeq2SeqLM
import onesearch

folder, other = sys.argv[1:]
model = AutoModelForSeq2SeqLM.from_pretrained(folder)
model.save_pretrained(other, push_to_hub=True, repo_id="tester/saved")
model.push_to_hub("tester/pushed")
for repo in ("tester/saved", "tester/pushed"):
    loaded = AutoModelForSeq2SeqLM.from_pretrained(repo)
    print(len(loaded.sid_index), loaded.search_config.num_beams)
"""


PEFT = """
import sys
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForSeq2SeqLM
import onesearch

model = AutoModelForSeq2SeqLM.from_pretrained(sys.argv[1])
model.push_to_hub("tester/base")
model = AutoModelForSeq2SeqLM.from_pretrained("tester/base")
adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
adapted.push_to_hub("tester/adapter")
base = AutoModelForSeq2SeqLM.from_pretrained("tester/base")
found = [PeftModel.from_pretrained(base, "tester/adapter").get_base_model(), AutoModelForSeq2SeqLM.from_pretrained("tester/adapter")]
adapted.merge_and_unload().push_to_hub("tester/merged")
found.append(AutoModelForSeq2SeqLM.from_pretrained("tester/merged"))
for loaded in found:
    print(len(loaded.sid_index), loaded.search_config.num_beams)
"""


def run_with_hub(code, tmp_path):
    """Run code with the folder of a model of 20 items and 7 beams; returns the Hub's files and what the code prints."""
    model = tiny_model(CODEBOOK_SIZES, random_codes(20, CODEBOOK_SIZES))
    model.search_config = SearchConfig(num_beams=7)
    model.save_pretrained(tmp_path / "model")
    with FakeHub() as hub:
        environment = {**os.environ, **hub.environment(tmp_path / "home")}
        command = [sys.executable, "-c", code, str(tmp_path / "model"), str(tmp_path / "other")]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return hub.files, finished.stdout.split()


def test_index_and_search_settings_reach_the_hub(tmp_path):
    files, printed = run_with_hub(PUSH_AND_LOAD, tmp_path)
    for repo in ("tester/saved", "tester/pushed"):
        assert {"config.json", "model.safetensors", "sid_index.safetensors", "search_config.json"} <= set(files[repo])
    assert printed[-4:] == ["20", "7", "20", "7"]


def test_a_model_is_pushed_with_what_lies_beside_its_weights_unless_they_changed(run, hub, caplog):
    """In one commit, with a card that tells of these weights; the card of the Hub keeps the text of people."""
    folder, card = run.checkpoint, run.checkpoint / "README.md"
    model = OneSearchForConditionalGeneration.from_pretrained(folder)
    model.push_to_hub("shop/model")
    files = hub.files["shop/model"]
    assert {"tokenizer.json", "evaluation/metrics.json" if (folder / "evaluation").is_dir() else "diagnostics.png"} <= set(
        files
    )
    assert files["README.md"].decode() == card.read_text(encoding="utf-8")
    assert len([path for verb, path in hub.requests if "/commit/" in path]) == 1
    assert len(Searcher.from_pretrained("shop/model").search("red", top_k=5)) == 5
    hub.edit("shop/model", "README.md", files["README.md"].replace(b"## Limits\n", b"## Limits\n\nMine.\n"))
    with torch.no_grad():
        model.lm_head.weight[0] += 1
    model.push_to_hub("shop/model", revision="trained")
    repo = hub.repos["shop/model"]
    text = repo.commits[repo.branches["trained"]]["README.md"].decode()
    assert "Mine." in text and NO_RESULTS in text and "| onesearch |" not in text
    assert "its weights are not those of a folder" in caplog.text
    model.push_to_hub("shop/other")
    assert NO_RESULTS in hub.files["shop/other"]["README.md"].decode() and "tokenizer.json" not in hub.files["shop/other"]


def test_saving_with_a_push_leaves_the_card_in_the_folder_as_it_is(run, hub):
    model = OneSearchForConditionalGeneration.from_pretrained(run.checkpoint)
    card = run.checkpoint / "README.md"
    card.write_text(card.read_text(encoding="utf-8") + "\nMine.\n", encoding="utf-8")
    before = card.read_bytes()
    model.save_pretrained(run.checkpoint, push_to_hub=True, repo_id="shop/saved")
    assert card.read_bytes() == before == hub.files["shop/saved"]["README.md"]


@pytest.mark.slow
def test_an_adapter_on_the_hub_finds_the_index_of_its_base(tmp_path):
    """PEFT pushes the adapter alone: `PeftModel` on a base and `from_pretrained(adapter)` have the base's index, a merged model its own."""
    files, printed = run_with_hub(PEFT, tmp_path)
    assert {"adapter_model.safetensors"} <= set(files["tester/adapter"]) and "sid_index.safetensors" not in files[
        "tester/adapter"
    ]
    assert {"sid_index.safetensors", "search_config.json"} <= set(files["tester/merged"])
    assert printed[-6:] == ["20", "7"] * 3
