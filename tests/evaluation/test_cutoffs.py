"""No metric beyond the end of a list: cut-offs of retrievers that search with beams, and SIDs of the beam search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from onesearch.data.market import Market
from onesearch.data.requests import Request
from onesearch.evaluation.cutoffs import by_cutoff, check_cutoffs, check_measured, default_cutoffs
from onesearch.evaluation.evaluator import evaluate
from onesearch.evaluation.relevance import evaluate_relevance
from onesearch.evaluation.reports import Report, load_report
from onesearch.evaluation.retrievers import Ranking, beams_of
from onesearch.pipeline.mappings import build
from onesearch.pipeline.recipe import Recipe, recipe_values
from onesearch.pipeline.study import Study
from onesearch.pipeline.study_cells import run_study

ITEMS = [f"i{number}" for number in range(60)]
SID_OF = {item: (number // 2, 0) for number, item in enumerate(ITEMS)}
"""Two items per SID."""
REQUESTS = [Request("s1", "u1", "q1", purchased=("i20",)), Request("s2", "u2", "q2", purchased=("i0",))]


class Listed:
    """Ranks the items in their order; `retrieve` notes how many were asked for."""

    name = "listed"
    asked = 0

    def retrieve(self, requests: Sequence[Request], top_k: int) -> list[Ranking]:
        self.asked = top_k
        return [self.ranking(top_k) for _ in requests]

    def ranking(self, top_k: int) -> Ranking:
        return Ranking(tuple(ITEMS[:top_k]), tuple(-float(rank) for rank in range(min(top_k, 60))))


class Searched(Listed):
    """The same list, from beams; two items per beam, so the list is longer than the beams are many."""

    name = "searched"

    def __init__(self, num_beams: int) -> None:
        self.num_beams = num_beams

    def ranking(self, top_k: int) -> Ranking:
        own = super().ranking(top_k)
        return replace(own, beams=self.num_beams, beam_sids=tuple((number, 0) for number in reversed(range(self.num_beams))))


def measure(*retrievers, **options) -> Report:
    return evaluate(retrievers, REQUESTS, **{"bootstrap_samples": 20, "progress": False, "sid_of": SID_OF} | options)


def cutoffs_in(values) -> set[int]:
    return {int(metric.split("@")[1]) for metric in values if "@" in metric}


def test_metrics_above_the_beams_are_left_out_and_the_report_says_why(tmp_path):
    listed, searched = Listed(), Searched(30)
    report = measure(searched, listed, reference="searched")
    found = {name: report.retrievers[name]["targets"]["purchase"] for name in ("searched", "listed")}
    for level in ("item", "sid"):
        assert cutoffs_in(found["searched"][level]) == {5, 10}
        assert cutoffs_in(found["listed"]["reference_lead"][level]) == {5, 10}
    assert cutoffs_in(found["listed"]["item"]) == {5, 10, 50} and cutoffs_in(found["searched"]["users"]["cold"]) == {5, 10}
    assert searched.asked == listed.asked == 50  # run files hold the lists as they are served
    note, _ = report.notes
    assert "searched has no HR@50, Recall@50, MRR@50, NDCG@50" in note and "30 beams" in note and "--beams 50" in note
    table = report.to_table()
    assert table.count("num_beams=50") == 1 and "| HR@50 |" in table
    (row, *_) = (line for line in table.splitlines() if line.startswith("| searched |"))
    assert "| – |" in row
    report.save(tmp_path)
    assert load_report(tmp_path).notes == report.notes and load_report(tmp_path).to_table() == table


def test_a_baseline_has_no_metric_of_sids_beyond_those_of_its_items():
    """50 items, two on each SID, hold 25 SIDs: the list goes on, but nobody read it."""
    report = measure(Listed(), cutoffs=(20, 25, 26, 50))
    found = report.retrievers["listed"]["targets"]["purchase"]
    assert cutoffs_in(found["item"]) == {20, 25, 26, 50} and cutoffs_in(found["sid"]) == {20, 25}
    assert report.notes == ["no metrics @26, @50 of SIDs for listed: items share SIDs, so that full lists hold fewer SIDs"]
    assert "sid" not in measure(Listed(), cutoffs=(50,)).retrievers["listed"]["targets"]["purchase"]

    class Short(Listed):
        def ranking(self, top_k):
            return super().ranking(min(top_k, 30))  # nothing else is found, so the list of 15 SIDs is whole

    assert cutoffs_in(measure(Short()).retrievers["listed"]["targets"]["purchase"]["sid"]) == {5, 10, 50}


def test_with_enough_beams_nothing_is_left_out():
    report = measure(Searched(50))
    assert cutoffs_in(report.retrievers["searched"]["targets"]["purchase"]["item"]) == {5, 10, 50} and report.notes == []


def test_a_cut_off_that_is_asked_for_needs_its_beams():
    with pytest.raises(
        ValueError, match=r"cutoffs \[50, 350\] are above the 30 beams of searched.*num_beams=350 \(--beams 350\)"
    ):
        measure(Searched(30), Listed(), cutoffs=(10, 50, 350))
    report = measure(Searched(50), Listed(), cutoffs=(50, 20))
    assert report.cutoffs == (20, 50) and "HR@20" in report.to_table()
    assert report.value("searched", "HR@50") == 1 and report.value("searched", "HR@20") == 0.5


def test_a_search_below_every_default_is_measured_at_its_own_length():
    report = measure(Searched(3), Listed())
    assert report.cutoffs == (3, 5, 10, 50)
    assert cutoffs_in(report.retrievers["searched"]["targets"]["purchase"]["item"]) == {3}
    assert "| retriever | HR@3 | Recall@3 | MRR@3 | NDCG@3 | HR@5 |" in report.to_table()


def test_the_sid_level_reads_the_beams_and_not_the_items():
    """The beams run backwards from SID 29, so that i20 (SID 10) stands at rank 20 and i0 (SID 0) at rank 30."""
    report = measure(Searched(30), Listed(), cutoffs=(12, 20, 30))
    sids = report.values["searched"]["purchase"]["sid"]
    assert sids["MRR@30"].tolist() == [1 / 20, 1 / 30] and sids["HR@20"].tolist() == [1, 0]
    baseline = report.values["listed"]["purchase"]["sid"]  # a baseline's SIDs are those of its items: i20 is the 11th
    assert baseline["MRR@12"].tolist() == [1 / 11, 1]
    with pytest.raises(ValueError, match=r"SID \(1, 0\) occurs twice among the beams"):
        Ranking((), (), beams=2, beam_sids=((1, 0), (1, 0)))


def test_relevance_leaves_out_what_the_beams_do_not_reach():
    market = Market.from_rows(
        items=[{"item_id": item, "title": item} for item in ITEMS], relevance=[{"query": "q", "item_id": "i40", "grade": 3}]
    )
    found = evaluate_relevance([Searched(30), Listed()], market, bootstrap_samples=20, progress=False).report
    assert list(found["retrievers"]["searched"]) == ["NDCG@10", "judged@10"]
    assert list(found["retrievers"]["listed"]) == ["NDCG@10", "Recall@100", "judged@10"]
    (note,) = found["notes"]
    assert "searched has no Recall@100" in note and "--beams 100" in note
    table = Report(relevance=found).to_table()
    assert note in table and "| Recall@100 |" in table and "– |" in table


@pytest.mark.parametrize("cutoffs", [[], [0, 5], [351], [5, 5], [2.5], [True]])
def test_cut_offs_are_checked(cutoffs):
    with pytest.raises(ValueError, match="distinct whole numbers from 1 to 350"):
        check_cutoffs(cutoffs)
    with pytest.raises(ValueError, match="distinct whole numbers from 1 to 350"):
        measure(Listed(), cutoffs=cutoffs)


def test_which_cut_offs_are_measured_and_shown():
    assert default_cutoffs([30]) == (5, 10, 50) and default_cutoffs([4, 30]) == (4, 5, 10, 50)
    assert beams_of(Searched(7)) == 7 and beams_of(Listed()) is None
    check_measured(["HR@10", "MRR@5"], None, 30)
    check_measured(["HR@350"], (350,), 512)
    for metric, cutoffs, beams in (("HR@50", None, 30), ("HR@20", None, 50), ("HR@10", (350,), 512)):
        with pytest.raises(ValueError, match=f"metric '{metric}' is not measured"):
            check_measured([metric], cutoffs, beams)
    with pytest.raises(ValueError, match="'HR' has no cut-off"):
        check_measured(["HR"], None, 50)
    row = {f"HR@{k}": 0 for k in (10, 50, 350)}
    assert by_cutoff({"a": row}, (10, 50, 350))[0] == "HR@10" and by_cutoff({"a": row}, (10, 50, 350))[4:] == (
        "HR@50",
        "HR@350",
    )


def test_a_study_refuses_metrics_that_no_cell_will_have_before_it_trains(tmp_path):
    for metrics, search in ((("HR@350",), {}), (("HR@10",), {"search.num_beams": 6}), (("HR@20",), {})):
        study = Study(name="x", base="demo", variants={"a": search}, metrics=metrics)
        with pytest.raises(ValueError, match=f"metric '{metrics[0]}' is not measured"):
            run_study(study, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_recipe_asks_for_cut_offs_that_its_beams_reach():
    values = {"name": "x", "search": {"num_beams": 350}, "evaluation": {"cutoffs": [10, 50, 350]}}
    recipe = build(Recipe, values, "recipe")
    assert recipe.evaluation.cutoffs == (10, 50, 350) and build(Recipe, recipe_values(recipe), "recipe") == recipe
    with pytest.raises(ValueError, match=r"recipe: cutoffs \[350\] are above the 349 beams of the search.*num_beams=350"):
        build(Recipe, {**values, "search": {"num_beams": 349}}, "recipe")
    for cutoffs, words in (([], "give distinct whole numbers"), ([351], "from 1 to 350"), ([2.5], "must be a whole number")):
        with pytest.raises(ValueError, match=words):
            build(Recipe, {"name": "x", "evaluation": {"cutoffs": cutoffs}}, "recipe")
