"""The searcher: what it finds, what it refuses, and that what is served is what is measured."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import pytest
import torch

from onesearch import Hit, Request, Searcher, SidIndex, UserContext
from onesearch.data.requests import build_requests
from onesearch.evaluation.retrievers import BeamRetriever, Ranking, Retriever
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME
from onesearch.modeling_onesearch.search_config_onesearch import VIEWS, SearchConfig


@pytest.fixture(scope="module")
def some_items(market):
    return list(market.items["item_id"])[:7]


# Searching


def test_what_the_user_has_is_dropped_on_demand(checkpoint, shared_searcher, market):
    requests = [replace(request, history=request.history[-3:]) for request in build_requests(market, "test")[:8]]
    first = [hit.item_id for hit in shared_searcher.search(requests[0].query, top_k=2)]
    requests[0] = replace(requests[0], history=tuple(first))
    dropping = Searcher.from_pretrained(checkpoint, num_beams=10, exclude_history=True)
    for request, ranking, full in zip(requests, dropping.retrieve(requests, 5), shared_searcher.retrieve(requests, 8)):
        assert list(ranking.item_ids) == [item for item in full.item_ids if item not in request.history][:5]
    found = [hit.item_id for hit in dropping.search(requests[0].query, requests[0].history, top_k=5)]
    assert not set(found) & set(first)


def test_a_hidden_view_is_as_if_nothing_were_known_of_it(checkpoint, shared_searcher, some_items):
    context = UserContext(queries=["blue coat"], clicked=some_items, purchased=some_items[:2], profile=("female", "25-34"))
    full = scores(shared_searcher.search("red shoe", some_items, context=context))
    for hidden, known in {
        "queries": replace(context, queries=()),
        "profile": replace(context, profile=()),
        "long_view": replace(context, clicked=(), purchased=()),
    }.items():
        hiding = Searcher.from_pretrained(checkpoint, num_beams=10, hidden_views=[hidden])
        found = scores(hiding.search("red shoe", some_items, context=context))
        assert found == scores(shared_searcher.search("red shoe", some_items, context=known)) != full
    views = Searcher.from_pretrained(checkpoint, num_beams=10, hidden_views=VIEWS)
    alone = scores(views.search("red shoe", some_items, context=context))
    assert alone == scores(views.search("red shoe")) != full


def test_hits_are_items_of_the_catalogue_best_first(shared_searcher, market):
    hits = shared_searcher.search("red shoe", top_k=5)
    assert len(hits) == 5 and all(isinstance(hit, Hit) for hit in hits)
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True) and max(scores) <= 0
    assert len({hit.item_id for hit in hits}) == 5
    index = shared_searcher.model.sid_index
    assert all(index.sid_of(hit.item_id) == hit.sid for hit in hits)


def scores(hits):
    return [hit.score for hit in hits]


def test_every_view_of_a_user_changes_the_scores(shared_searcher, some_items):
    known = {"queries": ["blue coat"], "clicked": some_items, "purchased": some_items[:2], "profile": ("female", "25-34")}
    seen = [scores(shared_searcher.search("red shoe")), scores(shared_searcher.search("red shoe", some_items))]
    for view in known:
        changed = scores(shared_searcher.search("red shoe", some_items, context=UserContext(**{view: known[view]})))
        assert view == "clicked" or changed not in seen
        seen.append(changed)
    assert scores(shared_searcher.search("red shoe", some_items[::-1])) not in seen
    # Without more the history counts as clicks, and what the layout lacks does not count.
    assert seen[1] == scores(shared_searcher.search("red shoe", tuple(some_items), context=UserContext(clicked=some_items)))
    assert seen[1] == scores(
        shared_searcher.search("red shoe", some_items, context=UserContext(clicked=some_items, shown=some_items))
    )


def test_of_each_view_only_the_end_counts(checkpoint, some_items):
    searcher = Searcher.from_pretrained(checkpoint, num_beams=10)
    searcher.tokenizer.prompt = replace(searcher.tokenizer.prompt, long_items=5)
    searcher = Searcher(searcher.model, searcher.tokenizer, searcher.config, **parts_of(searcher))
    more = UserContext(queries=["x"] * 9 + ["blue"] * 5, clicked=some_items, purchased=some_items)
    less = UserContext(queries=["blue"] * 5, clicked=some_items[-5:], purchased=some_items[-5:])
    assert len(some_items) > 5
    assert searcher.search("red shoe", some_items, context=more) == searcher.search("red shoe", some_items[-5:], context=less)


def test_a_user_without_history_gets_the_query_s_default_one(shared_searcher, market):
    views = shared_searcher.views
    query, items = next((query, items) for query, items in views.defaults.of_query.items() if len(items) > 2)
    cold = Request("s", "u", query)
    (fields, given) = (views.fields([one]) for one in (cold, replace(cold, history=tuple(items))))
    assert fields.items[0].tolist() == given.items[0].tolist() and fields.users.tolist() == given.users.tolist()
    unseen = views.fields([Request("s", "u", "never seen words")])
    assert len(unseen.items[0]) > 0
    # Items that left the catalogue since are passed over.
    gone = Searcher(shared_searcher.model, shared_searcher.tokenizer, **parts_of(shared_searcher)).views
    gone.defaults = replace(gone.defaults, of_query={query: ["gone", *items]})
    assert gone.fields([cold]).items[0].tolist() == fields.items[0].tolist()


def parts_of(searcher):
    return {"query_encoder": searcher.views.query_encoder, "defaults": searcher.views.defaults}


def test_a_checkpoint_without_its_query_encoder_says_so(checkpoint):
    import shutil

    shutil.rmtree(checkpoint / "query_encoder")
    with pytest.raises(FileNotFoundError, match="query_encoder"):
        Searcher.from_pretrained(checkpoint)


def test_more_items_than_the_catalogue_gives_what_there_is(shared_searcher, market):
    hits = shared_searcher.search("shoe", top_k=10_000, num_beams=1000)
    index = shared_searcher.model.sid_index
    reachable = sum(min(5, count) for count in _bucket_sizes(index))
    assert len(hits) == len({hit.item_id for hit in hits}) == reachable


def _bucket_sizes(index):
    sizes = {}
    for sid in map(tuple, index.codes.tolist()):
        sizes[sid] = sizes.get(sid, 0) + 1
    return sizes.values()


def test_a_very_long_query_is_cut(shared_searcher):
    query = "red shoe " * 1200
    assert len(query) > 10_000
    hits = shared_searcher.search(query)
    assert hits and hits == shared_searcher.search("red shoe " * 1000)


@pytest.mark.parametrize("query", ["☃ 裙子", "<a_1><b_2>", "</s>", "x" * 3000, "\u0000", "a\nb"])
def test_odd_queries_have_a_result(shared_searcher, query):
    assert len(shared_searcher.search(query, top_k=3)) == 3


@pytest.mark.parametrize(
    ("query", "error"), [("", ValueError), (" \n", ValueError), (None, TypeError), (7, TypeError), (["a"], TypeError)]
)
def test_what_is_no_query_is_refused(shared_searcher, query, error):
    with pytest.raises(error, match="query"):
        shared_searcher.search(query)


def test_a_history_of_unknown_items_or_no_list_is_refused(shared_searcher, some_items):
    with pytest.raises(KeyError, match="'nowhere' is not in the catalogue of 450 items; leave it out"):
        shared_searcher.search("shoe", history=[some_items[0], "nowhere"])
    for history in (some_items[0], [1, 2], [None]):
        with pytest.raises(TypeError, match="history must be "):
            shared_searcher.search("shoe", history=history)


@pytest.mark.parametrize("changes", [{"top_k": 0}, {"num_beams": 0}])
def test_counts_below_one_are_refused(shared_searcher, changes):
    with pytest.raises(ValueError, match="at least 1"):
        shared_searcher.search("shoe", **changes)


def test_filters_hold_for_every_hit_and_the_list_stays_full(shared_searcher, market):
    index = shared_searcher.model.sid_index
    paths = dict(zip(market.items["item_id"], market.items["categories"]))
    some = paths[shared_searcher.search("red shoe", top_k=1)[0].item_id][-1]
    within = shared_searcher.search("red shoe", top_k=5, categories=[some])
    assert len(within) == 5 and all(some in paths[hit.item_id] for hit in within)
    without = shared_searcher.search("red shoe", top_k=5, exclude=[hit.item_id for hit in within], categories=[some])
    assert without and not {hit.item_id for hit in within} & {hit.item_id for hit in without}
    stock = index.item_ids[::9]
    assert {hit.item_id for hit in shared_searcher.search("red shoe", top_k=1000, num_beams=1000, items=stock)} <= set(stock)
    with pytest.raises(ValueError, match="category 'Shose' is on no item's path"):
        shared_searcher.search("red shoe", categories=["Shose"])


def test_an_explained_hit_tells_the_probability_of_each_code(shared_searcher):
    for hit in shared_searcher.search("red shoe", top_k=3, explain=True):
        assert len(hit.level_scores) == len(hit.sid) and sum(hit.level_scores) == pytest.approx(hit.score, abs=1e-5)
    assert len(shared_searcher.search("red shoe", top_k=30, items_per_sid=1)) <= 10  # one per beam


# As the evaluator's retriever


NO_LISTS = {
    "history": ({"history": "item-0000001"}, "history must be a list, got str"),
    "a set": ({"history": {"item-0000001"}}, "history must be a list, got set"),
    "a generator": ({"history": (item for item in ["item-0000001"])}, "history must be a list, got generator"),
    "exclude": ({"exclude": "item-0000001"}, "exclude must be a list, got str"),
    "no letters": ({"exclude": ""}, "exclude must be a list, got str"),
    "excluded numbers": ({"exclude": [1]}, "exclude must be text, got int at place 0"),
    "categories": ({"categories": "Shoes"}, "categories must be a list, got str"),
    "a set of categories": ({"categories": {"Shoes"}}, "categories must be a list, got set"),
    "items": ({"items": "item-0000001"}, "items must be a list, got str"),
    "queries": ({"context": UserContext(queries="red shoe")}, "context.queries must be a list, got str"),
    "profile": ({"context": UserContext(profile="female")}, "context.profile must be a list, got str"),
    "clicked": ({"context": UserContext(clicked=[1])}, "context.clicked must be text, got int at place 0"),
}


@pytest.mark.parametrize(("arguments", "words"), NO_LISTS.values(), ids=NO_LISTS)
def test_what_only_looks_like_a_list_is_refused_by_name(arguments, words, shared_searcher):
    with pytest.raises(TypeError, match=words):
        shared_searcher.search("shoe", **arguments)


@pytest.mark.parametrize(
    "changes",
    [
        {"history": "item-0000001"},
        {"history": {"item-0000001"}},
        {"context": UserContext(purchased="item-0000001")},
        {"context": UserContext(queries=iter(["red shoe"]))},
    ],
)
def test_a_request_without_lists_is_refused(changes, shared_searcher):
    (name,) = changes
    with pytest.raises(TypeError, match=f"request 's7': {name}.* must be a list of texts, got"):
        shared_searcher.retrieve([Request("s6", "u", "shoe"), Request("s7", "u", "shoe", **changes)], 5)


@pytest.mark.parametrize(("rank_by", "exclude_history"), [("sid", False), ("item", True)])
def test_what_is_measured_is_what_is_served(shared_searcher, market, rank_by, exclude_history):
    assert isinstance(shared_searcher, Retriever)
    requests = build_requests(market, "test")[:40]
    model, tokenizer = shared_searcher.model, shared_searcher.tokenizer
    config = SearchConfig(num_beams=10, rank_by=rank_by, exclude_history=exclude_history)
    searcher = Searcher(model, tokenizer, config, **parts_of(shared_searcher))
    rankings = searcher.retrieve(requests, 10)
    for request, ranking in zip(requests, rankings):
        hits = searcher.search(request.query, request.history, top_k=10, context=request.context)
        assert isinstance(ranking, Ranking) and ranking.invalid == 0 and 1 <= ranking.beams <= 10
        assert ranking.item_ids == tuple(hit.item_id for hit in hits)
        assert ranking.sids == tuple(hit.sid for hit in hits)
        assert ranking.scores == pytest.approx([hit.score for hit in hits], abs=1e-4)


def test_a_ranking_has_the_sids_of_its_beams_in_their_order(shared_searcher, market):
    """However the items are ranked, cut and filtered: the SID level of a report is measured on the beams."""
    requests = build_requests(market, "test")[:6]
    parts = parts_of(shared_searcher)
    config = SearchConfig(num_beams=12, rank_by="item", items_per_sid=1, exclude_history=True)
    searcher = Searcher(shared_searcher.model, shared_searcher.tokenizer, config, batch_size=4, **parts)
    assert searcher.num_beams == 12 and isinstance(searcher, BeamRetriever)
    for request, ranking in zip(requests, searcher.retrieve(requests, 3)):
        codes, scores = searcher.model.search_sids(**searcher.model_inputs([request]), num_beams=12)
        expected = [tuple(sid) for sid, score in zip(codes[0].tolist(), scores[0].tolist()) if score > -math.inf]
        assert list(ranking.beam_sids) == expected and len(expected) == ranking.beams == 12 > len(ranking.item_ids)


def test_retrieval_does_not_depend_on_the_batch_size(shared_searcher, market):
    requests = build_requests(market, "test")[:10]
    parts = {"config": shared_searcher.config, **parts_of(shared_searcher)}
    other = Searcher(shared_searcher.model, shared_searcher.tokenizer, batch_size=3, **parts)
    assert [ranking.item_ids for ranking in other.retrieve(requests, 5)] == [
        ranking.item_ids for ranking in shared_searcher.retrieve(requests, 5)
    ]
    assert other.retrieve([], 5) == []


def test_a_request_without_user_is_answered(shared_searcher):
    (ranking,) = shared_searcher.retrieve([Request(session_id="s", user_id="", query="red shoe")], 3)
    assert len(ranking.item_ids) == 3


# Loading


def test_settings_are_passed_on(checkpoint):
    searcher = Searcher.from_pretrained(str(checkpoint), num_beams=3, batch_size=2, dtype=torch.bfloat16)
    assert (searcher.config.num_beams, searcher.batch_size, searcher.model.dtype) == (3, 2, torch.bfloat16)
    assert not searcher.model.training
    assert searcher.search("red shoe", top_k=2)
    with pytest.raises(ValueError, match="batch_size=0"):
        Searcher.from_pretrained(checkpoint, batch_size=0)


def test_a_checkpoint_is_searched_with_the_settings_that_it_was_saved_with(checkpoint, shared_searcher, market):
    saved = SearchConfig(num_beams=7, rank_by="item", items_per_sid=2, exclude_history=True)
    saved.save_pretrained(checkpoint)
    loaded, changed = Searcher.from_pretrained(checkpoint), Searcher.from_pretrained(checkpoint, num_beams=9, rank_by="sid")
    assert loaded.config == saved and changed.config == replace(saved, num_beams=9, rank_by="sid")
    given = Searcher(shared_searcher.model, shared_searcher.tokenizer, saved, **parts_of(shared_searcher))
    requests = build_requests(market, "test")[:5]
    assert loaded.retrieve(requests, 10) == given.retrieve(requests, 10) != changed.retrieve(requests, 10)
    # Arguments of a call replace them, too, and the next call is as before.
    for request in requests:
        hits = shared_searcher.search(request.query, request.history, context=request.context)
        arguments = {"context": request.context, **asdict(saved)}
        assert shared_searcher.search(request.query, request.history, **arguments) == loaded.search(
            request.query, request.history, context=request.context
        )
        assert hits == shared_searcher.search(request.query, request.history, context=request.context)


@pytest.mark.parametrize(("setting", "error"), [({"rank_by": "share"}, "rank_by='share'"), ({"num_beams": 0}, "num_beams=0")])
def test_a_wrong_setting_is_refused_before_anything_is_loaded(tmp_path, setting, error):
    with pytest.raises(ValueError, match=error):
        Searcher.from_pretrained(tmp_path / "nowhere", **setting)


def rewrite(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("part", ["tokenizer_config.json", "config.json"])
def test_parts_of_other_codebooks_are_refused(checkpoint, part):
    rewrite(checkpoint / part, sid_fingerprint="0123456789abcdef")
    with pytest.raises(ValueError, match="codebooks.*0123456789ab"):
        Searcher.from_pretrained(checkpoint)


def test_an_index_of_other_codebooks_is_refused(checkpoint):
    path = checkpoint / SID_INDEX_NAME
    index = SidIndex.load(path)
    SidIndex.build(index.item_ids, index.codes, index.popularity, index.codebook_sizes, "fedcba9876543210").save(path)
    with pytest.raises(ValueError, match="codebooks fedcba987654.*Encode this catalogue"):
        Searcher.from_pretrained(checkpoint)


def test_a_tokenizer_of_another_layout_is_refused(checkpoint):
    offset = json.loads((checkpoint / "tokenizer_config.json").read_text())["sid_offset"]
    rewrite(checkpoint / "tokenizer_config.json", sid_offset=offset - 1)
    with pytest.raises(ValueError, match="lay out SIDs differently"):
        Searcher.from_pretrained(checkpoint)


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.99])
@pytest.mark.parametrize("name", ["model.safetensors", SID_INDEX_NAME, "tokenizer.json", "tokenizer_config.json"])
def test_a_truncated_file_is_named(checkpoint, name, share):
    path = checkpoint / name
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=name) as error:
        Searcher.from_pretrained(checkpoint)
    assert "damaged" in str(error.value)


def test_a_truncated_configuration_is_named(checkpoint):
    (checkpoint / "config.json").write_text((checkpoint / "config.json").read_text()[:-5])
    with pytest.raises(OSError, match="config.json' is not a valid JSON"):
        Searcher.from_pretrained(checkpoint)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", SID_INDEX_NAME])
def test_a_missing_file_is_named(checkpoint, name):
    (checkpoint / name).unlink()
    with pytest.raises((OSError, ValueError), match=name):
        Searcher.from_pretrained(checkpoint)


def test_a_missing_folder_is_named(tmp_path, checkpoint, monkeypatch):
    for name in (tmp_path / "nowhere", str(tmp_path / "nowhere")):
        with pytest.raises(FileNotFoundError, match="nowhere: there is no such folder"):
            Searcher.from_pretrained(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(FileNotFoundError, match="runs/shop: there is no such folder"):  # not asked for on the Hub
        Searcher.from_pretrained("runs/shop")
    checkpoint.rename(tmp_path / "runs" / "checkpoint")
    with pytest.raises(FileNotFoundError, match="runs is the folder of a run; its checkpoint is runs/checkpoint"):
        Searcher.from_pretrained("runs")


# Many texts at once


def same_hits(found, expected):
    """Equal up to the rounding of a batch: the same scores in the same places, and the same items wherever scores differ."""
    assert scores(found) == pytest.approx(scores(expected), abs=1e-4)
    for own, other in zip(found, expected):
        near = [hit.item_id for hit in expected if abs(hit.score - other.score) < 1e-4]
        assert own.item_id in near
    return True


def test_a_batch_of_queries_has_the_hits_of_single_searches(shared_searcher, market, some_items):
    requests = [replace(request, history=request.history[-9:]) for request in build_requests(market, "test")[:11]]
    queries = [request.query for request in requests]
    narrow = shared_searcher.index.filter(exclude=some_items)
    filters = [narrow if place % 3 == 0 else None for place in range(len(queries))]
    histories, contexts = [request.history for request in requests], [request.context for request in requests]
    batched = shared_searcher.search_batch(
        queries, histories, 7, contexts=contexts, item_filter=filters, explain=True, num_beams=8
    )
    for place, request in enumerate(requests):
        exclude = some_items if place % 3 == 0 else None
        single = shared_searcher.search(
            request.query, request.history, 7, 8, context=request.context, exclude=exclude, explain=True
        )
        assert len(single) == 7 and same_hits(batched[place], single)
    plain = shared_searcher.search_batch(queries[:3], top_k=4)
    assert all(same_hits(found, shared_searcher.search(query, top_k=4)) for query, found in zip(queries, plain))
    assert shared_searcher.search_batch([]) == []
    with pytest.raises(ValueError, match="histories has 1 entries for 2 queries; give one per query"):
        shared_searcher.search_batch(["a", "b"], [[]])
    with pytest.raises(TypeError, match="queries"):
        shared_searcher.search_batch("red shoe")


def test_given_items_get_the_score_of_the_beam(shared_searcher, some_items):
    hits = shared_searcher.search("red shoe", some_items, top_k=6, explain=True)
    scored = shared_searcher.score("red shoe", [hits[4].item_id, "unknown", hits[1].item_id], some_items)
    assert [hit.item_id for hit in scored] == [hits[1].item_id, hits[4].item_id]
    assert scored[0].level_scores == pytest.approx(hits[1].level_scores, abs=1e-5)
