"""Search settings: what is saved is loaded, and what does not fit is refused by name."""

from __future__ import annotations

import os

import pytest

from onesearch.modeling_onesearch.search_config_onesearch import SEARCH_CONFIG_NAME, SearchConfig


def test_settings_survive_their_file(tmp_path):
    config = SearchConfig(num_beams=7, rank_by="item", items_per_sid=2, exclude_history=True, hidden_views=("items",))
    config.save_pretrained(tmp_path)
    assert SearchConfig.from_pretrained(tmp_path) == config
    assert [path.name for path in tmp_path.iterdir()] == [SEARCH_CONFIG_NAME]


def test_a_checkpoint_without_settings_has_the_defaults(tmp_path):
    assert SearchConfig.from_pretrained(tmp_path) == SearchConfig()


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"num_beams": 0}, ValueError, "num_beams=0 must be at least 1"),
        ({"items_per_sid": 1.5}, TypeError, "items_per_sid=1.5 must be a whole number"),
        ({"rank_by": "foo"}, ValueError, "rank_by='foo' is unknown; allowed are 'sid', 'item'"),
        ({"candidates": "text"}, ValueError, r"candidates='text' is unknown; allowed are 'beam', 'beam\+text'"),
        ({"text_items": 0}, ValueError, "text_items=0 must be at least 1"),
        ({"hidden_views": "items"}, TypeError, "hidden_views='items' must be a list of names"),
        ({"hidden_views": ["item"]}, ValueError, "hidden_views holds 'item'; allowed are 'sid', 'user'"),
        ({"exclude_history": "no"}, TypeError, "exclude_history='no' must be true or false"),
    ],
)
def test_values_that_do_not_fit_are_refused(changes, error, words):
    with pytest.raises(error, match=words):
        SearchConfig(**changes)


@pytest.mark.parametrize("text", ["{", "[]", '{"beams": 3}', '{"num_beams": 0}'])
def test_a_damaged_file_is_named(tmp_path, text):
    (tmp_path / SEARCH_CONFIG_NAME).write_text(text)
    with pytest.raises(ValueError, match=SEARCH_CONFIG_NAME):
        SearchConfig.from_pretrained(tmp_path)


def test_the_file_is_on_the_disk_before_it_replaces_the_old_one(tmp_path, monkeypatch):
    done = []
    flush, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: done.append("flushed") or flush(descriptor))
    monkeypatch.setattr(os, "replace", lambda *paths: done.append("replaced") or replace(*paths))
    SearchConfig(num_beams=7).save_pretrained(tmp_path)
    assert done == ["flushed", "replaced"] and os.listdir(tmp_path) == ["search_config.json"]
