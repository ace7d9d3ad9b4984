"""The generator without transformers' model classes: the same hits, the checkpoints that it leaves to transformers, and its imports."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from onesearch import OneSearchForConditionalGeneration, Searcher
from onesearch.data.requests import build_requests
from onesearch.files import RunFolder
from onesearch.modeling_onesearch.reward_functions_onesearch import PlainRewardModel
from onesearch.serving.dense_index import prompt_states
from onesearch.serving.plain_model import PlainSearchModel, load_plain_model


def test_a_plain_searcher_has_the_hits_of_the_usual_one(rewarded, reward_searcher, market):
    plain = Searcher.from_pretrained(rewarded.checkpoint, plain=True)
    assert type(plain.model) is PlainSearchModel and type(plain.reranker.parts.model) is PlainRewardModel
    for request in build_requests(market, "test")[:5]:
        for settings in ({}, {"rerank": False}):
            asked = {"history": request.history, "context": request.context, "explain": True, **settings}
            assert plain.search(request.query, **asked) == reward_searcher.search(request.query, **asked)
    batch = build_requests(market, "test")[:9]
    assert plain.hits(batch, 10) == reward_searcher.hits(batch, 10)
    inputs = plain.model_inputs(batch)
    assert prompt_states(plain.model, inputs).tolist() == prompt_states(reward_searcher.model, inputs).tolist()


def damaged_layers(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors.pop(next(name for name in tensors if name.endswith("fc1.weight")))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def more_layers_in_the_weights(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["model.decoder.layers.9.fc1.bias"] = torch.zeros(3)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def bfloat16(folder):
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def setting(name, value):
    def change(folder):
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**settings, name: value}))

    return change


OTHERS = {
    "a layer is missing": damaged_layers,
    "a layer too many": more_layers_in_the_weights,
    "another precision": bfloat16,
    "another architecture": setting("architectures", ["OneSearchForCausalLM"]),
    "another activation": setting("activation_function", "gelu_new"),
    "quantised": setting("quantization_config", {"quant_method": "x"}),
    "other sizes": setting("d_model", 8),
    "an adapter": lambda folder: (folder / "adapter_config.json").write_text("{}"),
    "several files": lambda folder: (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors"),
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_other_checkpoints_are_left_to_transformers(shared_run, tmp_path, change):
    folder = shutil.copytree(shared_run.checkpoint, tmp_path / "checkpoint")
    assert type(load_plain_model(folder)) is PlainSearchModel
    change(folder)
    assert load_plain_model(folder) is None


def test_a_model_that_is_not_plain_is_loaded_as_usual(shared_run, tmp_path):
    folder = shutil.copytree(shared_run.checkpoint, tmp_path / "checkpoint")
    setting("activation_function", "gelu_new")(folder)
    assert type(Searcher.from_pretrained(folder, plain=True).model) is OneSearchForConditionalGeneration
    assert type(Searcher.from_pretrained(shared_run.checkpoint, plain=True, dtype="float32").model) is not PlainSearchModel


COMMAND = """
import sys
from onesearch import cli
assert cli.main(["search", sys.argv[1], "shoe", "--top-k", "3"]) == 0
heavy = {
    "torch._dynamo", "torch._inductor", "torch.distributed.tensor", "torch.distributed.fsdp", "torch.distributed.checkpoint", "sympy",
    "scipy", "sklearn", "numba", "pandas", "datasets", "accelerate", "sentence_transformers", "transformers.modeling_utils",
    "transformers.generation.utils", "transformers.models.bart.modeling_bart",
}
print("heavy:", *sorted(heavy & set(sys.modules)))
"""


def test_one_search_from_the_command_line_imports_no_heavy_module(rewarded, tmp_path):
    """They take 2 of 4 CPU seconds; one that comes back is found by `python -X importtime -m onesearch.cli search RUN QUERY`.

    The prompts are those of the demo's kind: the SIDs of queries need sentence-transformers, which imports all of them.
    """
    run = RunFolder(shutil.copytree(rewarded.root, tmp_path / "run"))
    path = run.checkpoint / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings["prompt_layout"] |= {"sid": False, "user": False, "default_history": False}
    path.write_text(json.dumps(settings))
    found = subprocess.run([sys.executable, "-c", COMMAND, str(run.root)], check=True, capture_output=True, text=True)
    lines = found.stdout.splitlines()
    assert len(lines) == 4 and lines[0].startswith("1\t") and lines[-1] == "heavy:"
