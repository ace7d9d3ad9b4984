"""Histories with parts left out: the prompt looks as if the user had never had these items."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from onesearch.tokenization_sid.templates import PLAIN_LAYOUT
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer
from onesearch.trainers.sft.data.collators import IGNORED, CausalCollator, Seq2SeqCollator
from onesearch.trainers.sft.history_dropout import HistoryDropout
from onesearch.trainers.sft.sft_config import SidSFTConfig

SIZES = (4, 3)
LAYOUTS = {
    "tokens": replace(PLAIN_LAYOUT, items=9, queries=2, sid=True),
    "labelled": replace(PLAIN_LAYOUT, items=9, queries=2, sid=True, name="search-en/1"),
    "vector": replace(PLAIN_LAYOUT, items=9, queries=2, sid=True, item_form="vector", item_summaries=("brand", "color")),
}
TOKENIZERS = {
    name: SidTokenizer.train(["red shoe coat"], SIZES, vocab_size=300, prompt=layout) for name, layout in LAYOUTS.items()
}
HISTORIES = [[[0, 1], [1, 2], [2, 0], [3, 1], [0, 0]], [], [[3, 2]], [[1, 1], [2, 2], [3, 0]]]
QUERIES = [["coat"], ["shoe"], [], []]
TARGET = [[1, 0]]


def prompt(tokenizer, row, kept):
    history = [item for item, is_kept in zip(HISTORIES[row], kept) if is_kept]
    return tokenizer.encode_prompts(["red"], [history], sids=np.array([[2, 1]]), queries=[QUERIES[row]])[0]


def config_of(form, encoder_decoder):
    tokenizer = TOKENIZERS[form]
    return SimpleNamespace(
        sid_codebook_sizes=SIZES,
        sid_offset=tokenizer.sid_offset,
        history_places=9 if form == "vector" else 0,
        history_token_id=tokenizer.history_token_id,
        is_encoder_decoder=encoder_decoder,
        pad_token_id=tokenizer.pad_token_id,
    )


def dropout_of(form, encoder_decoder=True, **shares):
    return HistoryDropout(config_of(form, encoder_decoder), TOKENIZERS[form].eos_token_id, **{"seed": 3, **shares})


def collated(form, encoder_decoder, kept=None):
    """The batch whose prompts show these items alone; all without `kept`."""
    tokenizer = TOKENIZERS[form]
    kept = [[True] * len(history) for history in HISTORIES] if kept is None else kept
    labels = tokenizer.sids_to_ids(TARGET)[0]
    examples = [{"input_ids": prompt(tokenizer, row, own), "labels": labels, "row": row} for row, own in enumerate(kept)]

    def history(examples):
        rows = [[item for item, is_kept in zip(HISTORIES[own["row"]], kept[own["row"]]) if is_kept] for own in examples]
        items = np.full((len(rows), max(1, *map(len, rows)), 6), -1)
        items[..., 3:5] = 0
        vectors = np.zeros((*items.shape[:2], 2), dtype=np.float32)
        for row, own in enumerate(rows):
            for place, item in enumerate(own):
                items[row, place] = [*item, 2, 5, 7, sum(item)]
                vectors[row, place] = item
        return {"history_items": items, "history_vectors": vectors}

    lookup = history if form == "vector" else None
    pad = tokenizer.pad_token_id
    collator = Seq2SeqCollator(pad, 2, None, lookup) if encoder_decoder else CausalCollator(pad, None, lookup)
    return collator(examples)


def kept_items(dropout, *place):
    """What is drawn for the four histories."""
    counts = np.array([len(history) for history in HISTORIES])
    kept = dropout._kept(counts, np.random.default_rng([dropout.seed, 23, *place]))
    return [own[:count].tolist() for own, count in zip(kept, counts)]


@pytest.mark.parametrize("encoder_decoder", [True, False], ids=["encoder-decoder", "decoder-only"])
@pytest.mark.parametrize("form", LAYOUTS)
@pytest.mark.parametrize(
    "shares", [{"whole": 0.5}, {"items": 0.5}, {"cuts": 1.0}, {"whole": 0.3, "items": 0.3, "cuts": 0.5}], ids=str
)
def test_the_batch_is_the_one_of_a_user_who_never_had_the_other_items(form, encoder_decoder, shares):
    dropout = dropout_of(form, encoder_decoder, **shares)
    for step in range(6):
        kept = kept_items(dropout, step, 0, 0)
        found = dropout(collated(form, encoder_decoder), step, 0, 0)
        expected = collated(form, encoder_decoder, kept)
        assert set(found) == set(expected)
        for name, tensor in expected.items():
            assert torch.equal(found[name], tensor), name


def test_nothing_is_left_out_without_a_share():
    assert not dropout_of("tokens") and dropout_of("tokens", items=0.1)
    batch = collated("vector", True)
    found = dropout_of("vector")(batch, 1)
    assert all(torch.equal(found[name], tensor) for name, tensor in batch.items())


def test_shares_are_met_and_runs_are_successive():
    counts = np.full(4000, 10)
    draw = np.random.default_rng
    assert 0.18 < (~dropout_of("tokens", whole=0.2)._kept(counts, draw(0))).all(1).mean() < 0.22
    assert 0.28 < (~dropout_of("tokens", items=0.3)._kept(counts, draw(0))).mean() < 0.32
    cut = dropout_of("tokens", cuts=0.5)._kept(counts, draw(0))
    starts = (np.diff(cut.astype(int), axis=1, prepend=0) == 1).sum(1)
    assert (starts == 1).all()
    lengths = np.bincount(cut.sum(1), minlength=11)[1:] / 4000
    assert np.allclose(lengths[:9], 0.05, atol=0.015) and 0.5 < lengths[9] < 0.6


def test_the_same_step_draws_the_same_and_others_differ():
    dropout = dropout_of("tokens", items=0.5)
    assert kept_items(dropout, 4, 0, 0) == kept_items(dropout, 4, 0, 0)
    assert len({str(kept_items(dropout, *place)) for place in ((4, 0, 0), (5, 0, 0), (4, 1, 0), (4, 0, 1))}) > 2
    assert kept_items(replace(dropout, seed=9), 4, 0, 0) != kept_items(dropout, 4, 0, 0)


@pytest.mark.parametrize("name", ["history_dropout", "item_dropout", "history_cuts"])
@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_a_share_is_a_probability(name, value, tmp_path):
    with pytest.raises(ValueError, match=f"{name}=.* a probability lies between 0 and 1"):
        SidSFTConfig(output_dir=str(tmp_path), **{name: value})


def test_targets_stay(tmp_path):
    found = dropout_of("tokens", False, whole=1.0)(collated("tokens", False), 0)
    target = TOKENIZERS["tokens"].sids_to_ids(TARGET)[0].tolist()
    for row in range(4):
        assert found["labels"][row][found["labels"][row] != IGNORED].tolist() == target
        assert found["shift_labels"][row][found["shift_labels"][row] != IGNORED].tolist() == target
