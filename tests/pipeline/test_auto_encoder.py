"""The text encoder of a shop."""

from __future__ import annotations

from dataclasses import replace

import pytest

from onesearch.pipeline import auto_encoder
from onesearch.pipeline.auto_encoder import choose_encoder
from onesearch.pipeline.auto_recipe import auto_recipe
from onesearch.pipeline.market_facts import MarketFacts
from onesearch.tokenization_sid.embedding.configs import AlignmentConfig, TextEncoderConfig


@pytest.fixture(scope="module")
def facts(market):
    return MarketFacts.of(market)


def test_pretrained_vectors_are_for_english_texts(market, facts, monkeypatch):
    recipe = auto_recipe(facts, "shop").recipe
    choice = choose_encoder(market, replace(facts, language="de"), recipe)
    assert choice.config == recipe.encoder and str(choice) == "text vectors: of the catalogue's own texts"
    monkeypatch.setattr(auto_encoder, "find_spec", lambda name: None)
    choice = choose_encoder(market, replace(facts, language="en"), recipe)
    assert choice.config == recipe.encoder and "pip install onesearch[english]" in str(choice)


def test_a_catalogue_without_a_log_takes_the_pretrained_vectors(market, facts, monkeypatch):
    monkeypatch.setattr(auto_encoder, "find_spec", lambda name: object())
    english = replace(facts, language="en")
    few = replace(english, splits={**facts.splits, "validation": replace(facts.validation, requests=99)})
    recipe = auto_recipe(english, "shop").recipe
    for case, given in ((few, recipe), (english, replace(recipe, alignment=None))):
        choice = choose_encoder(market, case, given)
        assert choice.config == TextEncoderConfig(model="english") and "too few to compare" in str(choice)


def test_validation_decides_where_there_is_a_log(market, facts, monkeypatch):
    """The better recall of the aligned encoders is taken; equal ones take the pretrained vectors."""
    recipe = replace(auto_recipe(facts, "shop").recipe, encoder=TextEncoderConfig(dimension=16, vocab_size=500, epochs=0))
    recipe = replace(recipe, alignment=AlignmentConfig(epochs=1))
    case = replace(facts, language="en", splits={**facts.splits, "validation": replace(facts.validation, requests=100)})
    monkeypatch.setattr(auto_encoder, "find_spec", lambda name: object())
    found = {None: 0.0, "english": 0.0}

    def measured(market, encoder, alignment):
        assert alignment == recipe.alignment
        return found[encoder.model]

    own = auto_encoder._recall(market, recipe.encoder, recipe.alignment)
    assert 0.0 < own < 1.0
    monkeypatch.setattr(auto_encoder, "_recall", measured)
    for pretrained, expected in ((own, "english"), (own - 0.01, None), (own + 0.01, "english")):
        found.update({None: own, "english": pretrained})
        choice = choose_encoder(market, case, recipe)
        assert choice.config.model == expected and f"{pretrained:.3f} pretrained, {own:.3f} of the own texts" in str(choice)
