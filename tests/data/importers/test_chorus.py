"""The Chorus importer, on two products and on the published catalogue."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pytest
from importer_files import real, sound, write_jsonl

from onesearch.data.importers.chorus import import_chorus
from onesearch.data.text import item_texts


@pytest.fixture
def chorus(tmp_path) -> Path:
    folder = tmp_path / "chorus"
    first = {
        "id": "10",
        "name": "n",
        "title": "HP Notebook",
        "supplier": "HP",
        "price": 10995,
        "short_description": "8 GB",
        "ean": [],
    }
    attributes = {"attr_t_product_type": "Notebook", "attr_t_product_colour": "Black, Silver", "attr_t_material": "N"}
    other = {"id": "11", "title": "Cable", "supplier": "C2G", "price": None, "attr_t_product_type": "1", "attr_n_width": 3.0}
    other |= {"attr_t_cable_standard": "Cat6", "attr_t_connector_1": "RJ-45", "attr_t_processor_model": "Unspecified"}
    write_jsonl(folder / "products.jsonl.gz", [{**first, **attributes, "attr_t_cable_colour": "Black"}, other])
    (folder / "Broad_Query_Set_rated.csv").write_text('query,docid,rating\nlaptop,10,3\n"cable, long",11,0\n', encoding="utf-8")
    return folder


def test_chorus_maps_products_and_ratings(chorus, tmp_path):
    market = sound(import_chorus(chorus), tmp_path)
    notebook, cable = market.items
    assert notebook["brand"] == "HP" and notebook["price"] == pytest.approx(109.95) and notebook["categories"] == ["Notebook"]
    attributes = {kind: values for kind, values in notebook["attributes"].items() if values}
    assert attributes == {"entity": ["Notebook"], "brand": ["HP"], "color": ["Black", "Silver"], "specifications": ["8 GB"]}
    assert cable["price"] is None and cable["categories"] == [] and cable["attributes"]["specifications"] == []
    assert notebook["description"] == "8 GB" and notebook["tags"] == [] and cable["tags"] == ["Cat6", "RJ-45"]
    assert cable["attributes"]["model"] == []
    assert market.relevance[:] == {"query": ["laptop", "cable, long"], "item_id": ["10", "11"], "grade": [3, 0]}
    assert item_texts(market) == ["HP Notebook HP 8 GB", "Cable C2G"]
    assert market.info["attribute_fields"] == {"imported": 7, "not_imported": 1} and market.info["split"] == {"method": "none"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("laptop,99,1", "docid is not in products.jsonl.gz"),
        ("laptop,10,4", "rating must be 0, 1, 2 or 3"),
        (",10,1", "query must not be blank"),
        ("laptop,10", "fewer cells than the header has columns"),
        ("laptop,10,3,4", "more cells than the header has columns"),
    ],
)
def test_chorus_bad_ratings(chorus, tmp_path, line, reason):
    with (chorus / "Broad_Query_Set_rated.csv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=f"{reason}; first: Broad_Query_Set_rated.csv:4"):
        import_chorus(chorus)
    assert len(sound(import_chorus(chorus, bad_rows="drop"), tmp_path).relevance) == 2


def test_chorus_ratings_need_their_header(chorus):
    (chorus / "Broad_Query_Set_rated.csv").write_text("laptop,10,3\n")
    with pytest.raises(ValueError, match="missing columns"):
        import_chorus(chorus)


def test_chorus_electronics(tmp_path):
    market = sound(import_chorus(real("chorus_electronics")), tmp_path)
    assert (len(market.items), len(market.sessions), len(market.relevance)) == (19406, 0, 3668)
    assert len(set(market.relevance[:]["query"])) == 135
    assert len(pc.list_flatten(pc.struct_field(market.items.data["attributes"], "specifications"))) == 18685
    assert market.info["attribute_fields"] == {"imported": 25, "not_imported": 5329}
