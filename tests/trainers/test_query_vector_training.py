"""The query's text vector in the prompt, from training to search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from run_copies import copied
from transformers import AutoModel, AutoModelForSeq2SeqLM

from onesearch import OneSearchForCausalLM, Searcher
from onesearch.data.market import Market
from onesearch.data.requests import build_requests
from onesearch.tokenization_sid.templates import PLAIN_LAYOUT
from onesearch.trainers.configs import StageConfig, TrainingConfig
from onesearch.trainers.dpo.data.beam_lists import Requests, prompt_batch, prompts_of
from onesearch.trainers.models import build_model
from onesearch.trainers.run_inputs import load_inputs
from onesearch.trainers.training import train_run

LAYOUT = replace(PLAIN_LAYOUT, query_vector=True)
TASKS = {"purchases": 1, "item-words": 1, "item-queries": 1, "item-text-to-sid": 1}


def training_of(recipe, **changes):
    arguments = {"max_steps": 3, "per_device_train_batch_size": 16, "use_cpu": True, "logging_steps": 1}
    stages = (StageConfig("personalised", TASKS),)
    known = {"model": recipe.training.model, "prompt": LAYOUT, "stages": stages, "arguments": arguments}
    return TrainingConfig(**{**known, **changes})


@pytest.fixture(scope="module")
def trained(shared_run, recipe, tmp_path_factory):
    """Read only."""
    run = copied(shared_run, tmp_path_factory.mktemp("query-vectors") / "run")
    train_run(run, training_of(recipe), progress=False)
    return run


@pytest.fixture(scope="module")
def searcher(trained):
    return Searcher.from_pretrained(trained.checkpoint, num_beams=10)


@pytest.fixture(scope="module")
def inputs(trained, recipe):
    return load_inputs(trained, training_of(recipe))


@pytest.fixture(scope="module")
def requests(trained):
    return build_requests(Market.load(trained.market), "test")[:6]


def test_a_prompt_has_one_place_where_the_encoder_knows_a_word(searcher, requests):
    token = searcher.tokenizer.query_vector_token_id
    for query, places in ((requests[0].query, 1), ("한국어", 0)):
        found = searcher.model_inputs([replace(requests[0], query=query)])
        assert int((found["input_ids"] == token).sum()) == places
        assert float(found["query_vectors"].norm()) == pytest.approx(places, abs=1e-3)


def test_training_and_search_read_the_same_vectors(inputs, searcher, requests):
    views = inputs.builder.views
    market = views.market
    row_of = {session_id: row for row, session_id in enumerate(market.sessions.data.column("session_id").to_pylist())}
    rows = np.array([row_of[request.session_id] for request in requests])
    assert np.array_equal(views.vectors_of(rows), searcher.model_inputs(requests)["query_vectors"].numpy().astype(np.float16))
    chunk = next(inputs.builder.chunks("purchases", "train")).to_pylist()
    token = inputs.tokenizer.query_vector_token_id
    shown = [token in row["input_ids"] for row in chunk]
    assert all(shown) and {len(row["query_vector"]) for row in chunk} == {searcher.model.config.query_vector_size}
    texts = next(inputs.builder.chunks("item-text-to-sid", "train")).to_pylist()  # a text is no query
    assert not any(token in row["input_ids"] or len(row["query_vector"]) for row in texts)


@pytest.mark.parametrize("task", ["item-words", "item-queries"])
def test_made_queries_have_the_vectors_of_their_words(inputs, task):
    row = next(inputs.builder.chunks(task, "train")).to_pylist()[0]
    shown = inputs.tokenizer.decode(
        [token for token in row["input_ids"][1:-1] if token != inputs.tokenizer.query_vector_token_id]
    )
    expected = inputs.query_encoder.vectors([shown.split("</s>")[0]])[0]
    assert np.dot(expected.astype(np.float32), np.array(row["query_vector"], dtype=np.float32)) == pytest.approx(1, abs=2e-3)


def test_the_vector_changes_the_scores(searcher, requests):
    prompts = searcher.model_inputs(requests)
    first = searcher.model.search(**prompts, num_beams=5)
    other = searcher.model.search(**{**prompts, "query_vectors": -prompts["query_vectors"]}, num_beams=5)
    assert [hits[0].score for hits in first] != pytest.approx([hits[0].score for hits in other], abs=1e-5)


def test_generate_and_teacher_forcing_agree_with_search(searcher, requests):
    model, prompts = searcher.model, searcher.model_inputs(requests)
    codes, scores = model.search_sids(**prompts, num_beams=4)
    given = model.score_sids(sids=codes, **prompts).sum(-1)
    assert torch.allclose(given, scores, atol=1e-4)
    made = model.generate(
        **prompts, num_beams=4, logits_processor=[model.logits_processor()], renormalize_logits=True, length_penalty=0.0
    )
    best = made[:, -searcher.model.config.sid_levels - 1 : -1] if made[0, -1] == model.config.eos_token_id else made[:, 1:]
    levels = torch.tensor(searcher.tokenizer.ids_to_sids(best[:, : codes.shape[2]].numpy()))
    assert torch.equal(levels, codes[:, 0])


def test_preference_prompts_hold_the_vector_of_the_query_that_is_asked(trained, inputs, searcher):
    views = inputs.builder.views
    sessions, asked = np.array([3, 4]), np.array([5, 4])
    prompts, columns = prompts_of(views, inputs.tokenizer, Requests(sessions, asked))
    batch = prompt_batch(searcher.model, views, prompts, columns)
    assert np.array_equal(batch["query_vectors"].numpy().astype(np.float16), views.vectors_of(asked))


def test_auto_classes_load_the_reader(trained, searcher):
    for kind in (AutoModelForSeq2SeqLM, AutoModel):
        model = kind.from_pretrained(trained.checkpoint)
        reader = model.get_encoder().query_reader
        assert torch.equal(reader.text.weight, searcher.model.model.encoder.query_reader.text.weight)


def test_hidden_at_search(searcher, requests):
    found = searcher.model_inputs(requests, ["vector"])
    assert not (found["input_ids"] == searcher.tokenizer.query_vector_token_id).any()


def test_a_decoder_only_model_reads_it(inputs, recipe, searcher, requests):
    model = replace(recipe.training.model, backbone="qwen3")
    size = inputs.builder.views.query_vectors.shape[1]
    torch.manual_seed(0)
    built = build_model(model, inputs.tokenizer, inputs.index, query_vector_size=size).eval()
    assert isinstance(built, OneSearchForCausalLM)
    prompts = searcher.model_inputs(requests)
    with torch.no_grad():
        first, other = (
            built(**{**prompts, "query_vectors": own}).logits for own in (prompts["query_vectors"], -prompts["query_vectors"])
        )
    assert not torch.allclose(first, other)


def test_errors(searcher, inputs, recipe, requests, tmp_path):
    model, prompts = searcher.model, searcher.model_inputs(requests)
    with pytest.raises(ValueError, match="there are no query_vectors"):
        model.search(**{**prompts, "query_vectors": None})
    with pytest.raises(ValueError, match=r"query_vectors of shape \(6, 3\); expected \(6, "):
        model.search(**{**prompts, "query_vectors": prompts["query_vectors"][:, :3]})
    twice = prompts["input_ids"].clone()
    twice[0, 1] = searcher.tokenizer.query_vector_token_id
    with pytest.raises(ValueError, match="row 0 has 2 places"):
        model.search(**{**prompts, "input_ids": twice})
    with pytest.raises(ValueError, match="pass `query_vector_size`"):
        build_model(recipe.training.model, inputs.tokenizer, inputs.index)
    with pytest.raises(ValueError, match="query_vector: false for an export"):
        model.export_backbone(tmp_path / "plain", searcher.tokenizer)
    with pytest.raises(ValueError, match="query_vector_token_id=None: the query's vector"):
        type(model.config)(**{**model.config.to_dict(), "query_vector_token_id": None})
