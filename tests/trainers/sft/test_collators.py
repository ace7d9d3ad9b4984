"""Batches: padding, the shift behind the start token, and what TRL reads from them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, List, Value
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.bart.modeling_bart import shift_tokens_right

from onesearch.trainers.sft.data.collators import IGNORED, CausalCollator, Seq2SeqCollator
from onesearch.trainers.sft.data.rows import ArrowRows, lengths_of

ROW = st.fixed_dictionaries(
    {name: st.lists(st.integers(3, 99), min_size=1, max_size=7) for name in ("input_ids", "labels")} | {"length": st.just(0)}
)


@given(st.lists(ROW, min_size=1, max_size=6))
def test_every_row_is_found_again_behind_the_padding(rows):
    batch = Seq2SeqCollator(pad_token_id=1, decoder_start_token_id=2)(rows)
    assert set(batch) == {"input_ids", "attention_mask", "decoder_input_ids", "labels", "shift_labels"}
    assert all(tensor.dtype == torch.int64 for tensor in batch.values())
    for number, row in enumerate(rows):
        source, target = len(row["input_ids"]), len(row["labels"])
        assert batch["input_ids"][number, :source].tolist() == row["input_ids"]
        assert (batch["input_ids"][number, source:] == 1).all()
        assert batch["attention_mask"][number].tolist() == [1] * source + [0] * (batch["input_ids"].shape[1] - source)
        assert batch["labels"][number, :target].tolist() == row["labels"]
        assert (batch["labels"][number, target:] == IGNORED).all()
        assert batch["decoder_input_ids"][number, :target].tolist() == [2, *row["labels"][:-1]]
        assert (batch["decoder_input_ids"][number, target:] == 1).all()
    assert torch.equal(batch["shift_labels"], batch["labels"])


def test_the_shift_is_the_model_s_own():
    rows = [{"input_ids": [5], "labels": [7, 8, 9]}, {"input_ids": [5, 6], "labels": [4, 4, 4]}]
    batch = Seq2SeqCollator(pad_token_id=1, decoder_start_token_id=2)(rows)
    assert torch.equal(batch["decoder_input_ids"], shift_tokens_right(batch["labels"], 1, 2))


@given(st.lists(ROW, min_size=1, max_size=6), st.booleans())
def test_a_target_stands_behind_its_prompt(rows, teacher):
    if teacher:
        rows = [{**row, "teacher_input_ids": [7, *row["input_ids"], 8]} for row in rows]
    batch = CausalCollator(pad_token_id=1)(rows)
    names = {"input_ids", "attention_mask", "labels", "shift_labels"}
    assert set(batch) == (names | {"teacher_input_ids", "teacher_attention_mask", "teacher_shift_labels"} if teacher else names)
    for prefix in ("", "teacher_") if teacher else ("",):
        for number, row in enumerate(rows):
            prompt, target = row[f"{prefix}input_ids"], row["labels"]
            length, found = len(prompt) + len(target), {name: batch[f"{prefix}{name}"][number] for name in names - {"labels"}}
            assert found["input_ids"][:length].tolist() == [*prompt, *target] and (found["input_ids"][length:] == 1).all()
            assert found["attention_mask"].tolist() == [1] * length + [0] * (len(found["input_ids"]) - length)
            predicted = [IGNORED] * (len(prompt) - 1) + [*target] + [IGNORED] * (len(found["input_ids"]) - length + 1)
            assert found["shift_labels"].tolist() == predicted
    for number, row in enumerate(rows):
        assert batch["labels"][number, 1:].tolist() == batch["shift_labels"][number, :-1].tolist()
        assert (batch["labels"][number, : len(row["input_ids"])] == IGNORED).all()


@pytest.mark.parametrize("collator", [Seq2SeqCollator(1, 2), CausalCollator(1)])
def test_behaviour_has_the_batch_s_shape(collator):
    rows = [{"input_ids": np.array([5, 6]), "labels": np.array([7]), "long_view": np.arange(row)} for row in range(3)]
    collator.long_view = lambda examples: np.stack(
        [np.full((2, 4, 5), len(row["long_view"]), dtype=np.int16) for row in examples]
    )
    codes = collator(rows)["long_view_codes"]
    assert codes.shape == (3, 2, 4, 5) and codes.dtype == torch.int64 and codes[:, 0, 0, 0].tolist() == [0, 1, 2]
    for wrong in (np.zeros((3, 2, 4)), np.zeros((2, 2, 4, 5))):
        collator.long_view = lambda examples, wrong=wrong: wrong
        with pytest.raises(ValueError, match=r"for 3 examples; expected \(batch, sequences, items, levels\)"):
            collator(rows)


# Rows

TABLE = {
    "input_ids": [[1, 2], [], [3], [4, 5, 6]],
    "labels": [[7, 8]] * 4,
    "length": [2, 0, 1, 3],
    "name": ["a", "b", "c", "d"],
}
FEATURES = Features(
    {
        "input_ids": List(Value("int32")),
        "labels": List(Value("int32"), length=2),
        "length": Value("int64"),
        "name": Value("string"),
    }
)


@pytest.mark.parametrize("features", [None, FEATURES])
@pytest.mark.parametrize("view", ["plain", "shuffled", "sliced", "mapped"])
def test_rows_are_those_of_the_dataset(tmp_path, features, view):
    dataset = Dataset.from_dict(TABLE, features=features)
    if view == "shuffled":
        dataset = dataset.shuffle(seed=1)
    elif view == "sliced":
        dataset = dataset.select(range(1, 4))
    elif view == "mapped":
        dataset.save_to_disk(tmp_path / "data", num_shards=2)
        dataset = Dataset.load_from_disk(tmp_path / "data")
    order = [2, 0, 2, 1]
    for one, other in zip(ArrowRows(dataset).__getitems__(order), [dataset[row] for row in order], strict=True):
        assert {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in one.items()} == other
        assert isinstance(one["input_ids"], np.ndarray) and one["input_ids"].dtype.kind == "i"
    assert ArrowRows(dataset)[1]["length"] == dataset[1]["length"] and len(ArrowRows(dataset)) == len(dataset)
    assert lengths_of(dataset, "input_ids").tolist() == [len(row) for row in dataset["input_ids"]]
