"""Whole exports: the same market from every format, and the exports of shop systems as they are."""

from __future__ import annotations

import json
import zipfile

import pytest
from importer_files import sound
from shop_exports import SMALL, SMALL_LOG, write_german_shop, write_small

from onesearch.data.exports import read_shop

FORMATS = (".csv", ".tsv", ".txt", ".csv.gz", ".jsonl", ".json", ".xlsx", ".parquet")


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_gives_the_same_market(ending, tmp_path):
    shop = read_shop(write_small(tmp_path / f"p{ending}", SMALL), write_small(tmp_path / f"l{ending}", SMALL_LOG))
    market = sound(shop.market, tmp_path)
    red, blue, hat = market.items.to_list()
    assert [item["item_id"] for item in (red, blue, hat)] == ["00017", "00018", "00019"]
    assert [item["title"] for item in (red, blue, hat)] == [row["name"] for row in SMALL]
    assert [item["categories"] for item in (red, blue, hat)] == [row["category"] for row in SMALL]
    assert [item["price"] for item in (red, blue, hat)] == [89.5, 1299.0, 12.0]
    assert [item["attributes"]["color"] for item in (red, blue, hat)] == [["red"], ["blue"], []]
    first, second = market.sessions.to_list()
    assert first["query"] == "shoe" and first["user_id"] == "u1" and first["time"] == 1714550000 and first["scene"] == "search"
    assert first["impressed"] == first["clicked"] == first["purchased"] == ["00017"] and not first["carted"]
    assert second["query"] == "rain coat" and second["clicked"] == ["00018"] and second["impressed"] == []
    assert market.info["language"] == "en"
    (left_out,) = (column for column in shop.report.products.columns if column.field is None)
    assert left_out.column == "stock" and left_out.why == "says nothing by which items are found"


def test_a_german_shop_in_excel_csv(tmp_path):
    shop = read_shop(*write_german_shop(tmp_path))
    market, products, log = sound(shop.market, tmp_path), shop.report.products, shop.report.logs[0]
    assert len(market.items) == 300 and (products.rows, products.kept, products.merged, products.lost) == (303, 300, 0, 3)
    assert {loss.reason: loss.count for loss in products.lost_rows} == {
        "fewer cells than the header has columns": 1,
        "the id occurred before, with another title": 1,
        "the id (column 'Artikelnummer') is empty": 1,
    }
    assert products.lost_rows[1].example == "artikel.csv:11 (00003: Doppelt mit anderem Titel)"
    assert products.form == "UTF-8 with a byte order mark, separated by semicolon, 1 line before the header"
    item = market.items[200]
    assert item["item_id"] == "00200" and item["price"] == pytest.approx(1405.9) and item["categories"][0] == "Alles"
    noun, color = item["categories"][-1], item["attributes"]["color"][0]
    assert item["title"].endswith(f"{noun} {color}") and item["image"] == "https://shop.example/img/00200.jpg"
    assert item["description"] == f'Schöner {noun} in {color}. Aus "gutem" Stoff & Faden'
    lost = {loss.reason: loss.count for loss in log.lost_rows}
    assert list(lost) == ["the item is not in the catalogue"] and log.rows == 2000 and log.kept == 2000 - log.lost > 1800
    assert log.form.startswith("Windows-1252, separated by semicolon")
    searches = [session for session in market.sessions.to_list() if session["scene"] == "search"]
    assert len(searches) == 499  # of 500; two anonymous users asked the same within half an hour
    bought = [session for session in searches if session["purchased"]]
    assert len(bought) > 250 and all(session["purchased"] == session["clicked"] for session in bought)
    assert market.info["language"] == "de" and market.info["split"]["method"] == "time"
    assert json.loads(json.dumps(shop.report.to_dict()))["logs"][0]["rows"] == 2000
    table = shop.report.to_table()
    assert (
        "Warengruppe    categories        by its name" in table
        and "language de: 100% of the texts are in Latin letters" in table
    )


def write(path, text, encoding="utf-8"):
    path.write_text(text, encoding=encoding)
    return path


def only(shop):
    """The item of a shop, without empty values."""
    item = {key: value for key, value in shop.market.items[0].items() if value not in (None, [])}
    return item | {"attributes": {kind: values for kind, values in item["attributes"].items() if values}}


def test_shopify_variants_are_one_product(tmp_path):
    rows = (
        "Handle,Title,Body (HTML),Vendor,Product Category,Type,Tags,Option1 Name,Option1 Value,Option2 Name,Option2 Value,Variant SKU,"
        "Variant Price,Image Src,Status\n"
        'trail,Trail Shoe,"<p>Light &amp; fast</p>",Norvik,Apparel > Shoes,Shoes,"outdoor, run",'
        "Color,Red,Size,42,T-R,89.90,https://x.y/a.jpg,active\n"
        "trail,,,,,,,,Blue,,42,T-B,,https://x.y/b.jpg,\n"
        "trail,,,,,,,,Red,,43,T-43,,,\n"
        "coat,Rain Coat,,Lumora,Apparel > Coats,Coats,,Title,Default Title,,,C-1,120.00,,active\n"
    )
    log = "Name,Email,Created at,Lineitem quantity,Lineitem sku\n#1,a@x.com,2024-05-01 10:00:00 +0200,1,T-B\n"
    shop = read_shop(write(tmp_path / "products_export.csv", rows), write(tmp_path / "orders.csv", log))
    assert only(shop) == {
        "item_id": "trail", "title": "Trail Shoe", "description": "Light & fast", "brand": "Norvik", "categories": ["Apparel", "Shoes"],
        "tags": ["outdoor", "run"], "price": pytest.approx(89.9), "image": "https://x.y/a.jpg",
        "attributes": {"color": ["Red", "Blue"], "specifications": ["42", "43"]},
    }  # fmt: skip
    assert len(shop.market.items) == 2 and (shop.report.products.kept, shop.report.products.merged) == (2, 2)
    (session,) = sound(shop.market, tmp_path).sessions.to_list()
    assert session["purchased"] == ["trail"] and session["scene"] == "unknown" and session["time"] == 1714550400
    facets = {"Shoes", "Norvik", "Red", "Blue", "42", "43", "outdoor", "run"}
    assert session["query"] and set(session["query"].split()) <= facets  # an order asks for nothing: the query is made
    assert session["user_id"].startswith("mail-") and "@" not in session["user_id"]


def test_woocommerce_variations_join_their_parent(tmp_path):
    rows = (
        'ID,Type,SKU,Name,Short description,Description,"Regular price",Categories,Images,Parent,'
        '"Attribute 1 name","Attribute 1 value(s)"\n'
        '10,variable,SH,Shirt,Soft,"<b>Cotton</b> shirt\\nwarm",,"Clothing, Clothing > Shirts",'
        '"https://w.x/a.jpg, https://w.x/b.jpg",,Color,"Red, Blue"\n'
        "11,variation,SH-R,Shirt - Red,,,19.99,,,id:10,Color,Red\n"
        "12,variation,SH-G,Shirt - Green,,,18.99,,,SH,Color,Green\n"
        '13,simple,HT,Hat,,,9,"Clothing > Hats, Sale",,,,\n'
    )
    log = "timestamp,session,search term,product id,event\n1714550000,a,shirt,11,view\n1714550300,a,,SH-G,purchase\n"
    shop = read_shop(write(tmp_path / "woo.csv", rows), write(tmp_path / "log.csv", log))
    assert only(shop) == {
        "item_id": "10", "title": "Shirt", "description": "Cotton shirt warm", "categories": ["Clothing", "Shirts"],
        "price": pytest.approx(19.99), "image": "https://w.x/a.jpg", "attributes": {"color": ["Red", "Blue", "Green"]},
    }  # fmt: skip
    (session,) = sound(shop.market, tmp_path).sessions.to_list()
    assert session["clicked"] == session["purchased"] == ["10"] and session["user_id"] == "anonymous-a"


def test_magento_and_google_and_json(tmp_path):
    magento = (
        "sku,product_type,categories,name,description,visibility,price,url_key,additional_attributes\n"
        '24-MB01,simple,"Default Category/Gear,Default Category/Gear/Bags",Duffle,<p>Sporty</p>,"Catalog, Search",34.0000,duffle,'
        '"activity=Gym,color=Black,material=Nylon"\n'
    )
    shop = read_shop(write(tmp_path / "magento.csv", magento))
    assert only(shop) == {
        "item_id": "24-MB01", "title": "Duffle", "description": "Sporty", "categories": ["Gear", "Bags"], "price": 34.0, "url": "duffle",
        "attributes": {"material": ["Nylon"], "color": ["Black"]},
    }  # fmt: skip
    assert "attributes of no known type are left out: activity (1)" in shop.report.to_table()
    google = (
        "id\ttitle\tlink\timage_link\tavailability\tprice\tbrand\tgoogle_product_category\tproduct_type\tcolor\tgender\n"
        "A1\tDress\thttps://s.x/a1\thttps://s.x/a1.jpg\tin stock\t1,299.00 USD\tNorvik\t2271\tHome > Women > Dresses\tred/blue\tfemale\n"
    )
    assert only(read_shop(write(tmp_path / "feed.tsv", google))) == {
        "item_id": "A1", "title": "Dress", "brand": "Norvik", "categories": ["Women", "Dresses"], "price": 1299.0, "url": "https://s.x/a1",
        "image": "https://s.x/a1.jpg", "attributes": {"audience": ["female"], "color": ["red", "blue"]},
    }  # fmt: skip
    product = {"id": 1, "title": "Shoe", "brand": {"name": "N"}, "price": {"amount": "12.00", "currency": "EUR"}}
    product |= {
        "categories": [{"name": "A"}, {"name": "B"}],
        "variants": [{"id": 9, "sku": "S1"}],
        "images": [{"src": "https://x.y/1.png"}],
    }
    path = write(tmp_path / "p.json", json.dumps({"data": {"products": [product]}}))
    log = write(
        tmp_path / "l.jsonl",
        json.dumps({"ts": 1714550000, "user": {"id": "u"}, "type": "click", "query": "q", "product": {"id": 9}}),
    )
    shop = read_shop(path, log)
    assert only(shop) == {
        "item_id": "1", "title": "Shoe", "brand": "N", "categories": ["A", "B"], "price": 12.0, "image": "https://x.y/1.png",
        "attributes": {},
    }  # fmt: skip
    assert shop.market.sessions[0]["clicked"] == ["1"]


def test_a_product_feed_in_xml(tmp_path):
    entry = (
        "<item><g:id>0{0}</g:id><title>Red &amp; warm {0}</title><link>https://s.x/{0}</link><g:price>1,299.00 USD</g:price>"
        "<g:additional_image_link>https://s.x/b.jpg</g:additional_image_link><g:additional_image_link>https://s.x/c.jpg</g:additional_image_link>"
        "<g:product_type>Women &gt; Dresses</g:product_type><g:shipping>"
        "<g:country>US</g:country><g:price>5 USD</g:price></g:shipping></item>"
    )
    feed = f"<rss xmlns:g='http://base.google.com/ns/1.0'><channel><title>Shop</title>{entry.format(1)}{entry.format(2)}</channel></rss>"
    shop = read_shop(write(tmp_path / "feed.xml", f"<?xml version='1.0' encoding='UTF-8'?>\n{feed}"))
    assert len(shop.market.items) == 2 and only(shop) == {
        "item_id": "01", "title": "Red & warm 1", "url": "https://s.x/1", "price": 1299.0, "categories": ["Women", "Dresses"],
        "image": "https://s.x/b.jpg", "attributes": {},
    }  # fmt: skip


def test_columns_without_usual_names_are_found_by_their_contents(tmp_path):
    rows = "Nr;Was ist es;Kosten;Bildchen;Regal\n1;Roter Schuh aus Leder;12,90 €;https://a.b/c.jpg;x\n2;Blauer Mantel;13,90 €;https://a.b/d.jpg;x\n"
    log = "wann;wonach;welches\n2024-05-01 10:00;schuh;1\n2024-05-01 10:05;mantel blau;2\n"
    shop = read_shop(write(tmp_path / "a.csv", rows), write(tmp_path / "b.csv", log))
    assert {column.column: column.field for column in shop.report.products.columns} == {
        "Nr": "item_id", "Was ist es": "title", "Kosten": "price", "Bildchen": "image", "Regal": None,
    }  # fmt: skip
    assert {column.column: column.field for column in shop.report.logs[0].columns} == {
        "wann": "time",
        "wonach": "query",
        "welches": "item_id",
    }
    assert [session["query"] for session in shop.market.sessions.to_list()] == ["schuh", "mantel blau"]


def test_the_user_may_name_columns(tmp_path):
    path = write(tmp_path / "p.csv", "code,sku,text,label,finish\na,1,red shoe,X,steel\nb,2,blue coat,Y,wood\n")
    shop = read_shop(path, columns={"id": "sku", "name": "text", "attributes.material": "finish"}, language="en-GB")
    assert shop.market.items["item_id"] == ["1", "2"] and shop.market.items["title"] == ["red shoe", "blue coat"]
    assert shop.market.items[0]["attributes"]["material"] == ["steel"] and shop.market.info["language"] == "en"
    with pytest.raises(ValueError, match=r"p.csv has no column 'SKUU' \(for 'id'\); it has 'code', 'sku'"):
        read_shop(path, columns={"id": "SKUU"})
    with pytest.raises(ValueError, match="'colour scheme' is no field; fields are item_id, title"):
        read_shop(path, columns={"colour scheme": "sku"})


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_a_zip_file_with_one_table(tmp_path):
    rows = "id,title\n1,red shoe\n2,blue coat\n"
    files = {"export/": "", "export/products.csv": rows, "export/.DS_Store": "x", "__MACOSX/export/products.csv": "x"}
    shop = read_shop(zipped(tmp_path / "export.zip", files))
    assert shop.market.items["title"] == ["red shoe", "blue coat"] and shop.report.products.form.startswith("zip, UTF-8")
    for files, message in (
        ({"a.csv": rows, "b.csv": rows}, r"holds 2 files \(a.csv, b.csv\); give a zip file with one table"),
        ({}, "holds no file"),
        ({"a.csv": "<html>"}, r"two.zip \(a.csv\) is HTML"),
    ):
        with pytest.raises(ValueError, match=message):
            read_shop(zipped(tmp_path / "two.zip", files))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.csv", "", "is empty"),
        ("b.csv", "\n \n", "is blank"),
        ("h.csv", "<html><body>Login</body></html>", "is HTML"),
        ("w.xml", "<a><b>1</a>", "is no XML"),
        ("f.xml", "<a><b>1</b></a>", "holds no rows"),
        ("o.csv", "id,name\n", "holds no row"),
        ("n.csv", "id,name\n1,\n2,\n", "no column can be the title"),
        ("x.xls", b"\xd0\xcf\x11\xe0rest", "Save As > Excel Workbook"),
        ("z.csv.gz", b"\x1f\x8bgarbage", "damaged gzip"),
        ("z.xlsx", b"PK\x03\x04garbage", "damaged Excel or zip file"),
        ("p.parquet", b"PAR1garbage", "damaged or no parquet file"),
        ("j.json", '{"products": [1, 2]}', "holds no row|no column can be the title"),
    ],
)
def test_files_that_hold_no_shop(name, content, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        read_shop(path)
    with pytest.raises(FileNotFoundError, match="does not exist; give the path of an exported file"):
        read_shop(tmp_path / "nothing.csv")
    with pytest.raises(ValueError, match="session_minutes=0"):
        read_shop(path, session_minutes=0)
