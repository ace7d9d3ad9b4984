"""Views of single requests: what they keep between requests is bounded."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
from tiny import tiny_index

from onesearch.data.requests import Request
from onesearch.tokenization_sid.sids.sid_encoder import Encoded
from onesearch.tokenization_sid.templates import PromptLayout
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer
from onesearch.views import request_views

CODEBOOK_SIZES = (3, 2)
LAYOUT = PromptLayout(default_history=False)


class Encoder:
    """The SID of a query is the length of what it reads; it notes the texts."""

    def __init__(self):
        self.read = []

    def encode(self, texts):
        self.read += texts
        codes = np.array([[len(text) % 3, len(text) % 2] for text in texts])
        vectors = np.array([[len(text), 0.5] for text in texts], dtype=np.float16)
        return Encoded(codes, np.ones(len(texts), dtype=bool), vectors)

    def vectors(self, texts):
        return self.encode(texts).vectors


def views_of(encoder, layout=LAYOUT):
    tokenizer = SidTokenizer.train(["dress shoe"], CODEBOOK_SIZES, vocab_size=300, prompt=layout)
    return request_views.RequestViews(tiny_index([[0, 0]], CODEBOOK_SIZES), tokenizer, encoder)


def sids(views, *queries):
    return views.fields([Request("s", "u", query) for query in queries]).sids.tolist()


def test_the_cache_of_queries_has_a_bound_in_bytes():
    encoder = Encoder()
    views = views_of(encoder)
    long = [letter * 200_000 for letter in "abc"]
    first = sids(views, *long, "dress", "dress", "\ud800")
    assert [len(text) for text in encoder.read] == [request_views.MAX_CHARACTERS] * 3 + [5, 1]
    assert sids(views, *long, "dress", "dress", "\ud800") == first and len(encoder.read) == 5
    held = sum(sys.getsizeof(key) + sys.getsizeof(value) for key, value in views._sid_of.items())
    assert len(views._sid_of) == 5 and held < 5 * 400


def test_queries_that_differ_behind_the_limit_are_told_apart_in_the_cache():
    encoder = Encoder()
    start = "a" * request_views.MAX_CHARACTERS
    sids(views_of(encoder), start + "b", start + "c", start)
    assert encoder.read == [start] * 3


def test_a_query_is_read_once_for_its_sid_and_its_vector():
    encoder = Encoder()
    views = views_of(encoder, replace(LAYOUT, query_vector=True))
    requests = [Request("s", "u", query) for query in ("dress", "shoe", "dress")]
    fields, vectors = views.fields(requests), views.tensors(requests)["query_vectors"]
    assert encoder.read == ["dress", "shoe"]
    assert fields.sids.tolist() == [[2, 1], [1, 0], [2, 1]] and vectors.tolist() == [[5, 0.5], [4, 0.5], [5, 0.5]]


def test_a_full_cache_starts_anew(monkeypatch):
    monkeypatch.setattr(request_views, "MAX_QUERIES", 2)
    encoder = Encoder()
    views = views_of(encoder)
    for query in ("a", "bb", "ccc", "dddd"):
        sids(views, query)
    assert len(views._sid_of) == 1
