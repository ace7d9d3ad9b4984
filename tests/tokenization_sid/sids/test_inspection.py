"""What lies under the prefixes of a query and of an item."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from onesearch import RQOPQ
from onesearch.data.arrow_tables import table_from_rows
from onesearch.tokenization_sid.embedding.embeddings import distinct_queries, load_embeddings
from onesearch.tokenization_sid.sids.appending import append_items
from onesearch.tokenization_sid.sids.code_files import load_codes
from onesearch.tokenization_sid.sids.inspection import Catalogue, inspect


@pytest.fixture(scope="module")
def catalogue(shared_run):
    return Catalogue.of_run(shared_run)


def test_every_branch_of_an_item_by_hand(catalogue, shared_run, market):
    codes, vectors = load_codes(shared_run, "items").codes, load_embeddings(shared_run, "items")
    found = inspect(catalogue, market.items[7]["item_id"], titles=2)
    assert found.kind == "item" and found.item_id == market.items[7]["item_id"] and found.text == market.items[7]["title"]
    assert found.codes == tuple(codes[7].tolist()) == tuple(branch.code for branch in found.branches)
    for level, branch in enumerate(found.branches):
        rows = [row for row in range(len(codes)) if (codes[row, : level + 1] == codes[7, : level + 1]).all()]
        centre = vectors[rows].mean(axis=0)
        closest = sorted(rows, key=lambda row: ((vectors[row] - centre) ** 2).sum())[:2]
        assert branch.items == len(rows) and branch.titles == tuple(market.items[row]["title"] for row in closest)
        counts = Counter(" > ".join(market.items[row]["categories"]) for row in rows)
        assert counts[branch.category] == max(counts.values()) and branch.share == pytest.approx(
            max(counts.values()) / len(rows)
        )
    assert "7" not in found.keywords and found.keywords == ()


def test_a_query_has_the_codes_that_the_stage_gave_it(catalogue, shared_run, market):
    stored, queries = load_codes(shared_run, "queries").codes, distinct_queries(market)
    named = 0
    for row in range(0, len(queries), max(1, len(queries) // 10)):
        found = inspect(catalogue, queries[row], kind="query")
        assert found.kind == "query" and found.item_id is None and found.codes == tuple(stored[row].tolist())
        named += bool(found.keywords)
    assert named > 3


def test_a_query_never_seen_is_encoded_and_its_empty_prefixes_say_so(catalogue):
    found = inspect(catalogue, "red jacket chair kettle wok pan")
    counts = [branch.items for branch in found.branches]
    assert counts == sorted(counts, reverse=True) and counts[0] > 0
    for branch in found.branches:
        assert len(branch.titles) == min(3, branch.items) and (branch.category is None) == (branch.items == 0)


def test_an_item_by_its_title_in_any_writing(catalogue, market):
    titles = Counter(market.items["title"])
    title = next(title for title in market.items["title"] if titles[title] == 1)
    found = inspect(catalogue, f"  {title.upper()} ".replace(" ", "  "))
    assert found.kind == "item" and found.text == title and found.same_title == 0
    assert inspect(catalogue, title, kind="query").kind == "query"


def test_what_is_unknown_is_named(catalogue):
    with pytest.raises(ValueError, match="'☃' is no item's id or title.*none of its words"):
        inspect(catalogue, "☃")
    with pytest.raises(ValueError, match="no item has the id or title 'jacket'; the catalogue has 450 items"):
        inspect(catalogue, "jacket", kind="item")
    with pytest.raises(ValueError, match="text is empty"):
        inspect(catalogue, " ")
    with pytest.raises(ValueError, match="'user' is unknown; allowed are auto, item, query"):
        inspect(catalogue, "x", kind="user")


def test_appended_items_are_found_and_counted(run, catalogue, market):
    append_items(run, table_from_rows("items", [{**market.items[7], "item_id": "new", "title": "An entirely new title"}]))
    later = Catalogue.of_run(run)
    found = inspect(later, "an entirely NEW title")
    assert found.item_id == "new" and found.branches[-1].category == " > ".join(market.items[7]["categories"])
    before = inspect(catalogue, market.items[7]["item_id"])
    changed = found.codes == before.codes
    assert changed == (found.branches[-1].items == before.branches[-1].items + 1)
    assert len(later.item_ids) == len(catalogue.item_ids) + 1


def test_an_index_alone_knows_its_items():
    catalogue = Catalogue.of_index(["a", "b", "c"], np.array([[0, 1], [0, 2], [1, 1]]))
    found = inspect(catalogue, "b")
    assert [(branch.items, branch.titles, branch.category) for branch in found.branches] == [
        (2, ("a", "b"), None),
        (1, ("b",), None),
    ]
    with pytest.raises(ValueError, match="'red shoe' is no item id of this checkpoint.*pass --run"):
        inspect(catalogue, "red shoe")


def test_a_market_that_has_changed_is_refused(run, market):
    from onesearch.data.arrow_tables import as_dataset
    from onesearch.data.market import Market

    fewer = as_dataset(market.items.with_format("arrow")[:-1])
    Market(fewer, market.users, market.sessions, market.relevance, market.info).save(run.market, overwrite=True)
    with pytest.raises(ValueError, match="codes of 450 items, the market 449"):
        Catalogue.of_run(run)


def test_a_run_without_sids_names_the_command(run):
    RQOPQ.from_pretrained(run.sids)
    (run.sids / "item_codes.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="item_codes.safetensors.*sids build"):
        Catalogue.of_run(run)
