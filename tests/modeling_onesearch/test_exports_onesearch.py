"""Plain checkpoints: stock transformers loads them, with the same logits, and finds the same Semantic IDs under a trie."""

from __future__ import annotations

import json

import pytest
import torch
from tiny import LONG_VIEW, random_codes, random_prompts, tiny_causal_model, tiny_model
from transformers import BartForConditionalGeneration, PreTrainedTokenizerFast, Qwen3ForCausalLM

from onesearch import SidTokenizer
from onesearch.modeling_onesearch.exports_onesearch import SID_ITEMS_NAME

SIZES = (8, 4, 4)
STOCK = {tiny_model: BartForConditionalGeneration, tiny_causal_model: Qwen3ForCausalLM}


@pytest.mark.parametrize("make", list(STOCK))
def test_stock_transformers_loads_the_backbone_with_the_same_logits_and_semantic_ids(make, tmp_path):
    codes = random_codes(30, SIZES)
    model = make(SIZES, codes)
    model.export_backbone(tmp_path / "plain")
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    assert (
        config["model_type"] in ("bart", "qwen3") and "auto_map" not in config and not list((tmp_path / "plain").glob("*.py"))
    )
    plain, report = STOCK[make].from_pretrained(tmp_path / "plain", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    input_ids, mask = random_prompts(4, padding_side="right" if model.config.is_encoder_decoder else "left")
    inputs = {"input_ids": input_ids, "attention_mask": mask}
    if model.config.is_encoder_decoder:
        sids = torch.from_numpy(codes[:4]) + torch.tensor([40, 48, 52])
        inputs["decoder_input_ids"] = torch.cat([torch.full((4, 1), 2), sids], dim=1)
    with torch.no_grad():
        ours, theirs = (one(**inputs).logits for one in (model, plain.eval()))
    # On a padded place of a decoder-only prompt nothing is predicted.
    places = torch.ones_like(ours[..., 0], dtype=torch.bool) if model.config.is_encoder_decoder else mask.bool()
    assert torch.equal(ours[places][:, 40:56], theirs[places][:, 40:56])
    start = 1 if model.config.is_encoder_decoder else input_ids.shape[1]
    processor = model.logits_processor(start)
    search = {"num_beams": 5, "num_return_sequences": 5, "renormalize_logits": True, "length_penalty": 0.0}
    found = plain.generate(input_ids=input_ids, attention_mask=mask, logits_processor=[processor], **search)[:, start:]
    expected, _ = model.search_sids(input_ids, mask, num_beams=5)
    assert (found - torch.tensor([40, 48, 52])).view(4, 5, 3).tolist() == expected.tolist()


def test_the_items_of_each_semantic_id_are_written_for_servers_most_popular_first(tmp_path):
    from tiny import tiny_index

    model = tiny_causal_model(SIZES)
    model.set_sid_index(tiny_index([[0, 1, 2], [7, 3, 3], [0, 1, 2]], SIZES, ["a", "b", "ç"], popularity=[1, 5, 9]))
    model.export_backbone(tmp_path / "plain")
    assert json.loads((tmp_path / "plain" / SID_ITEMS_NAME).read_text(encoding="utf-8")) == {
        "0,1,2": ["ç", "a"],
        "7,3,3": ["b"],
    }
    config = json.loads((tmp_path / "plain" / "config.json").read_text())
    assert (config["sid_offset"], config["sid_codebook_sizes"]) == (40, [8, 4, 4])


def test_the_tokenizer_is_exported_as_a_plain_one(tmp_path):
    tokenizer = SidTokenizer.train(["red shoe", "blue coat"], SIZES, 300)
    tiny_model(SIZES).export_backbone(tmp_path / "plain", tokenizer)
    plain = PreTrainedTokenizerFast.from_pretrained(tmp_path / "plain")
    text = f"red coat{tokenizer.eos_token}{tokenizer.sid_string((7, 0, 3))}"
    assert plain(text)["input_ids"] == tokenizer(text)["input_ids"] and plain.pad_token == tokenizer.pad_token


def test_what_a_plain_backbone_cannot_have_is_refused(tmp_path):
    model = tiny_model(SIZES, **LONG_VIEW)
    with pytest.raises(ValueError, match=r"long_view_tokens=3\), which a plain backbone cannot have; drop_long_view=True"):
        model.export_backbone(tmp_path / "plain")
    model.export_backbone(tmp_path / "plain", drop_long_view=True)
    assert BartForConditionalGeneration.from_pretrained(tmp_path / "plain").config.model_type == "bart"
    with pytest.raises(FileExistsError, match="plain is not empty; export to a new folder"):
        tiny_model(SIZES).export_backbone(tmp_path / "plain")
