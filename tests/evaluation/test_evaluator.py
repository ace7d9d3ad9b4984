"""The evaluator and its files, on rankings that are written down by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, R, Success, nDCG

from onesearch.data.market import Market
from onesearch.data.requests import Request
from onesearch.evaluation.evaluator import evaluate, sample_requests
from onesearch.evaluation.relevance import evaluate_relevance, why_left_out
from onesearch.evaluation.reports import Report, check_settings, load_report
from onesearch.evaluation.retrievers import Ranking
from onesearch.evaluation.trec_files import write_run

SID_OF = {"a": (0, 0), "b": (0, 0), "c": (0, 1), "d": (1, 0), "e": (1, 1)}
REQUESTS = [
    Request("s1", "u1", "q1", (), clicked=("a", "c"), purchased=("c",)),
    Request("s2", "u2", "q2", ("a",), clicked=("e",), purchased=("b",)),
    Request("s3", "u1", "q3", ("c",), clicked=("d", "e")),
]


class Scripted:
    """Answers by query, from a table."""

    def __init__(self, name: str, answers: dict[str, Sequence[str]], **extra):
        self.name, self.answers, self.extra = name, answers, extra

    def retrieve(self, requests: Sequence[Request], top_k: int) -> list[Ranking]:
        found = [tuple(self.answers.get(request.query, ()))[:top_k] for request in requests]
        return [Ranking(items, tuple(-float(rank) for rank in range(len(items))), **self.extra) for items in found]


GOOD = Scripted("good", {"q1": "cab", "q2": "acb", "q3": "de"})
POOR = Scripted("poor", {"q1": "de", "q2": "ea", "q3": "ab"})


def run(*retrievers, requests=REQUESTS, **options) -> Report:
    return evaluate(retrievers, requests, **{"cutoffs": (1, 2, 10), "bootstrap_samples": 50, "progress": False} | options)


def test_purchases_and_clicks_are_apart():
    report = run(GOOD, POOR)
    assert report.targets == {"purchase": {"requests": 2, "left_out": 1}, "click": {"requests": 3, "left_out": 0}}
    assert report.value("good", "HR@1", "purchase") == 0.5
    assert report.value("good", "HR@10", "purchase") == 1
    assert report.value("good", "HR@1", "click") == pytest.approx(2 / 3)
    assert report.value("good", "Recall@10", "click") == pytest.approx((1 + 0 + 1) / 3)
    assert report.values["good"]["purchase"]["item"]["MRR@10"].tolist() == pytest.approx([1, 1 / 3])


def test_a_sid_hit_is_not_an_item_hit():
    report = run(GOOD, sid_of=SID_OF)
    # q2: a comes first and b was bought; both have SID (0, 0)
    assert report.values["good"]["purchase"]["item"]["HR@1"].tolist() == [1, 0]
    assert report.values["good"]["purchase"]["sid"]["HR@1"].tolist() == [1, 1]
    # q1: distinct SIDs are (0, 1), (0, 0): both targets within the first two
    assert report.values["good"]["click"]["sid"]["Recall@2"][0] == 1
    assert "sid" not in run(GOOD).retrievers["good"]["targets"]["purchase"]


def test_a_generative_retriever_brings_its_own_sids():
    own = Scripted("own", {"q1": "cab"}, sids=((1, 1), None, (1, 0)), beams=3)
    report = run(own, requests=REQUESTS[:1], sid_of=SID_OF)
    assert report.values["own"]["purchase"]["item"]["HR@10"].tolist() == [1]
    assert report.values["own"]["purchase"]["sid"]["HR@10"].tolist() == [0]
    assert report.values["own"]["click"]["sid"]["HR@2"].tolist() == [1]


def test_cold_and_warm_users_are_apart():
    users = run(GOOD).retrievers["good"]["targets"]["purchase"]["users"]
    assert users["cold"]["requests"] == users["warm"]["requests"] == 1
    assert (users["cold"]["HR@1"]["value"], users["warm"]["HR@1"]["value"]) == (1, 0)
    assert "HR@10" in users["warm"]
    only_cold = run(GOOD, requests=REQUESTS[:1]).retrievers["good"]["targets"]["purchase"]["users"]
    assert only_cold["warm"] == {"requests": 0}


def test_invalid_rate_counts_beams():
    report = run(Scripted("model", GOOD.answers, invalid=1, beams=4), POOR)
    assert report.retrievers["model"]["invalid_sid_rate"] == 0.25
    assert report.retrievers["poor"]["invalid_sid_rate"] is None


def test_a_reference_leads_by_a_paired_difference():
    report = run(GOOD, POOR, reference="good", sid_of=SID_OF)
    lead = report.retrievers["poor"]["targets"]["click"]["reference_lead"]
    gap = report.value("good", "HR@10", "click") - report.value("poor", "HR@10", "click")
    assert lead["item"]["HR@10"]["value"] == pytest.approx(gap)
    assert lead["sid"]["HR@10"]["low"] <= lead["sid"]["HR@10"]["value"] <= lead["sid"]["HR@10"]["high"]
    assert "reference_lead" not in report.retrievers["good"]["targets"]["click"]


def test_batches_do_not_change_anything():
    one, three = run(GOOD, batch_size=1), run(GOOD, batch_size=3)
    assert one.retrievers["good"]["targets"] == three.retrievers["good"]["targets"]
    assert one.retrievers["good"]["seconds_per_request"] >= 0 <= one.retrievers["good"]["cpu_seconds_per_request"]


def test_a_kind_that_no_request_has_is_counted_only():
    report = run(GOOD, requests=[replace(request, purchased=()) for request in REQUESTS], reference="good")
    assert report.targets["purchase"] == {"requests": 0, "left_out": 3}
    assert list(report.retrievers["good"]["targets"]) == ["click"]
    with pytest.raises(KeyError, match="'purchase' of .* was not measured; there are click"):
        report.value("good", "HR@10")


@pytest.mark.parametrize(
    ("retrievers", "options", "message"),
    [
        ([], {}, "0 retrievers and 3 requests"),
        ([GOOD], {"requests": []}, "1 retrievers and 0 requests"),
        ([GOOD, GOOD], {}, "not distinct"),
        ([GOOD], {"requests": [REQUESTS[0], REQUESTS[0]]}, "session ids"),
        ([GOOD], {"reference": "best"}, "'best' is none of"),
        ([GOOD], {"cutoffs": (0, 5)}, "cutoffs are"),
        ([GOOD], {"sid_of": {"a": (0,)}}, "'c' has no SID"),
        ([GOOD], {"targets": ("view",)}, "'view' is unknown"),
        ([Scripted("a b", {})], {}, "'a b' must consist of"),
    ],
)
def test_bad_arguments_raise(retrievers, options, message):
    with pytest.raises(ValueError, match=message):
        run(*retrievers, **options)


def test_a_retriever_that_breaks_the_protocol_raises():
    class TooMany(Scripted):
        def retrieve(self, requests, top_k):
            return super().retrieve(requests, 99)

    with pytest.raises(ValueError, match="greedy gave 3 rankings of up to 3 items for 3 requests and top_k=2"):
        run(TooMany("greedy", GOOD.answers), cutoffs=(1, 2))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"item_ids": ("a", "a"), "scores": (1.0, 0.5)}, "'a' occurs twice"),
        ({"item_ids": ("a",), "scores": ()}, "1 items and 0 scores"),
        ({"item_ids": ("a",), "scores": (1.0,), "sids": ((1,), (2,))}, "1 items and 2 SIDs"),
        ({"item_ids": (), "scores": (), "invalid": 2, "beams": 1}, "2 invalid of 1 beams"),
    ],
)
def test_a_ranking_is_checked(fields, message):
    with pytest.raises(ValueError, match=message):
        Ranking(**fields)


def test_sample_is_seeded_ordered_and_noted():
    requests = [Request(f"s{n}", "u", "q") for n in range(50)]
    drawn, note = sample_requests(requests, 10, seed=1)
    assert note == {"count": 10, "of": 50, "seed": 1}
    numbers = [int(request.session_id[1:]) for request in drawn]
    assert numbers == sorted(set(numbers)) and len(numbers) == 10
    assert sample_requests(requests, 10, seed=1)[0] == drawn != sample_requests(requests, 10, seed=2)[0]
    assert sample_requests(requests, 50) == (requests, None)
    with pytest.raises(ValueError, match="count is 0"):
        sample_requests(requests, 0)


def test_metrics_json_round_trip(tmp_path):
    report = run(GOOD, POOR, reference="good", sid_of=SID_OF, market="tiny", sample={"count": 3, "of": 9, "seed": 0})
    path = report.save(tmp_path)
    assert path == tmp_path / "metrics.json"
    assert load_report(path) == load_report(tmp_path) == report
    assert json.loads(path.read_text())["schema"] == 3
    assert load_report(path).to_table() == report.to_table()


def test_a_report_is_not_replaced_by_one_with_other_settings(tmp_path):
    settings = {"split": "test", "search": {"num_beams": 5, "rank_by": "sid"}}
    check_settings(tmp_path, settings)
    report = run(GOOD)
    report.settings = settings
    report.save(tmp_path)
    check_settings(tmp_path, {"search": {"rank_by": "sid", "num_beams": 5}, "split": "test"})
    with pytest.raises(FileExistsError, match=r"other settings \(search.num_beams 5 → 6, sample 'unknown' → 9\).*--overwrite"):
        check_settings(tmp_path, {"search": {"num_beams": 6, "rank_by": "sid"}, "split": "test", "sample": 9})
    run(GOOD).save(tmp_path)  # without settings: nobody knows what it was made with
    with pytest.raises(FileExistsError, match="split 'unknown' → 'test'"):
        check_settings(tmp_path, settings)


def test_a_foreign_report_is_refused(tmp_path):
    (tmp_path / "metrics.json").write_text('{"schema": 99}')
    with pytest.raises(ValueError, match="schema 99, expected 3"):
        load_report(tmp_path)


def test_run_files_give_ir_measures_the_same_numbers(tmp_path):
    report = run(GOOD, POOR, split="validation")
    report.save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        *("metrics.json", "good.validation.run", "poor.validation.run"),
        *("purchase.validation.qrels", "click.validation.qrels"),
    }
    measures = {Success @ 1: "HR@1", R @ 2: "Recall@2", RR @ 10: "MRR@10", nDCG @ 10: "NDCG@10"}
    for kind in ("purchase", "click"):
        qrels = list(ir_measures.read_trec_qrels(str(tmp_path / f"{kind}.validation.qrels")))
        ranked = list(ir_measures.read_trec_run(str(tmp_path / "good.validation.run")))
        for measure, value in ir_measures.calc_aggregate(list(measures), qrels, ranked).items():
            assert value == pytest.approx(report.value("good", measures[measure], kind), abs=1e-6)


def test_run_scores_strictly_decrease_even_where_the_model_ties(tmp_path):
    report = run(GOOD)
    scores = (2.0, 2.0, 1.0, 5.0, 0.0, 0.0, -0.0, -1.0, -1.0, -1e30)
    items = tuple("abcdefghij")
    report.rankings = {"good": {"s1": Ranking(items, scores), "s2": Ranking((), ())}}
    write_run(report.rankings["good"], "good", tmp_path / "good.run")
    lines = [line.split() for line in (tmp_path / "good.run").read_text().splitlines()]
    assert [(line[0], line[1], line[2], line[3], line[5]) for line in lines] == [
        ("s1", "Q0", item, str(rank), "good") for rank, item in enumerate(items, start=1)
    ]
    written = np.array([line[4] for line in lines], dtype=np.float32)
    assert (np.diff(written) < 0).all()
    assert written[0] == 2 and written[2] == 1 and written[7] == -1 and written[9] == np.float32(-1e30)
    assert np.abs(written[:9] - np.array([2, 2, 1, 1, 0, 0, 0, -1, -1])).max() < 1e-6


@pytest.mark.parametrize(("items", "scores", "message"), [(("a b",), (1.0,), "'a b'"), (("a",), (float("nan"),), "finite")])
def test_what_a_run_file_cannot_hold_raises_and_leaves_no_file(tmp_path, items, scores, message):
    report = run(GOOD)
    report.rankings = {"good": {"s1": Ranking(items, scores)}}
    with pytest.raises(ValueError, match=message):
        write_run(report.rankings["good"], "good", tmp_path / "good.run")
    assert not list(tmp_path.iterdir())


def test_table_says_what_was_measured():
    report = run(GOOD, POOR, sid_of=SID_OF, market="tiny", sample={"count": 3, "of": 9, "seed": 7})
    report.retrievers["good"]["invalid_sid_rate"] = 0.5
    table = report.to_table()
    assert table.startswith("tiny, test split: 3 requests (a sample of 3 of 9, seed 7); 95 % bootstrap intervals")
    assert "**purchases, items** (2 requests" in table and "**clicks, Semantic IDs** (3 requests" in table
    assert "| good | 1.0000 [1.0000, 1.0000] |" in table and "| 50.00 % |" in table
    assert "(all of them)" in run(GOOD).to_table()
    assert "| retriever | HR@2 |" in report.to_table(metrics=("HR@2",))


def relevance_market() -> Market:
    grades = {"q1": {"a": 3, "b": 1, "c": 0}, "q2": {"d": 1}, "q3": {"a": 0}}
    return Market.from_rows(
        items=[{"item_id": item, "title": item} for item in "abcde"],
        relevance=[{"query": q, "item_id": item, "grade": grade} for q, rows in grades.items() for item, grade in rows.items()],
    )


def test_relevance_counts_judged_queries_only():
    found = evaluate_relevance([GOOD], relevance_market(), bootstrap_samples=20, progress=False).report
    assert (found["queries"], found["recall_queries"]) == (2, 1)
    values = {metric: estimate["value"] for metric, estimate in found["retrievers"]["good"].items()}
    of_q1 = (3 / np.log2(3) + 1 / np.log2(4)) / (3 + 1 / np.log2(3))
    assert values == pytest.approx({"NDCG@10": of_q1 / 2, "Recall@100": 1, "judged@10": 0.5})
    table = Report(relevance=found).to_table()
    assert table.startswith("**relevance judgements** (2 judged queries)") and "| good |" in table


def test_relevance_needs_judgements():
    empty = Market.from_rows(items=[{"item_id": "a", "title": "a"}])
    with pytest.raises(ValueError, match="no judged query"):
        evaluate_relevance([GOOD], empty, progress=False)
    assert why_left_out(empty, 2) == "the market has no judged query" and why_left_out(relevance_market(), 3) is None


def test_grades_of_0_and_1_are_measured_when_1_is_relevant():
    judged = [{"query": "q1", "item_id": item, "grade": grade} for item, grade in (("a", 1), ("b", 0), ("c", 1))]
    market = Market.from_rows(items=[{"item_id": item, "title": item} for item in "abc"], relevance=judged)
    with pytest.raises(
        ValueError, match=r"none of its 3 judgements has a grade of at least 2, the highest is 1; lower relevant_grade"
    ):
        evaluate_relevance([GOOD], market, progress=False)
    found = evaluate_relevance([GOOD], market, relevant_grade=1, bootstrap_samples=20, progress=False).report
    assert found["recall_grade"] == 1 and found["recall_queries"] == 1
    assert found["retrievers"]["good"]["Recall@100"]["value"] == pytest.approx(1.0)


def test_importing_the_room_stays_light():
    modules = "evaluator, onesearch.evaluation.reports, onesearch.evaluation.baselines"
    code = f"import sys, onesearch.evaluation.{modules}; print(*sys.modules)"
    loaded = set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())
    assert not loaded & {"torch", "bm25s", "faiss", "lightgbm", "matplotlib", "ir_measures"}
