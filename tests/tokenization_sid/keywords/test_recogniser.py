"""The recogniser: labels without a labeller, training with replaced values, and values that no list holds."""

from __future__ import annotations

import numpy as np
import pytest

from onesearch.data.market import Market
from onesearch.tokenization_sid.keywords.associations import associated_types
from onesearch.tokenization_sid.keywords.configs import KeywordConfig, RecogniserConfig
from onesearch.tokenization_sid.keywords.keyword_mining import mine_keywords, read_values
from onesearch.tokenization_sid.keywords.keyword_sources import ClickLog
from onesearch.tokenization_sid.keywords.keywords import Keyword
from onesearch.tokenization_sid.keywords.labelling import Labeller
from onesearch.tokenization_sid.keywords.recognised import market_keywords, recognised_keywords
from onesearch.tokenization_sid.keywords.recogniser import FOLDER, TokenRecogniser
from onesearch.tokenization_sid.keywords.recogniser_evaluation import TypeScore, evaluate_titles
from onesearch.tokenization_sid.keywords.recogniser_training import IGNORED, LabelledText, _Replacer
from onesearch.tokenization_sid.keywords.words import LABELS, TypedSpan, labels_of, spans_of, words_of

TINY = RecogniserConfig(hidden_size=32, layers=1, vocab_size=400, steps=250, batch_size=16, learning_rate=0.01, min_texts=1)
BRANDS = ("acme", "bolt", "corvo", "delta")
COLORS = {"red": "crimson", "blue": "azure", "green": "emerald", "black": "jet"}
THINGS = ("kettle", "lamp", "chair")


def shop():
    """Titles with brand, colour and thing; queries use another word for each colour."""
    items, sessions = [], []
    for row in range(48):
        brand, color, thing = BRANDS[row % 4], list(COLORS)[row // 4 % 4], THINGS[row // 16]
        attributes = {"color": [color], "entity": [thing], "brand": [brand]}
        items.append({"item_id": str(row), "title": f"{color} {thing} by {brand}, new", "attributes": attributes})
        clicked = {"session_id": str(row), "user_id": "u", "time": row, "clicked": [str(row)]}
        sessions.append({**clicked, "query": f"buy {COLORS[color]} {thing}"})
    return Market.from_rows(items=items, sessions=sessions, info={"split": {"method": "none"}})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sids")
    found = market_keywords(shop(), [], KeywordConfig(recogniser=True, training=TINY), folder)
    return found, TokenRecogniser.from_pretrained(folder / FOLDER)


def test_a_brand_that_no_list_holds_is_recognised_by_its_place(trained):
    _, recogniser = trained
    title = "red lamp by Wuxofrim, new"
    spans = {
        (span.kind, title.lower()[span.start : span.end]) for (spans,) in [recogniser.recognise([title])] for span in spans
    }
    assert spans == {("color", "red"), ("entity", "lamp"), ("brand", "wuxofrim")}
    assert recogniser.recognise(["", "red lamp"])[0] == []
    unseen = Market.from_rows(
        items=[{"item_id": "a", "title": title, "attributes": {"brand": ["Wuxofrim"], "color": ["red"], "style": ["unnamed"]}}]
    )
    scores = evaluate_titles(recogniser, unseen.items.with_format("arrow")[:])
    assert scores == {"brand": (1, 1, 1, 1), "color": (1, 1, 1, 1), "entity": TypeScore(0, 0.0, 0.0, 0.0)}


def test_words_that_queries_alone_use_join_the_lists(trained):
    found, _ = trained
    kinds = {keyword.text: keyword.kind for keyword in found.keywords}
    assert {kinds[word] for word in COLORS.values()} == {"color"}
    assert "buy" not in kinds and "by" not in kinds and "new" not in kinds
    plain = {keyword.text for keyword in market_keywords(shop(), [], KeywordConfig()).keywords}
    assert plain == {*BRANDS, *COLORS, *THINGS}


def test_finds_need_score_and_texts():
    class Finds:
        def recognise(self, texts):
            score = {"acme kettle": 0.9, "acme lamp": 0.7}
            return [[TypedSpan(0, 4, "brand", score.get(text, 0.95))] if text.startswith("acme") else [] for text in texts]

    titles = ["Acme kettle", "Acme lamp", "Acme chair", "lamp"]
    market = Market.from_rows(
        items=[{"item_id": str(row), "title": title} for row, title in enumerate(titles)], info={"split": {"method": "none"}}
    )
    log = ClickLog.read(market)
    assert recognised_keywords(Finds(), market, log, set(), RecogniserConfig(min_texts=2)) == [Keyword("acme", "brand", 2)]
    assert recognised_keywords(Finds(), market, log, set(), RecogniserConfig(min_texts=3)) == []
    assert recognised_keywords(Finds(), market, log, {"acme"}, RecogniserConfig(min_texts=1)) == []


def test_values_of_the_item_decide_the_type():
    items = [{"item_id": "a", "title": "rose", "attributes": {"color": ["rose"]}}]
    items += [
        {"item_id": f"b{row}", "title": "Rose vase", "attributes": {"pattern": ["rose"], "entity": ["vase"]}}
        for row in range(3)
    ]
    items += [
        {"item_id": "c", "title": "Rose vase of oak"},
        {"item_id": "d", "title": "rose", "attributes": {"pattern": ["dots"]}},
    ]
    market = Market.from_rows(items=items, info={"split": {"method": "none"}})
    values = read_values(market)
    titles = Labeller(mine_keywords(market, values=values), values).titles(market)
    named = [[LABELS[label] for label in text.labels] for text in titles]
    assert named == [["B-color"], *[["B-pattern", "B-entity"]] * 3, ["B-pattern", "B-entity", "O", "O"], ["B-color"]]


def test_words_of_queries_have_the_type_of_what_they_lead_to():
    market = shop()
    types = associated_types(ClickLog.read(market), read_values(market))
    assert types == {"buy": None, **dict.fromkeys(COLORS.values(), "color"), **dict.fromkeys(THINGS, "entity")}
    seldom = Market.from_rows(
        items=[{"item_id": "a", "title": "a", "attributes": {"color": ["red"]}}],
        sessions=[{"session_id": "s", "user_id": "u", "time": 0, "query": "crimson", "clicked": ["a"]}],
        info={"split": {"method": "none"}},
    )
    assert associated_types(ClickLog.read(seldom), read_values(seldom)) == {}
    labeller = Labeller([], read_values(seldom))
    assert labeller.queries(ClickLog.read(seldom)) == [LabelledText(["crimson"], [IGNORED])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red ab-123, 0.5 l", ["red", "ab", "-", "123", ",", "0", ".", "5", "l"]),
        ("红色nike鞋", ["红", "色", "nike", "鞋"]),
        ("a_b", ["a", "_", "b"]),
        ("", []),
    ],
)
def test_words(text, expected):
    assert [text[word.start : word.end] for word in words_of(text)] == expected


def test_labels_and_spans_are_inverse():
    text = "acme ab-123 red"
    words = words_of(text)
    spans = [TypedSpan(0, 4, "brand"), TypedSpan(5, 11, "model"), TypedSpan(12, 15, "color")]
    labels = labels_of(words, spans)
    assert [LABELS[label] for label in labels] == ["B-brand", "B-model", "I-model", "I-model", "B-color"]
    assert spans_of(words, labels, [1.0] * 5) == spans
    torn = spans_of(words, [LABELS.index("I-brand"), LABELS.index("I-model"), 0, 0, 0], [0.5, 0.9, 1, 1, 1])
    assert torn == [TypedSpan(0, 4, "brand", 0.5), TypedSpan(5, 7, "model", 0.9)]


def test_replaced_values_keep_their_shape_and_label():
    text = LabelledText(
        ["acme", "ab", "-", "123", "red"],
        labels_of(words_of("acme ab-123 red"), [TypedSpan(0, 4, "brand"), TypedSpan(5, 11, "model")]),
    )
    config = RecogniserConfig(replace_open=1.0, replace_other=0.0)
    replacer = _Replacer([text], config, np.random.default_rng(0))
    found = [replacer.replaced(text) for _ in range(20)]
    assert all(part.labels == text.labels and part.words[2] == "-" and part.words[4] == "red" for part in found)
    assert all(part.words[3].isdigit() and len(part.words[3]) == 3 and part.words[0].isalpha() for part in found)
    assert len({part.words[0] for part in found}) > 10
    kept = _Replacer([text], RecogniserConfig(replace_open=0.0, replace_other=0.0), np.random.default_rng(0))
    assert kept.replaced(text) == text


def test_a_model_with_other_labels_is_refused(trained, tmp_path):
    from transformers import AutoModelForTokenClassification, BertConfig

    _, recogniser = trained
    config = BertConfig(
        hidden_size=8, num_attention_heads=1, num_hidden_layers=1, intermediate_size=8, vocab_size=8, num_labels=2
    )
    AutoModelForTokenClassification.from_config(config).save_pretrained(tmp_path)
    recogniser.tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="labels LABEL_0, LABEL_1.*has the labels O, B-entity"):
        TokenRecogniser.from_pretrained(tmp_path)


def test_a_market_without_values_trains_none(caplog):
    market = Market.from_rows(items=[{"item_id": "a", "title": "something"}], info={"split": {"method": "none"}})
    assert market_keywords(market, [], KeywordConfig(recogniser=True, training=TINY)).keywords == []
    assert "no recogniser is trained" in caplog.text


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: KeywordConfig(fusion="maybe"), "fusion='maybe' is unknown; allowed are auto, always, never"),
        (lambda: KeywordConfig(core=0), "core=0 is invalid; give at least 1"),
        (lambda: RecogniserConfig(steps=0), "steps=0 is invalid"),
        (lambda: RecogniserConfig(hidden_size=10), "hidden_size=10 is invalid; give a multiple of 4"),
        (lambda: RecogniserConfig(replace_open=1.5), "replace_open=1.5 is invalid; give a share"),
        (lambda: RecogniserConfig(learning_rate=0), "learning_rate=0 is invalid"),
    ],
)
def test_settings_that_make_no_sense(make, words):
    with pytest.raises(ValueError, match=words):
        make()
