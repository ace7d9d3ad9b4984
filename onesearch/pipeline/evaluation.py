"""The evaluation of a run: its checkpoint beside the baselines, on one split and on judged queries."""

from __future__ import annotations

from onesearch.data.market import Market
from onesearch.data.requests import build_requests
from onesearch.evaluation.evaluator import evaluate, evaluate_relevance, sample_requests
from onesearch.evaluation.reports import Report
from onesearch.evaluation.retrievers import Retriever
from onesearch.files import RunFolder
from onesearch.serving.searcher import Searcher

from .recipe import EvaluationConfig


def evaluate_run(run: RunFolder, plan: EvaluationConfig, progress: bool = True, baselines: bool = True) -> Report:
    """Measure a run's checkpoint beside the baselines on one split, and on judged queries if the market has any.

    Writes ``metrics.json`` and TREC files to ``evaluation/``.
    """
    market = Market.load(run.require("market", "onesearch data"))
    checkpoint = run.require("checkpoint", "onesearch train")
    searcher = Searcher.from_pretrained(
        checkpoint, num_beams=plan.num_beams, exclude_history=plan.exclude_history, rank_by=plan.rank_by
    )
    retrievers: list[Retriever] = [searcher, *(_baselines(run, market, plan) if baselines else ())]
    requests = build_requests(market, plan.split)
    index = searcher.model.sid_index
    if requests:
        requests, sample = sample_requests(requests, plan.sample or len(requests))
        report = evaluate(
            retrievers,
            requests,
            sid_of=dict(zip(index.item_ids, map(tuple, index.codes.tolist()))),
            reference=searcher.name,
            market=str(market.info.get("name", "")),
            split=plan.split,
            sample=sample,
            progress=progress,
        )
    else:
        report = Report(market=str(market.info.get("name", "")), split=plan.split)
    if max(market.relevance.data.column("grade").to_pylist(), default=0) >= 2:  # otherwise recall has nothing to find
        report.relevance = evaluate_relevance(retrievers, market, progress=progress)
    report.save(run.evaluation)
    return report


def _baselines(run: RunFolder, market: Market, plan: EvaluationConfig) -> list[Retriever]:
    from onesearch.evaluation.baselines.cascade import CascadeRetriever
    from onesearch.evaluation.baselines.dense import DenseRetriever
    from onesearch.evaluation.baselines.popularity import PopularityInCategoryRetriever, PopularityRetriever
    from onesearch.evaluation.baselines.text import BM25Retriever
    from onesearch.evaluation.baselines.training import read_training_log
    from onesearch.tokenization_sid.embedding.embeddings import load_embeddings, load_encoder
    from onesearch.tokenization_sid.embedding.text_encoder import embed_texts

    encoder = load_encoder(run)
    item_ids = market.items.data.column("item_id").to_pylist()
    text, log = BM25Retriever(market), read_training_log(market)
    found: list[Retriever] = [
        text,
        DenseRetriever(item_ids, load_embeddings(run, "items"), lambda queries: embed_texts(encoder, queries)),
    ]
    if not build_requests(market, "train"):
        return found
    cascade = CascadeRetriever(market, text=text, log=log)
    held_out = build_requests(market, "validation")
    if plan.tune_cascade and held_out:
        cascade.tune(sample_requests(held_out, 2000)[0])
    return [*found, PopularityRetriever(market, log=log), PopularityInCategoryRetriever(market, text=text, log=log), cascade]
