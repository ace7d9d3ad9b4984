"""The report of a run: whole, self-contained, and honest about what is not there."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest

from onesearch.cli import main
from onesearch.evaluation.reports import load_report
from onesearch.files import RunFolder
from onesearch.model_cards.calibration import groups_of


@pytest.fixture(scope="module")
def text(shared_run, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "page.html"
    assert main(["report", str(shared_run.root), "--output", str(path)]) == 0
    return path.read_text(encoding="utf-8")


def test_everything_is_inside_the_file(text, shared_run):
    assert not re.search(r"(src|href)=\"(?!data:)", text) and "$" not in re.sub(r"base64,[\w+/=]+", "", text)
    for title in (
        "Arms and baselines",
        "Training",
        "Semantic IDs",
        "Calibration",
        "All metrics",
        "What the codes tell",
        "Recipe",
    ):
        assert text.count(f">{title}<") == 1
    report = load_report(shared_run.evaluation)
    assert f"<b>{report.value('onesearch', 'HR@10'):.3f}</b>" in text
    assert all(f"<td>{name}</td>" in text for name in report.retrievers)


def test_the_same_run_gives_the_same_file(text, shared_run, tmp_path):
    assert main(["report", str(shared_run.root), "--output", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == text


def test_what_is_not_there_is_left_out(shared_run, tmp_path):
    run = RunFolder(tmp_path / "only<market>")
    shutil.copytree(shared_run.market, run.market)
    assert main(["report", str(run.root)]) == 0
    page = (run.root / "report.html").read_text(encoding="utf-8")
    assert "<h1>only&lt;market&gt;</h1>" in page and "<section>" not in page


def test_calibrated_probabilities_lie_on_the_line():
    draw = np.random.default_rng(0)
    predicted = draw.uniform(0.01, 0.6, 40_000)
    groups = groups_of(predicted, draw.uniform(size=40_000) < predicted)
    assert [group.hits for group in groups] == [4000] * 10
    assert all(group.observed == pytest.approx(group.predicted, abs=0.03) for group in groups)
    assert all(group.low <= group.observed <= group.high for group in groups)
    assert groups_of(np.zeros(0), np.zeros(0, dtype=bool)) == []
    (alone,) = groups_of(np.array([0.5]), np.array([True]))
    assert alone.observed == 1.0 and 0.2 < alone.low < 0.21  # Wilson's interval of one success in one trial
