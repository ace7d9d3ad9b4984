"""Answers of baselines are kept in the run: asked once, with the times of then, and never used for another market."""

from __future__ import annotations

import shutil

import pytest

from onesearch import RunFolder
from onesearch.data.market import Market
from onesearch.evaluation.retrievers import Ranking
from onesearch.files import read_json
from onesearch.parquet_files import read_table, write_table
from onesearch.pipeline import baseline_answers
from onesearch.pipeline.baseline_answers import ANSWERS_NAME, RunBaselines, basis_of
from onesearch.pipeline.evaluation import evaluate_run
from onesearch.pipeline.recipe import EvaluationConfig

CONFIG = EvaluationConfig(sasrec=False)


@pytest.fixture(scope="module")
def evaluated(shared_run, tmp_path_factory):
    """A copy of a run that was evaluated once, and its report."""
    copy = RunFolder(tmp_path_factory.mktemp("evaluated") / "run")
    shutil.copytree(shared_run.root, copy.root, ignore=shutil.ignore_patterns("evaluation", "training"))
    return copy, evaluate_run(copy, CONFIG, progress=False)


@pytest.fixture
def measured(evaluated, tmp_path, monkeypatch):
    """A copy of the evaluated run, its report, and the calls that fit baselines from then on."""
    copy, first = RunFolder(tmp_path / "run"), evaluated[1]
    shutil.copytree(evaluated[0].root, copy.root)
    calls, fit = [], baseline_answers.run_baselines
    monkeypatch.setattr(baseline_answers, "run_baselines", lambda *given: calls.append(given) or fit(*given))
    return copy, first, calls


def of_baselines(report):
    return {name: found for name, found in report.retrievers.items() if not name.startswith("onesearch")}


def test_an_evaluation_with_other_beams_asks_no_baseline_again(measured):
    run, first, calls = measured
    second = evaluate_run(run, CONFIG, {"num_beams": 5}, name="five", progress=False)
    assert not calls and second.rankings["bm25"] == first.rankings["bm25"]
    times = ("seconds_per_request", "cpu_seconds_per_request")
    for name, found in of_baselines(first).items():
        assert [of_baselines(second)[name][time] for time in times] == pytest.approx([found[time] for time in times])
        assert second.rankings[name] == first.rankings[name]
    assert {"bm25", "dense", "transitions"} <= set(of_baselines(second))
    assert second.value("onesearch", "HR@5") != first.value("onesearch", "HR@5") or second.cutoffs != first.cutoffs


def test_equal_evaluations_give_equal_reports(measured):
    run, first, calls = measured
    evaluate_run(run, CONFIG, name="twin", progress=False)
    saved, twin = (read_json(folder / "metrics.json") for folder in (run.evaluation, run.evaluation / "twin"))
    assert not calls and saved["retrievers"].keys() == twin["retrievers"].keys()
    for name in of_baselines(first):
        assert saved["retrievers"][name]["targets"].keys() == twin["retrievers"][name]["targets"].keys()
        for kind, found in saved["retrievers"][name]["targets"].items():
            assert twin["retrievers"][name]["targets"][kind] == found


def test_another_sample_and_another_question_are_asked_anew_and_kept(measured):
    run, _, calls = measured
    few = EvaluationConfig(sasrec=False, sample=7)
    for number in (1, 1):
        evaluate_run(run, few, name=f"few-{len(calls)}", progress=False)
        assert len(calls) == number
    evaluate_run(run, few, name="again", again=True, progress=False)
    assert len(calls) == 2


def test_answers_of_another_market_are_not_used(measured):
    run, _, calls = measured
    before, path = basis_of(run, CONFIG), run.market / "items.parquet"
    table = read_table(path)
    write_table(table.take(list(reversed(range(table.num_rows)))), path)
    assert basis_of(run, CONFIG) != before and basis_of(run, EvaluationConfig()) != basis_of(run, CONFIG)
    evaluate_run(run, CONFIG, name="other", progress=False)
    assert len(calls) == 1


def test_a_damaged_file_is_named(measured):
    run, _, _ = measured
    path = run.evaluation / ANSWERS_NAME
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"baselines.parquet is damaged .* remove the file"):
        RunBaselines(run, Market.load(run.market), CONFIG)


def test_rankings_without_items_survive_the_file(tmp_path):
    known = baseline_answers.KnownAnswers(tmp_path / ANSWERS_NAME, "basis", ["a", "b", "c"])
    rankings = [Ranking((), ()), Ranking(("c", "a"), (2.0, 1.5)), Ranking((), ())]
    known.names = ("x", "y")
    known.of = {
        ("x", "1"): baseline_answers.Answers(rankings, 6.0, 3.0),
        ("y", "1"): baseline_answers.Answers(rankings[:1], 1.0, 1.0),
    }
    known.save()
    again = baseline_answers.KnownAnswers(tmp_path / ANSWERS_NAME, "basis", ["a", "b", "c"])
    again.load()
    assert (again.names, again.of) == (known.names, known.of)
    other = baseline_answers.KnownAnswers(tmp_path / ANSWERS_NAME, "other", ["a", "b", "c"])
    other.load()
    assert not other.of and not other.names
