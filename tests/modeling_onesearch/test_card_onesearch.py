"""Merging cards: generated blocks are renewed, what people wrote stays."""

from __future__ import annotations

from huggingface_hub import ModelCard
from tiny import tiny_model

from onesearch.modeling_onesearch.card_onesearch import NO_RESULTS, block, merge_cards, plain_card, prose_of

HEAD = """---
license: {license}
tags: [{tag}]
model-index:
- name: m
  results:
  - task: {{type: x, name: {task}}}
    dataset: {{type: d, name: d}}
    metrics: [{{type: t, value: {value}}}]
---
"""
OURS = "Generative product search"


def card(first, second, prose="words", license="mit", tag="a", task=OURS, value=1):
    head = HEAD.format(license=license, tag=tag, task=task, value=value)
    return f"{head}# Title\n\n{prose}\n\n{block('first', first)}\n\n{block('second', second)}\n\nthe end\n"


def test_blocks_are_renewed_and_prose_stays():
    merged = merge_cards(card("1", "2", prose="my words"), card("10", "20"))
    assert block("first", "10") in merged.text and block("second", "20") in merged.text and "my words" in merged.text
    assert not merged.kept and prose_of(merged.text) == prose_of(card("1", "2", prose="my words"))


def test_an_edited_block_stays_and_is_named_and_a_removed_one_stays_away():
    own = card("1", "2").replace("\n2\n", "\n2 as I see it\n").replace(block("first", "1"), "")
    merged = merge_cards(own, card("10", "20"))
    assert (
        merged.kept == ["second"]
        and "2 as I see it" in merged.text
        and "10" not in merged.text
        and "onesearch:first" not in merged.text
    )


def test_fields_of_people_win_and_their_results_stay():
    own = card("1", "2", license="gpl", tag="mine", task="Theirs", value=7)
    data = ModelCard(merge_cards(own, card("1", "2", license="mit", value=3)).text).data
    assert data.license == "gpl" and data.tags == ["mine", "a"]
    assert {(result.task_name, result.metric_value) for result in data.eval_results} == {("Theirs", 7), (OURS, 3)}
    again = ModelCard(merge_cards(card("1", "2", value=3), card("1", "2", value=4)).text).data
    assert [result.metric_value for result in again.eval_results] == [4]


def test_the_plain_card_claims_nothing():
    model = tiny_model()
    text = plain_card(model)
    data = ModelCard(text).data
    assert f"{model.num_parameters():,} parameters" in text and "codebook sizes 8-4-4" in text and NO_RESULTS in text
    assert data.eval_results is None and data.pipeline_tag == "text-ranking" and "onesearch" in data.tags
