"""Batches: padding, the shift behind the start token, and what TRL reads from them."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.bart.modeling_bart import shift_tokens_right

from onesearch.trainers.collators import IGNORED, Seq2SeqCollator

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
