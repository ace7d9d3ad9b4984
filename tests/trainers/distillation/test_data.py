"""Keywords that the teacher of self-distillation sees."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from markets import market_of
from tiny import tiny_index

from onesearch.tokenization_sid.keywords.keywords import CoreKeywords, Keyword
from onesearch.tokenization_sid.templates import PLAIN_LAYOUT
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer
from onesearch.trainers.configs import ExampleConfig
from onesearch.trainers.distillation.data import given_keywords, query_keywords
from onesearch.trainers.sft.data.examples import ExampleBuilder
from onesearch.trainers.sft.data.stored import stored_examples
from onesearch.views.session_views import SessionViews

SESSIONS = [("u", 0, "red dress", ["a", "c"], []), ("v", 1, "red dress", ["c"], ["d"]), ("u", 2, "hat", ["e"], [])]


@pytest.fixture(scope="module")
def builder():
    market = market_of(SESSIONS)
    index = tiny_index(np.arange(6)[:, None] % 3, (3,), list("abcdef"))
    views = SessionViews(market, index, PLAIN_LAYOUT)
    return ExampleBuilder(views, SidTokenizer.train(["red dress hat shoe"], (3,), vocab_size=300), ExampleConfig())


@pytest.fixture(scope="module")
def core():
    words = [Keyword("dress", "entity", 1), Keyword("shoe", "entity", 1), Keyword("clothes", "entity", 1)]
    return CoreKeywords(words, np.eye(3, dtype=np.float32))


def test_what_the_query_names_comes_first_then_what_its_items_share(builder, core):
    found = dict(zip(builder.views.logs.queries, query_keywords(builder.views, core)))
    assert found["red dress"] == ("dress", "clothes", "shoe")  # three items are clothes, two are shoes
    assert found["hat"] == ("clothes",)


def test_given_keywords_are_taken_as_they_are(builder, tmp_path):
    path = tmp_path / "keywords.parquet"
    pq.write_table(pa.table({"query": ["hat", "unasked"], "keywords": [[str(n) for n in range(12)], ["x"]]}), path)
    found = dict(zip(builder.views.logs.queries, given_keywords(builder.views, path)))
    assert found == {"red dress": (), "hat": tuple("01234567")}
    pq.write_table(pa.table({"query": ["hat"]}), path)
    with pytest.raises(ValueError, match="lacks keywords"):
        given_keywords(builder.views, path)


def test_the_teacher_s_prompt_is_the_student_s_with_keywords(builder, core, tmp_path):
    words = query_keywords(builder.views, core)
    teaching = ExampleBuilder(builder.views, builder.tokenizer, builder.config, keywords=words)
    for row in stored_examples(teaching, "clicks", "train", tmp_path):
        student, teacher = (builder.tokenizer.decode(row[name]) for name in ("input_ids", "teacher_input_ids"))
        assert teacher.startswith(student) and "clothes" in teacher[len(student) :]
    for row in stored_examples(teaching, "item-text-to-sid", "train", tmp_path):
        assert row["input_ids"] == row["teacher_input_ids"]
    assert "teacher_input_ids" not in stored_examples(builder, "clicks", "train", tmp_path).column_names
