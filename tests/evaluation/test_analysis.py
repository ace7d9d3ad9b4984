"""Index terms in any language, and BM25 that finds the right item with them."""

from __future__ import annotations

import pytest

from onesearch.data.market import Market
from onesearch.data.requests import Request
from onesearch.evaluation.analysis import make_tokenizer
from onesearch.evaluation.baselines.text import BM25Retriever
from onesearch.evaluation.evaluator import evaluate
from onesearch.serving.text_index import TextIndex

SHOPS = {
    "zh": (
        ["红色连衣裙女夏季", "男士登山鞋防水", "不锈钢保温杯", "蓝色牛仔裤"],
        {"连衣裙": 0, "登山鞋 男": 1, "保温杯": 2, "牛仔裤蓝色": 3},
    ),
    "ja": (
        ["登山靴 メンズ 防水", "赤いワンピース レディース", "ステンレスボトル 500ml", "ＴＯＳＨＩＢＡ 掃除機"],
        {"防水の登山靴": 0, "ワンピース": 1, "ボトル": 2, "toshiba": 3, "ﾎﾞﾄﾙ": 2},
    ),
    "ko": (["남성등산화 방수", "빨간원피스", "스테인리스 텀블러", "파란 청바지"], {"등산화": 0, "원피스": 1, "텀블러를": 2, "청바지": 3}),
    "th": (
        ["รองเท้าเดินป่าผู้ชายกันน้ำ", "กระเป๋าสะพายหนังสีแดง", "หมวกกันแดดผู้หญิง", "เสื้อกันฝนสีฟ้า"],
        {"รองเท้า": 0, "กระเป๋า": 1, "หมวก": 2, "เสื้อกันฝน": 3, "สีแดง": 1},
    ),
    "de": (
        ["Herren Wanderschuh wasserdicht", "Regenjacke für Damen", "Küchenmessergeschenkset", "Sonnenhut aus Stroh"],
        {"schuhe": 0, "jacke": 1, "Messer": 2, "hut": 3, "Wanderschuhe": 0, "der hut": 3},
    ),
    "en": (["hiking boots", "women's rain jacket", "steel bottle", "straw sun hat"], {"boot": 0, "jackets": 1, "bottles": 2, "hats": 3}),
    "pl": (["buty trekkingowe męskie", "kurtka przeciwdeszczowa", "butelka na wodę"], {"buty męski": 0, "kurtki": 1, "butelki": 2}),
    "hi": (["लाल जूते पुरुष", "नीली जैकेट", "पानी की बोतल", "धूप की टोपी"], {"जूता": 0, "जैकेट": 1, "बोतल": 2, "टोपी": 3}),
    "mul": (
        ["hiking boots waterproof", "Wanderschuh Herren", "男士登山鞋", "登山靴 メンズ", "รองเท้าผ้าใบ"],
        {"boot": 0, "schuh": 1, "登山鞋": 2, "メンズ": 3, "รองเท้า": 4},
    ),
    None: (["Herren Wanderschuh wasserdicht", "Regenjacke für Damen"], {"schuh": 0, "jacke": 1}),
}  # fmt: skip


def shop(language):
    titles, queries = SHOPS[language]
    items = [{"item_id": str(row), "title": title} for row, title in enumerate(titles)]
    return Market.from_rows(items=items, info={"language": language}), {query: str(row) for query, row in queries.items()}


@pytest.mark.parametrize("language", SHOPS)
def test_bm25_finds_the_right_item(language):
    market, queries = shop(language)
    retriever, index = BM25Retriever(market), TextIndex.of(market)
    for query, item_id in queries.items():
        (ranking,) = retriever.retrieve([Request("s", "u", query, (), (), ())], 3)
        assert ranking.item_ids[:1] == (item_id,), query
        assert index.search(query, 1) == [item_id]


def test_terms():
    assert make_tokenizer("en")("The hiking boots, 4 GB") == ["hike", "boot", "4", "gb"]
    assert make_tokenizer("EN-us", stem=False)("red shoes") == ["red", "shoes"]
    assert make_tokenizer("zh-CN")("红色连衣裙の iPhone15") == ["红色", "色连", "连衣", "衣裙", "の", "iphone15"]
    assert make_tokenizer("ja")("登山靴の赤") == ["登山", "山靴", "靴の", "の赤"]
    assert make_tokenizer("th")("กระเป๋า") == ["กระ", "ระเ", "ะเป๋", "เป๋า"]  # letters keep their marks
    assert make_tokenizer("fr")("les chaussures rouges") == ["chaussur", "roug"]
    assert make_tokenizer("de")("der Hut 42") == ["hut", "42", "_hut", "hut_"]
    assert make_tokenizer("de")("Wanderschuh")[0] == "wanderschuh" and "huh_" in make_tokenizer("de")("Schuhe")
    assert make_tokenizer("xx")("abc") == ["abc", "_abc", "abc_"]


def test_a_baseline_that_finds_nothing_is_named():
    class Nothing:
        name = "nothing"

        def retrieve(self, requests, top_k):
            return [BM25Retriever(market).retrieve([request], top_k)[0] for request in requests]

    market, _ = shop("en")
    requests = [Request(f"s{row}", "u", query, (), ("0",), ("0",)) for row, query in enumerate(["zzz", "yyy", "boot"])]
    report = evaluate([Nothing()], requests, cutoffs=[1], bootstrap_samples=10, progress=False)
    assert [note for note in report.notes if "nothing found no item for 2 of 3 requests" in note]
    assert not evaluate([Nothing()], requests[1:], cutoffs=[1], bootstrap_samples=10, progress=False).notes
