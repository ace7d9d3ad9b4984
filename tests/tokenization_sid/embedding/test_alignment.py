"""Aligning the text encoder with behaviour: what enters, what is learned, what is left in the run folder."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import onesearch.cli as cli
from onesearch.data.market import Market
from onesearch.data.requests import split_sessions
from onesearch.data.text import item_texts
from onesearch.files import RunFolder, read_json
from onesearch.pipeline.mappings import build
from onesearch.pipeline.recipe import Recipe
from onesearch.tokenization_sid.embedding.alignment import align, align_run
from onesearch.tokenization_sid.embedding.alignment_examples import collect_examples, judged_pairs
from onesearch.tokenization_sid.embedding.alignment_measures import held_out_queries, measure, recall, target_ranks
from onesearch.tokenization_sid.embedding.configs import EXAMPLE_KINDS, AlignmentConfig, MiningConfig, TextEncoderConfig
from onesearch.tokenization_sid.embedding.embeddings import distinct_queries, embed_market, load_embeddings, load_encoder
from onesearch.tokenization_sid.embedding.text_encoder import base_encoder, embed_texts
from onesearch.tokenization_sid.item_facts import ItemFacts

ENCODER = TextEncoderConfig(dimension=16, vocab_size=500)
CONFIG = AlignmentConfig(mining=MiningConfig(min_cosine=0.2), epochs=1, batch_size=64)


def vectors_of(encoder, market):
    return embed_texts(encoder, distinct_queries(market)), embed_texts(encoder, item_texts(market))


def changed(market, edit, **tables):
    """A copy of a market whose sessions went through `edit(row, split)`."""
    splits = split_sessions(market)
    sessions = [edit(dict(session), split) for session, split in zip(market.sessions, splits)]
    parts = {"items": market.items, "users": market.users, "relevance": market.relevance, **tables}
    return Market.from_rows(**parts, sessions=sessions, info=market.info)


@pytest.fixture(scope="module")
def aligned(market):
    """The base encoder's vectors, the aligned encoder and its report."""
    before = vectors_of(base_encoder(market, ENCODER), market)
    encoder, report = align(market, base_encoder(market, ENCODER), CONFIG)
    return before, encoder, report


# What enters


def test_nothing_of_the_held_out_sessions_enters(market):
    """Held-out sessions that show, click and buy other things leave every example as it is."""
    item_ids = market.items["item_id"]

    def scrambled(session, split):
        if split:
            random = np.random.default_rng(abs(hash(session["session_id"])) % 2**32)
            shown = random.choice(item_ids, 12, replace=False).tolist()
            session |= {"impressed": shown, "clicked": shown[:4], "purchased": shown[3:5]}
        return session

    queries, vectors = distinct_queries(market), vectors_of(base_encoder(market, ENCODER), market)
    here, there = (collect_examples(part, queries, CONFIG, *vectors) for part in (market, changed(market, scrambled)))
    assert set(here.rows) == set(EXAMPLE_KINDS) and here.counts == there.counts
    for kind in EXAMPLE_KINDS:
        np.testing.assert_array_equal(here.rows[kind], there.rows[kind])
    for kind, pairs in here.positives.items():
        np.testing.assert_array_equal(pairs, there.positives[kind])


def test_queries_of_the_held_out_sessions_are_in_no_example(market):
    def renamed(session, split):
        return {**session, "query": f"held out {session['query']}"} if split else session

    other = changed(market, renamed)
    queries, vectors = distinct_queries(other), vectors_of(base_encoder(other, ENCODER), other)
    rows = collect_examples(other, queries, CONFIG, *vectors).rows
    asked = np.concatenate([rows["q2q"].ravel(), rows["q2i"][:, 0], rows["rank"][:, 0], rows["relevance"][:, 0]])
    assert not any(queries[row].startswith("held out ") for row in np.unique(asked))
    assert any(query.startswith("held out ") for query in queries)


def test_judgements_of_held_out_queries_are_left_out(market):
    queries, held = distinct_queries(market), held_out_queries(market)
    pairs, grades = judged_pairs(market, queries)
    used = {queries[row] for row in pairs[:, 0]}
    judged = set(market.relevance["query"])
    assert used == judged - held and used and judged & held
    expected = {(row["query"], row["item_id"]): row["grade"] / 3 for row in market.relevance if row["query"] not in held}
    found = {(queries[q], market.items[int(i)]["item_id"]): grade for (q, i), grade in zip(pairs, grades)}
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_cosine_filter_counts_and_warns(market, caplog):
    queries, vectors = distinct_queries(market), vectors_of(base_encoder(market, ENCODER), market)

    def counts(least):
        config = replace(CONFIG, mining=MiningConfig(min_cosine=least))
        return collect_examples(market, queries, config, *vectors)

    everything, some = counts(None), counts(0.5)
    for kind in ("q2q", "i2i", "q2i"):
        left, right = (vectors[0] if side == "q" else vectors[1] for side in kind.split("2"))
        rows = everything.rows[kind]
        kept = (left[rows[:, 0]] * right[rows[:, 1]]).sum(axis=1) >= 0.5
        assert some.counts[kind] == {"mined": len(rows), "kept": int(kept.sum())} and 0 < kept.sum() < len(rows)
        np.testing.assert_array_equal(some.rows[kind], rows[kept])
        np.testing.assert_array_equal(some.positives[kind], rows)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]  # others may have asked for more
    counts(1.0)
    assert any("lower mining.min_cosine" in record.getMessage() for record in caplog.records)


def test_what_has_no_example_is_left_out_with_a_note(market, caplog):
    def unseen(session, split):
        return {**session, "impressed": [], "clicked": []}

    other = changed(market, unseen, relevance=[])
    caplog.set_level(logging.INFO, logger="onesearch")
    encoder, report = align(other, base_encoder(other, ENCODER), replace(CONFIG, q2q=0.0))
    notes = " ".join(record.getMessage() for record in caplog.records)
    assert "trained 2 of 5 losses (i2i, q2i); no examples for rank: " in notes and "no examples for relevance: " in notes
    assert "weight 0: q2q" in notes and list(report["left_out"]) == ["q2q", "rank", "relevance"]
    assert report["examples"]["relevance"] == {"mined": 0, "kept": 0}


# What is learned


def test_behaviour_is_learned(market, aligned):
    before, encoder, report = aligned
    first, last = (
        measure(market, distinct_queries(market), *vectors, split="train") for vectors in (before, vectors_of(encoder, market))
    )
    assert last["recall"]["purchase"]["recall@10"] > 1.1 * first["recall"]["purchase"]["recall@10"]
    gap = [found["alignment"]["q2i"]["positive"] - found["alignment"]["q2i"]["random"] for found in (first, last)]
    assert gap[1] > gap[0]
    assert report["before"] == measure(market, distinct_queries(market), *before)
    assert embed_texts(encoder, ["☃"]).any() == False  # noqa: E712


def test_the_same_seed_gives_the_same_encoder(market, aligned):
    expected = aligned[1].state_dict()
    same, report = align(market, base_encoder(market, ENCODER), CONFIG)
    other, _ = align(market, base_encoder(market, ENCODER), replace(CONFIG, seed=1))
    (name,) = expected
    assert torch.equal(same.state_dict()[name], expected[name]) and report == aligned[2]
    assert not torch.equal(other.state_dict()[name], expected[name])


def test_texts_tokenised_once_are_those_of_the_encoder(market):
    from onesearch.tokenization_sid.embedding.static_encoder import TokenisedOnce

    encoder = base_encoder(market, ENCODER)
    once = TokenisedOnce(encoder)
    for texts in (["red shoe", "", "☃ coat"], ["red shoe", "blue red shoe", "red shoe"]):
        expected, found = encoder.preprocess(texts), once(texts, prompt=None, task=None)
        assert set(found) == set(expected)
        assert all(torch.equal(found[key], expected[key]) for key in ("input_ids", "offsets"))


def test_recall_by_hand():
    items = np.array([[1, 0], [0, 1], [0.6, 0.8], [1, 0]], dtype=np.float32)
    queries = np.array([[1, 0], [0, 1]], dtype=np.float32)
    asked, targets = np.array([0, 0, 1, 1]), np.array([0, 3, 1, 0])
    np.testing.assert_array_equal(target_ranks(asked, targets, queries, items), [0, 1, 0, 2])
    found = recall(np.array([5, 5, 7, 8]), asked, targets, queries, items, cutoffs=(1, 2))
    assert found == {"requests": 3, "recall@1": pytest.approx(0.5), "recall@2": pytest.approx(2 / 3)}


# Which part of the encoder learns


@pytest.fixture(scope="module")
def transformer(market, tmp_path_factory) -> str:
    """A tiny BERT as a sentence-transformers folder."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("bert")
    words = sorted(
        {letter for text in [*item_texts(market), *distinct_queries(market)] for letter in text.lower() if letter.strip()}
    )
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *(f"##{letter}" for letter in words)]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=128, **sizes)).save_pretrained(folder / "bert")
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    body = Transformer(str(folder / "bert"), max_seq_length=64)
    SentenceTransformer(modules=[body, Pooling(16)], device="cpu").save(str(folder / "model"), create_model_card=False)
    return str(folder / "model")


@pytest.mark.parametrize(("frozen", "dimension"), [(True, 8), (False, None)])
def test_a_named_encoder_is_frozen_or_tuned(transformer, market, tmp_path, frozen, dimension):
    run = RunFolder(tmp_path / "run")
    market.save(run.market, overwrite=True)
    config = replace(CONFIG, frozen=frozen, dimension=dimension, batch_size=256, learning_rate=1e-3, rank=0.0, relevance=0.0)
    named = TextEncoderConfig(model=transformer)
    align_run(run, named, config)
    embed_market(run, named)
    encoder = load_encoder(run)
    assert load_embeddings(run, "items").shape == (len(market.items), dimension or 16)
    np.testing.assert_allclose(
        load_embeddings(run, "queries")[:9], embed_texts(encoder, distinct_queries(market)[:9]), atol=1e-5
    )
    base, trained = base_encoder(market, named)[0].state_dict(), encoder[0].state_dict()
    assert all(torch.equal(trained[name], base[name]) for name in base) == frozen
    assert len(encoder) == (4 if frozen or dimension else 2)


def test_a_projection_starts_as_the_catalogue_s_principal_directions(market):
    from onesearch.tokenization_sid.embedding.alignment_training import add_projection

    encoder = base_encoder(market, ENCODER)
    plain = embed_texts(encoder, item_texts(market))
    add_projection(encoder, AlignmentConfig(frozen=True), plain)
    turned = embed_texts(encoder, item_texts(market))
    np.testing.assert_allclose(turned @ turned.T, plain @ plain.T, atol=1e-4)
    lengths = (turned**2).sum(axis=0)
    assert (np.diff(lengths) <= 1e-3).all()


# In a run folder


def test_alignment_replaces_embeddings_and_build_makes_them_again(run, market, capsys):
    assert cli.main(["sids", "align", str(run.root), "--epochs", "1", "--batch-size", "64", "--min-cosine", "0.3"]) == 0
    printed = capsys.readouterr().out
    report = read_json(run.embeddings / "alignment.json")
    assert f"q2i: {report['examples']['q2i']['kept']:,} of {report['examples']['q2i']['mined']:,}" in printed
    assert "purchase recall@10" in printed and report["config"]["mining"]["min_cosine"] == 0.3
    assert sorted(path.name for path in run.embeddings.iterdir()) == ["alignment.json", "encoder"]
    assert cli.main(["sids", "build", str(run.root), "--residual-sizes", "8,4,4", "--opq", "2x4"]) == 0
    encoder = load_encoder(run)
    np.testing.assert_allclose(load_embeddings(run, "items"), embed_texts(encoder, item_texts(market)), atol=1e-6)
    vectors = embed_texts(encoder, distinct_queries(market)), embed_texts(encoder, item_texts(market))
    assert measure(market, distinct_queries(market), *vectors) == report["after"]
    assert read_json(run.embeddings / "alignment.json") == report
    with pytest.raises(ValueError, match="aligned from encoder static, not from other"):
        embed_market(run, TextEncoderConfig(model="other"))


def test_a_recipe_s_alignment_goes_before_the_embeddings(recipe, tmp_path, monkeypatch):
    import onesearch.pipeline.run as pipeline

    for name in ("make_checkpoint", "evaluate_run", "make_card", "make_sids"):
        monkeypatch.setattr(pipeline, name, lambda *args, **kwargs: None)
    part = {"mining": {"min_cosine": 0.3}, "epochs": 1, "batch_size": 64}
    recipe = replace(recipe, alignment=build(Recipe, {"name": "x", "alignment": part}, "recipe").alignment)
    run = RunFolder(tmp_path / "run")
    pipeline.run_recipe(recipe, run)
    report = read_json(run.embeddings / "alignment.json")
    assert report["config"]["epochs"] == 1 and report["base"]["dimension"] == recipe.encoder.dimension
    written = (run.embeddings / "alignment.json").stat().st_mtime_ns
    assert load_embeddings(run, "items").shape == (450, 16)
    pipeline.run_recipe(recipe, run, resume=True)
    assert (run.embeddings / "alignment.json").stat().st_mtime_ns == written
    with pytest.raises(ValueError, match="recipe.alignment.mining: unknown key 'cosine'.*min_cosine"):
        build(Recipe, {"name": "x", "alignment": {"mining": {"cosine": 1}}}, "recipe")


@pytest.mark.slow
def test_two_processes_embed_like_one(run, market, monkeypatch):
    """Under torchrun, through the command line; blocks are small so that both processes have some."""
    monkeypatch.setattr("onesearch.tokenization_sid.embedding.embeddings.ROWS_PER_BLOCK", 64)
    monkeypatch.setattr("onesearch.tokenization_sid.embedding.embeddings.ROWS_PER_SHARD", 300)
    align_run(run, ENCODER, replace(CONFIG, rank=0.0, relevance=0.0, q2q=0.0))
    embed_market(run, ENCODER)
    one = {path.name: path.read_bytes() for path in run.embeddings.iterdir() if path.is_file()}
    script = run.root / "build.py"
    build_sids = ["sids", "build", str(run.root), "--rebuild", "--residual-sizes", "8,4,4", "--opq", "0x0"]
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "import conftest, onesearch.cli as cli, onesearch.tokenization_sid.embedding.embeddings as embeddings\n"
        "embeddings.ROWS_PER_BLOCK, embeddings.ROWS_PER_SHARD = 64, 300\n"
        f"sys.exit(cli.main({build_sids!r}))\n"
    )
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    finished = subprocess.run([*launcher, str(script)], capture_output=True, text=True, timeout=300)
    assert finished.returncode == 0, finished.stderr[-4000:]
    two = {path.name: path.read_bytes() for path in run.embeddings.iterdir() if path.is_file()}
    assert one == two and sum(name.startswith("items-") for name in two) == 2


# What is refused


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (dict.fromkeys(EXAMPLE_KINDS, 0.0), "all weights are 0"),
        ({"rank": -1.0}, "alignment.rank=-1.0 is invalid; give at least 0"),
        ({"temperature": 0.0}, "alignment.temperature=0.0 is invalid; give a number above 0"),
        ({"batch_size": 1}, "alignment.batch_size=1 is invalid; give at least 2"),
    ],
)
def test_a_wrong_value_is_named(values, words):
    with pytest.raises(ValueError, match=words):
        AlignmentConfig(**values)


def test_what_cannot_be_aligned_is_refused(market, run, monkeypatch):
    items = [{"item_id": "a", "title": "red shoe"}, {"item_id": "b", "title": "blue rain coat"}]
    encoder = base_encoder(market, ENCODER)
    with pytest.raises(ValueError, match="no sessions"):
        align(Market.from_rows(items=items, info={}), encoder, CONFIG)
    silent = changed(market, lambda session, split: {**session, "clicked": [], "purchased": []})
    with pytest.raises(ValueError, match="click or a purchase"):
        align(silent, encoder, CONFIG)
    blank = changed(market, lambda session, split: {**session, "query": " "}, relevance=[])
    with pytest.raises(ValueError, match="has a query"):
        align(blank, encoder, CONFIG)
    with pytest.raises(ValueError, match="alignment.dimension=99, but the base encoder gives 16"):
        align(market, encoder, replace(CONFIG, dimension=99))
    with pytest.raises(ValueError, match="nothing to align on.*min_cosine=1.0"):
        align(market, encoder, replace(CONFIG, mining=MiningConfig(min_cosine=1.0), q2q=0, i2i=0, rank=0, relevance=0))
    kept = json.dumps(read_json(run.embeddings / "embeddings.json"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="alignment trains in one process"):
        align_run(run, ENCODER, CONFIG)
    assert json.dumps(read_json(run.embeddings / "embeddings.json")) == kept


def test_a_transformer_learns_the_tokens_of_facts(transformer, market, tmp_path):
    run = RunFolder(tmp_path / "run")
    market.save(run.market, overwrite=True)
    named = TextEncoderConfig(model=transformer, facts=("price", "keywords"))
    with pytest.raises(ValueError, match=r"price enter as tokens that .* has to learn; add `alignment`"):
        embed_market(run, named)
    with pytest.raises(ValueError, match="frozen=True leaves the tokens of the facts price, keywords"):
        align_run(run, named, replace(CONFIG, frozen=True))
    embed_market(run, replace(named, facts=("keywords",)))
    facts = ItemFacts.fit(market, named)
    vectors = base_encoder(market, named, facts)[0].auto_model.get_input_embeddings().weight
    assert (vectors[-5:] == vectors[:-5].mean(dim=0)).all()
    shutil.rmtree(run.embeddings)
    align_run(run, named, replace(CONFIG, batch_size=256, learning_rate=1e-2, q2q=0, i2i=0, rank=0, relevance=0))
    embed_market(run, named)
    encoder = load_encoder(run)
    assert encoder.tokenizer.tokenize("coat <|price_4|>")[-1] == "<|price_4|>"
    learned = encoder[0].auto_model.get_input_embeddings().weight[-5:]
    assert len(torch.unique(learned, dim=0)) == 5
    np.testing.assert_allclose(load_embeddings(run, "items")[:9], embed_texts(encoder, facts.texts(market)[:9]), atol=1e-5)
