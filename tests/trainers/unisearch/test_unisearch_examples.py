"""Examples of the joint training: prompts and targets follow the codes; words of items take the place of queries."""

from __future__ import annotations

import numpy as np
import pytest
from joint import joint_config
from tiny import random_codes

from onesearch.data.text import item_texts
from onesearch.trainers.unisearch.building import build_parts
from onesearch.trainers.unisearch.examples import word_examples


def test_prompts_and_targets_are_made_of_the_codes_of_the_moment(shared_run):
    parts = build_parts(shared_run, joint_config(item_words=2))
    examples, tokenizer = parts.examples, parts.inputs.tokenizer
    interactions, items = len(examples.interactions.items), len(parts.market.items)
    assert len(examples) == interactions + 2 * items
    rows = np.array([0, interactions - 1, interactions, len(examples) - 1])
    for seed in (0, 1):
        codes = random_codes(items, (8, 8, 8), seed=seed)
        examples.set_codes(codes)
        batch = examples.batch(rows)
        wanted = codes[batch["item_rows"].numpy()]
        assert np.array_equal(tokenizer.ids_to_sids(batch["labels"].numpy()), wanted)
        sessions = np.array([examples.interactions.sessions[row] for row in rows[:2]])
        shown = tokenizer.encode_fields(examples.views.fields(sessions)).tolist()
        for place in range(2):
            length = int(batch["attention_mask"][place].sum())
            assert batch["input_ids"][place, :length].tolist() == shown[place]
    assert batch["item_rows"][2] == 0 and batch["weights"][2:].tolist() == [1.0, 1.0]
    assert examples.batch(rows)["items"]["input_ids"].shape[0] == 4


def test_words_belong_to_the_text_of_their_item(market):
    texts = item_texts(market)
    found = word_examples([*texts, " "], 3, 4, seed=0)
    assert len(found.queries) == 3 * len(texts) and np.bincount(found.items).tolist() == [3] * len(texts)
    for query, row in list(zip(found.queries, found.items))[::50]:
        assert 1 <= len(query.split()) <= 4 and set(query.split()) <= set(texts[row].split())
    assert found.queries == word_examples(texts, 3, 4, seed=0).queries != word_examples(texts, 3, 4, seed=1).queries


def test_prompts_with_sids_of_queries_are_refused(shared_run):
    from dataclasses import replace

    from onesearch.trainers.unisearch.examples import JointExamples

    parts = build_parts(shared_run, joint_config())
    parts.inputs.tokenizer.prompt = replace(parts.inputs.tokenizer.prompt, sid=True)
    with pytest.raises(ValueError, match="default_history"):
        JointExamples(parts.examples.views, parts.inputs.tokenizer, parts.examples.interactions, parts.examples.inputs)
