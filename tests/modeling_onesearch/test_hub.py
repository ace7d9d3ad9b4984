"""What reaches the Hub: a model that searches, by either way of pushing it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from fakehub import FakeHub
from tiny import random_codes, tiny_model

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


@pytest.mark.slow
def test_an_adapter_on_the_hub_finds_the_index_of_its_base(tmp_path):
    """PEFT pushes the adapter alone: `PeftModel` on a base and `from_pretrained(adapter)` have the base's index, a merged model its own."""
    files, printed = run_with_hub(PEFT, tmp_path)
    assert {"adapter_model.safetensors"} <= set(files["tester/adapter"]) and "sid_index.safetensors" not in files[
        "tester/adapter"
    ]
    assert {"sid_index.safetensors", "search_config.json"} <= set(files["tester/merged"])
    assert printed[-6:] == ["20", "7"] * 3
