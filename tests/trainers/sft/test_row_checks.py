"""Rows that a user trains on: what teaches nothing, or something else than it seems to, is refused by its number."""

from __future__ import annotations

import pytest
from datasets import Dataset, IterableDataset
from tiny import random_codes, tiny_index
from toy import CODES, LEVELS, MODELS, TOKENIZER, toy_dataset, toy_model, toy_rows, trainer_of

from onesearch.trainers.sft.data.collators import CausalCollator, Seq2SeqCollator
from onesearch.trainers.sft.data.row_checks import RowLimits

SID = "<a_1><b_2><c_3><d_4><e_5>"

TEXTS = {
    "no prompt": (None, SID, "prompt is None"),
    "blank prompt": (" ", SID, "prompt is ' '"),
    "no completion": ("w1", None, "completion is None"),
    "empty completion": ("w1", "", "completion is ''"),
    "code outside its codebook": ("w1", "<a_999><b_2><c_3><d_4><e_5>", "completion .* names <a_999>, which is no code"),
    "capital letters": ("w1", "<A_1><b_2><c_3><d_4><e_5>", "names <A_1>, which is no code"),
    "unknown code in a prompt": ("w1 <f_1>", SID, "prompt .* names <f_1>, which is no code"),
    "half a SID": ("w1", "<a_1><b_2>", "holds a part of a SID; a SID has 5 codes"),
    "SID and a half": ("w1", SID + "<a_1>", "holds a part of a SID"),
    "wrong order": ("w1", "<b_2><a_1><c_3><d_4><e_5>", "holds a part of a SID"),
    "interrupted SID": ("w1", "<a_1> w <b_2><c_3><d_4><e_5>", "holds a part of a SID"),
    "item": ("w1", "item-7", "'item-7' is the id of an item .*sid_index.sid_of"),
    "long prompt": ("w1 " * 100, SID, r"has \d+ tokens, the model reads at most 64"),
    "long completion": ("w1", SID * 13, r"has (65|7\d) tokens, the model reads at most 64|together has"),
}


def model_with_items(kind):
    model = MODELS[kind]()
    model.set_sid_index(tiny_index(random_codes(20, [CODES] * LEVELS), [CODES] * LEVELS))
    return model


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(("prompt", "completion", "words"), TEXTS.values(), ids=TEXTS)
def test_a_bad_row_of_texts_is_named(tmp_path, kind, prompt, completion, words):
    texts, sids = toy_rows(6, 0)
    completions = [TOKENIZER.sid_string(sid) for sid in sids]
    texts[4], completions[4] = prompt, completion
    dataset = Dataset.from_dict({"prompt": texts, "completion": completions})
    with pytest.raises(ValueError, match=f"row 4 of the train dataset.*{words}"):
        trainer_of(model_with_items(kind), tmp_path, dataset)


def test_good_texts_stay(tmp_path):
    rows = {"prompt": ["w1", f"w2 {SID}", "w3"], "completion": [SID, f"w1 {SID}{SID} w2", "red shoe < item-7"]}
    trainer = trainer_of(model_with_items("bart"), tmp_path, Dataset.from_dict(rows))
    assert [len(row) for row in trainer.train_dataset["input_ids"]] == [
        len(TOKENIZER(text).input_ids) for text in rows["prompt"]
    ]


def test_streamed_texts_are_checked_when_they_are_read(tmp_path):
    def rows():
        yield {"prompt": "w1", "completion": SID}
        yield {"prompt": "w1", "completion": "<a_1>"}

    trainer = trainer_of(toy_model(), tmp_path, IterableDataset.from_generator(rows), max_steps=1)
    with pytest.raises(ValueError, match="row 1 of the train dataset: completion '<a_1>' holds a part of a SID"):
        list(trainer.train_dataset)


IDS = {
    "empty target": ("labels", [], r"labels is \[\], and at least one token"),
    "no target": ("labels", None, "labels is None"),
    "empty prompt": ("input_ids", [], r"input_ids is \[\]"),
    "unknown token": ("input_ids", [0, 9999, 2], "input_ids holds 9999, and the vocabulary has the ids 0 to"),
    "negative target": ("labels", [-100], "labels holds -100"),
    "long prompt": ("input_ids", [5] * 65, "has (65|70) tokens, the model reads at most 64"),
    "long target": ("labels", [5] * 65, r"has (65|7\d) tokens, the model reads at most 64"),
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(("column", "value", "words"), IDS.values(), ids=IDS)
def test_a_bad_row_of_ids_is_named(tmp_path, kind, column, value, words):
    rows = toy_dataset(8).to_dict()
    rows[column][5] = value
    dataset = Dataset.from_dict(rows)
    with pytest.raises(ValueError, match=f"row 5 of the train dataset.*{words}"):
        trainer_of(MODELS[kind](), tmp_path, dataset)
    with pytest.raises(ValueError, match=f"row 1 of the train dataset.*{words}"):
        trainer_of(MODELS[kind](), tmp_path, dataset.select([4, 5]))
    with pytest.raises(ValueError, match="of the eval dataset"):
        trainer_of(MODELS[kind](), tmp_path, toy_dataset(8), eval_dataset=dataset)
    assert trainer_of(MODELS[kind](), tmp_path, dataset.select([0, 1, 2])).train_dataset is not None  # bad rows are left out


@pytest.mark.parametrize("collator", [Seq2SeqCollator(1, 2), CausalCollator(1)])
def test_an_empty_target_is_not_collated(collator):
    with pytest.raises(ValueError, match="empty target would train at loss 0"):
        collator([{"input_ids": [0, 4, 2], "labels": [5]}, {"input_ids": [0, 4, 2], "labels": []}])


def test_limits_are_the_models():
    found = {kind: RowLimits.of(make().config) for kind, make in MODELS.items()}
    assert [limits.positions for limits in found.values()] == [64, 64]
    assert not found["bart"].together and found["qwen3"].together
    assert found["bart"].codebook_sizes == (CODES,) * LEVELS and found["bart"].offset == TOKENIZER.sid_offset
