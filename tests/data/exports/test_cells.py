"""Single cells: prices, times, paths, lists, ids and texts, whatever their spelling."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesearch.data.exports.decoding import decode
from onesearch.data.exports.ids import ItemIds
from onesearch.data.exports.paths import path_style, split_paths
from onesearch.data.exports.times import read_times
from onesearch.data.exports.values import as_id, as_list, as_price, as_text, decimal_sign, ids_are_floats

CENTS = st.integers(0, 99_999_999)
STYLES = st.sampled_from(
    [(".", ","), (",", "."), ("", "."), ("", ","), (" ", ","), ("\u00a0", ","), ("\u202f", ","), ("'", "."), ("’", ".")]
)
CURRENCIES = st.sampled_from(
    ["{}", "{} €", "€{}", "EUR {}", "{} EUR", "$ {}", "£{}", "CHF {}", "¥{}", "ab {} €", "{} zł", "₹{}"]
)


def spelled(cents: int, thousands: str, decimal: str) -> str:
    return f"{cents // 100:,}".replace(",", thousands) + decimal + f"{cents % 100:02d}"


@given(CENTS, STYLES, CURRENCIES)
def test_a_price_with_cents_is_read_in_every_spelling(cents, style, currency):
    assert as_price(currency.format(spelled(cents, *style))) == pytest.approx(cents / 100, abs=1e-9)


@given(st.lists(st.integers(0, 9_999_999), min_size=1, max_size=20), STYLES)
def test_whole_prices_follow_the_decimal_sign_of_their_column(wholes, style):
    thousands, decimal = style
    column = [spelled(1250, *style), *(f"{whole:,}".replace(",", thousands) for whole in wholes)]
    assert decimal_sign(column) == decimal
    assert [as_price(cell, decimal) for cell in column] == [12.5, *map(float, wholes)]


@pytest.mark.parametrize(
    ("cell", "price"),
    [("1.299", 1299), ("1,299", 1299), ("0,500", 0.5), ("12,9", 12.9), ("12.-", 12), ("1'299.–", 1299), ("3,980円", 3980),
     ("₹1,23,456.00", 123456), ("12,90 – 15,90 €", 12.9), ("1299.000", 1299), (12, 12), (12.5, 12.5), ("１２", 12),
     ("", None), (None, None),
     (float("nan"), None), ("n/a", None)],
)  # fmt: skip
def test_prices(cell, price):
    assert as_price(cell) == price


@pytest.mark.parametrize("cell", ["free", "-5", "€ -5,00", -1.0, float("inf")])
def test_what_is_no_price_is_refused(cell):
    with pytest.raises(ValueError, match="no number|negative|no price"):
        as_price(cell)


MOMENTS = st.datetimes(datetime.datetime(1995, 1, 1), datetime.datetime(2090, 1, 1)).map(
    lambda moment: moment.replace(microsecond=0)
)
FORMATS = st.sampled_from(
    ["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%S UTC", "%d.%m.%Y %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%Y%m%d%H%M%S",
     "%d %b %Y %H:%M:%S", "%a, %d %b %Y %H:%M:%S GMT", "%d/%b/%Y:%H:%M:%S +0000", "%Y年%m月%d日 %H:%M:%S"]
)  # fmt: skip


@given(st.lists(MOMENTS, min_size=1, max_size=5), FORMATS)
def test_times_are_read_in_every_format(moments, form):
    expected = [int(moment.replace(tzinfo=datetime.UTC).timestamp()) * 1000 for moment in moments]
    assert read_times([moment.strftime(form) for moment in moments]).moments == expected


@given(
    st.lists(st.integers(1_000_000_000, 4_000_000_000), min_size=1, max_size=5),
    st.sampled_from([1, 1000, 10**6, 10**9]),
    st.booleans(),
)
def test_numbers_are_times_by_their_size(seconds, factor, as_words):
    cells = [str(second * factor) if as_words else second * factor for second in seconds]
    times = read_times(cells)
    assert times.moments == [second * 1000 for second in seconds] and times.is_clock


def test_the_day_comes_first_where_a_date_tells():
    assert read_times(["03/05/2024", "31/05/2024"]).moments == read_times(["2024-05-03", "2024-05-31"]).moments
    assert read_times(["05/03/2024", "05/31/2024"]).moments == read_times(["2024-05-03", "2024-05-31"]).moments
    assert read_times(["03.05.2024"]).moments == read_times(["2024-05-03"]).moments
    assert read_times(["05/03/2024 1:05 PM"]).moments == read_times(["2024-05-03 13:05"]).moments


def test_other_numbers_are_days_of_excel_or_an_order():
    assert read_times(["45292.5"]).moments == read_times(["2024-01-01 12:00"]).moments
    order = read_times([3, 1, 2])
    assert order.moments == [3, 1, 2] and not order.is_clock
    assert read_times(["yesterday", None, "", "2024-01-01"]).moments == [None, None, None, 1704067200000]
    moment = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
    assert read_times([moment, datetime.date(2024, 1, 1)]).moments == [1704060000000, 1704067200000]


NAMES = st.text("abcdefgh äöü&", min_size=1, max_size=8).map(lambda text: " ".join(text.split())).filter(bool)
PATHS = st.lists(st.lists(NAMES, min_size=2, max_size=4, unique=True), min_size=1, max_size=6)


@given(PATHS, st.sampled_from([" > ", ">", " » ", " / ", "/", "|", "::"]))
def test_paths_are_read_in_every_spelling(paths, sign):
    column = [sign.join(path) for path in paths]
    style = path_style(column)
    assert [split_paths(style.paths(cell)) for cell in column] == [(path, []) for path in paths]


@given(PATHS)
def test_lists_are_paths(paths):
    for column in (paths, [str(path) for path in paths], [str(path).replace("'", '"') for path in paths]):
        style = path_style(column)
        assert [split_paths(style.paths(cell))[0] for cell in column] == paths


@pytest.mark.parametrize(
    ("column", "first"),
    [
        (["Clothing > Shoes, Sale > Shoes", "Sale", "Clothing"], (["Clothing", "Shoes"], ["Sale"])),
        (["Food, Beverages > Tea", "Food, Beverages > Food Items"], (["Food, Beverages", "Tea"], [])),
        (["Default Category/Men/Shoes,Default Category/Sale", "Default Category/Men"], (["Men", "Shoes"], ["Sale"])),
        (["A > B; C > D > E"], (["C", "D", "E"], ["A", "B"])),
        ([["A > B", "C"]], (["A", "B"], ["C"])),
        (["Home & Garden"], (["Home & Garden"], [])),
        (["Shoes &amp; Boots"], (["Shoes & Boots"], [])),
        (["", "A/B"], ([], [])),
    ],
)
def test_several_paths_in_a_cell(column, first):
    assert split_paths(path_style(column).paths(column[0])) == first


@pytest.mark.parametrize(
    ("cell", "entries"),
    [("red, blue", ["red", "blue"]), ("red,blue", ["red", "blue"]), ("37,5", ["37,5"]), ("a|b", ["a", "b"]), (["x", None], ["x"]),
     ("['a', 'b']", ["a", "b"]), ('["a"]', ["a"]), (None, []), ("", []), (42.0, ["42"])],
)  # fmt: skip
def test_lists(cell, entries):
    assert as_list(cell) == entries


def test_texts_lose_html_and_keep_signs():
    assert as_text("<p>Warm&nbsp;&amp; dry</p><ul><li>a</li><li>b</li></ul><script>x()</script>") == "Warm & dry a b"
    assert as_text("size < 40, a<b & c>d") == "size < 40, a<b & c>d"
    assert as_text("<b>bold</b>ly") == "boldly"
    assert (
        as_text("a\0b\ud800") == "ab" and as_text(" NULL ") is None and as_text(float("nan")) is None and as_text(12.0) == "12"
    )
    assert as_text("u\u0308") == "ü"


def test_ids_keep_zeros_and_lose_what_pandas_added():
    assert (
        as_id("00123") == "00123"
        and as_id(123) == "123"
        and as_id(123.0) == "123"
        and as_id("A 1") == "A_1"
        and as_id(" ") is None
    )
    assert ids_are_floats(["1.0", "", "22.0"]) and not ids_are_floats(["1.0", "1.5"]) and not ids_are_floats([])
    assert as_id("123.0", was_float=True) == "123" and as_id("1.0") == "1.0"


def test_items_are_found_by_any_spelling_of_their_ids():
    ids = ItemIds()
    for own, other in (("00123", "SKU-A"), ("7", "SKU-B"), ("8", "7")):
        ids.add(own, own)
        ids.add(other, own)
    assert [ids.find(name) for name in ("00123", "123", "123.0", "sku-a", "https://shop.example/p/SKU-B?x=1")] == [
        "00123"
    ] * 4 + ["7"]
    assert ids.find("7") == "7"  # an item's own id wins over a second id of another item
    ids.add("SKU-A", "8")
    assert ids.find("SKU-A") is None and ids.find("nothing") is None and ids.find(None) is None
    ids.remove("7")
    assert ids.find("SKU-B") is None


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("utf-8", "id;näme"), ("utf-8-sig", "id;näme"), ("utf-16", "id;näme"), ("utf-16-le", "id;näme und mehr"),
     ("utf-16-be", "id;näme und mehr"),
     ("utf-32", "id;näme"), ("cp1252", "Nr;Bücher für Männer, 5 €\n2;Größe"),
     ("cp1250", "id;Buty męskie wodoodporne\n2;Żółta kurtka łóżko"),
     ("cp1251", "id;Красное платье\n2;Ботинки мужские"), ("gb18030", "商品ID,标题\n1,红色连衣裙女夏季\n2,男士登山鞋防水"),
     ("cp932", "商品コード,商品名\n1,登山靴 メンズ 防水\n2,赤い ワンピース"),
     ("cp949", "상품코드,상품명\n1,남성 등산화 방수\n2,빨간 원피스")],
)  # fmt: skip
def test_encodings(encoding, text):
    assert decode(text.encode(encoding)).text == text


def test_a_broken_line_costs_no_file():
    data = "\n".join(["é line"] * 300).encode() + b"\nna\xefve"
    found = decode(data)
    assert found.text.endswith("naïve") and found.text.startswith("é line") and "except 1 lines" in found.encoding
