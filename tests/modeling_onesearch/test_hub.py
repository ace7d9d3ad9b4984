"""What reaches the Hub: a model that searches, by either way of pushing it."""

from __future__ import annotations

import os
import subprocess
import sys

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


def test_index_and_search_settings_reach_the_hub(tmp_path):
    model = tiny_model(CODEBOOK_SIZES, random_codes(20, CODEBOOK_SIZES))
    model.search_config = SearchConfig(num_beams=7)
    model.save_pretrained(tmp_path / "model")
    with FakeHub() as hub:
        environment = {**os.environ, **hub.environment(tmp_path / "home")}
        command = [sys.executable, "-c", PUSH_AND_LOAD, str(tmp_path / "model"), str(tmp_path / "other")]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert finished.returncode == 0, finished.stderr[-3000:]
    for repo in ("tester/saved", "tester/pushed"):
        assert {"config.json", "model.safetensors", "sid_index.safetensors", "search_config.json"} <= set(hub.files[repo])
    assert finished.stdout.split() == ["20", "7", "20", "7"]
