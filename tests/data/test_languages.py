"""The language of a market: of a tag, of texts, and of prompts."""

from __future__ import annotations

import sys

import pytest

from onesearch.data.languages import detect_language, first_subtag, market_language, template_language
from onesearch.data.market import Market


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        ("zh-CN", "zh"),
        ("ZH_tw", "zh"),
        ("zh", "zh"),
        ("de_DE.UTF-8", "de"),
        ("EN", "en"),
        ("mul", "mul"),
        (" fr ", "fr"),
        (None, None),
        ("", None),
    ],
)
def test_the_first_part_of_a_tag_counts(tag, language):
    assert first_subtag(tag) == language


@pytest.mark.parametrize("tag", ["German", "d", 5, "de en", ["de"]])
def test_what_is_no_tag_is_refused(tag):
    with pytest.raises(ValueError, match="the first part of a language is its code of two or three letters"):
        first_subtag(tag)


@pytest.mark.parametrize(
    ("texts", "language"),
    [
        (["红色 连衣裙 女", "Nike 跑鞋 男款", "90"], "zh"),
        (["登山靴 メンズ 防水", "赤い ワンピース", "Nike エアマックス 90"], "ja"),
        (["남성 등산화", "빨간 원피스"], "ko"),
        (["รองเท้าเดินป่า ผู้ชาย", "กระเป๋า Nike"], "th"),
        (["Wanderschuh Herren wasserdicht", "Regenjacke für Damen rot"], "de"),
        (["hiking boot for men", "red rain jacket with hood"], "en"),
        (["chaussure de randonnée imperméable", "veste de pluie rouge"], "fr"),
        (["Красное платье для женщин", "Мужские ботинки Nike"], "ru"),
        (["Κόκκινο φόρεμα"], "el"),
        (["hiking boot", "red jacket", "红色 连衣裙", "登山鞋"], "mul"),
        (["90", "12", None, ""], "en"),
        ([], "en"),
    ],
)
def test_texts_tell_their_language(texts, language):
    assert detect_language(texts).language == language
    assert detect_language(texts * 400).language == language


def test_without_the_detector_the_script_alone_decides(monkeypatch):
    monkeypatch.setitem(sys.modules, "py3langid", None)
    found = detect_language(["Wanderschuh Herren", "Regenjacke rot"])
    assert found.language == "en" and "pip install onesearch[exports]" in found.reason
    assert detect_language(["Красное платье"]).language == "ru" and detect_language(["红色"]).language == "zh"


def test_one_decision_for_markets_and_prompts():
    titles = [{"item_id": "1", "title": "红色连衣裙"}]
    assert market_language(Market.from_rows(items=titles)) == "zh"
    assert market_language(Market.from_rows(items=titles, info={"language": "EN-us"})) == "en"
    assert [template_language(tag) for tag in ("zh-TW", "ZH", "de", None, "mul")] == ["zh", "zh", "en", "en", "en"]
