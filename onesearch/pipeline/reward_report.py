"""The report of a reward model: the truth of its probabilities, the gain of re-ranking for groups of requests, and its upper bound.

Three parts, each on requests or sessions of one split that no training has seen:

* **towers**: AUC, log loss and calibration of each tower on the items that held-out sessions were shown, beside a logistic regression on
  the same cross features, the item's raw rate, and on a simulated market the optimal predictor, which knows the simulator's state.
* **cohorts**: quality of the generator's order and of the re-ranked one by how often the target was bought or clicked in training, by
  length of history, and by whether a transition from the latest items to the target was seen.
* **beam_recall**: share of the requests whose target is among the first hits of the generator, which bounds every re-ranking.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onesearch.data.market import Market
from onesearch.data.requests import Request, build_requests
from onesearch.evaluation.evaluator import sample_requests
from onesearch.evaluation.measuring import Bootstrap
from onesearch.evaluation.metrics import all_metrics, gain_table
from onesearch.files import RunFolder, check_writable, write_json

from .reward_pairs import tower_quality
from .run_lock import writing

if TYPE_CHECKING:
    from onesearch.serving.reranker import Reranker
    from onesearch.serving.searcher import Searcher

logger = logging.getLogger(__name__)

FOLDER_NAME, REPORT_NAME, PLOT_NAME = "reward", "reward_report.json", "reliability.png"
"""Folder in ``evaluation/``, and the files in it."""

RECALL_CUTOFFS = (10, 50, 100, 300)
"""Depths at which the beam's recall is reported; the beams of that search are as many as the largest."""

CUTOFF = 10
"""Length of the lists that the cohorts are measured on."""

COUNTS = ((0, 0), (1, 2), (3, 9), (10, None))
"""Cohorts by number of training clicks and purchases of the target, both ends included; our choice."""

LENGTHS = ((0, 0), (1, 5), (6, 20), (21, None))
"""Cohorts by length of the history, both ends included; our choice."""


def report_reward(run: RunFolder, split: str = "test", sample: int = 2000, progress: bool = True) -> dict[str, Any]:
    """Measure the reward model of a run's checkpoint, and write ``evaluation/reward/``: the report and, with matplotlib, the plot.

    Args:
        run: folder with a market and a checkpoint with a reward model.
        split: ``validation`` or ``test``. The weights of the ranking were chosen on the validation split.
        sample: number of requests, and of sessions of the towers, that are drawn.
        progress: log each part.

    Raises:
        FileNotFoundError: an earlier step of the run is missing.
        ValueError: the checkpoint has no reward model, or the split has no request.
    """
    from onesearch.serving.searcher import Searcher

    market = Market.load(run.require("market", "onesearch data"))
    searcher = Searcher.from_pretrained(
        run.require("checkpoint", "onesearch train"), rerank=True, candidates="beam", dense_weight=0.0
    )
    requests = build_requests(market, split)
    if not requests:
        raise ValueError(
            f"the {split} split has no request, so there is nothing to measure; `onesearch data check` names the cause"
        )
    requests, drawn = sample_requests(requests, sample)
    folder = run.evaluation / FOLDER_NAME
    with writing(run, "onesearch reward --report"):
        check_writable(folder)
        reranker = searcher.reranker
        assert reranker is not None  # rerank=True has checked it
        report: dict[str, Any] = {"split": split, "requests": len(requests), "sample": drawn}
        for name, part in {
            "towers": lambda: tower_quality(market, reranker, split, sample),
            "cohorts": lambda: cohorts(searcher, requests),
            "beam_recall": lambda: beam_recall(searcher, requests),
        }.items():
            if progress:
                logger.info("report of the reward model: %s", name)
            report[name] = part()
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / REPORT_NAME, report)
        plot_reliability(report["towers"], folder / PLOT_NAME)
    return report


def cohorts(searcher: Searcher, requests: Sequence[Request]) -> dict[str, dict[str, dict[str, Any]]]:
    """Quality of the generator's and of the re-ranked order in groups of requests.

    The target is what was bought, or clicked where nothing was bought; where there are several, a request is grouped by the first.

    Args:
        searcher: search with a reward model.
        requests: requests with a target.

    Returns:
        Kind of group → group → ``requests`` and, for ``generator`` and ``reranked``, HR@10, MRR@10 and NDCG@10 with intervals.
    """
    reranker = searcher.reranker
    assert reranker is not None
    arms = {"generator": searcher.arm("generator", rerank=False), "reranked": searcher}
    targets = [request.purchased or request.clicked for request in requests]
    values = {}
    for name, arm in arms.items():
        found = [[hit.item_id for hit in hits] for hits in arm.hits(requests, CUTOFF)]
        gains = [dict.fromkeys(own, 1.0) for own in targets]
        values[name] = all_metrics(gain_table(found, gains, CUTOFF), (CUTOFF,), ("HR", "MRR", "NDCG"))
    bootstrap = Bootstrap(1000, 0)
    grouped: dict[str, dict[str, dict[str, Any]]] = {}
    for kind, group_of in _groups(reranker, requests, [own[0] for own in targets]).items():
        grouped[kind] = {}
        for group in dict.fromkeys(sorted(group_of)):
            rows = np.array([own == group for own in group_of])
            metrics = {
                name: bootstrap.estimates({metric: part[rows] for metric, part in own.items()}) for name, own in values.items()
            }
            grouped[kind][group[1]] = {"requests": int(rows.sum()), **metrics}
    return grouped


def _groups(reranker: Reranker, requests: Sequence[Request], targets: Sequence[str]) -> dict[str, list[tuple[int, str]]]:
    """Kind of group → place and name of each request's group."""
    memory, row_of = reranker.parts.memory, reranker.requests.row_of
    known = np.array([row_of.get(item_id, -1) for item_id in targets])
    bought = np.sum([part.before(known) for part in memory.statistics[1:]], axis=0)
    votes = memory.transitions_to(reranker.requests.histories(requests), known[:, None])[:, 0]
    return {
        "times the target was bought or clicked in training": [_band(int(count), COUNTS) for count in bought],
        "length of the history": [_band(len(request.history), LENGTHS) for request in requests],
        "transition from the latest items to the target": [
            (int(vote > 0), "seen" if vote > 0 else "never seen") for vote in votes
        ],
    }


def _band(count: int, bands: Sequence[tuple[int, int | None]]) -> tuple[int, str]:
    """Place and name of the band that a count lies in."""
    place = next(place for place, (_, last) in enumerate(bands) if last is None or count <= last)
    first, last = bands[place]
    return place, f"{first} or more" if last is None else str(first) if first == last else f"{first} to {last}"


def beam_recall(searcher: Searcher, requests: Sequence[Request]) -> dict[str, dict[str, Any]]:
    """Share of the requests with a target among the generator's first hits, at each of `RECALL_CUTOFFS`, with intervals.

    Hits are counted as they are searched with as many beams as the largest depth.
    """
    deep = searcher.arm("deep", rerank=False, num_beams=max(RECALL_CUTOFFS))
    ranks = np.full(len(requests), np.inf)
    for place, (request, hits) in enumerate(zip(requests, deep.hits(requests, max(RECALL_CUTOFFS)))):
        wanted = set(request.purchased or request.clicked)
        ranks[place] = next((rank for rank, hit in enumerate(hits) if hit.item_id in wanted), np.inf)
    found = {f"recall@{depth}": (ranks < depth).astype(float) for depth in RECALL_CUTOFFS}
    return Bootstrap(1000, 0).estimates(found)


def plot_reliability(towers: dict[str, Any], path: Path) -> bool:
    """Draw the reliability curves of the towers; False without matplotlib or without any curve, and no file is written then."""
    from onesearch.extras import MissingExtraError, require

    try:
        require("plots", "matplotlib", needed_by="the reliability plot")
    except MissingExtraError as error:
        logger.warning("the report leaves the plot out: %s", error)
        return False
    if not towers.get("quality"):
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(towers["quality"]), figsize=(5 * len(towers["quality"]), 4.5), squeeze=False)
    for axis, (tower, predictors) in zip(axes[0], towers["quality"].items()):
        for name, found in predictors.items():
            curve = found["reliability"]
            axis.plot(curve["predicted"], curve["observed"], marker="o", markersize=3, label=f"{name} (ECE {found['ece']:.3f})")
        axis.axline((0, 0), slope=1, color="grey", linewidth=0.8)
        axis.set(title=tower, xlabel="mean predicted probability", ylabel="observed rate")
        axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
    return True


def report_table(report: dict[str, Any]) -> str:
    """The report as Markdown tables."""
    lines = [f"{report['requests']:,} requests of the {report['split']} split; 95 % bootstrap intervals over requests"]
    towers = report["towers"]
    lines += ["", *(f"* {note}" for note in towers["notes"])]
    if towers["quality"]:
        lines += ["", "| tower | predictor | AUC | log loss | ECE | rate |", "|---|---|---|---|---|---|"]
        for tower, predictors in towers["quality"].items():
            for name, own in predictors.items():
                area = "–" if own["auc"] is None else f"{own['auc']:.4f}"
                lines.append(f"| {tower} | {name} | {area} | {own['log_loss']:.4f} | {own['ece']:.4f} | {own['rate']:.4f} |")
    for kind, groups in report["cohorts"].items():
        metrics = ("HR@10", "MRR@10", "NDCG@10")
        lines += ["", f"| {kind} | requests | " + " | ".join(f"{m}: generator | re-ranked" for m in metrics) + " |"]
        lines.append("|---" * (2 + 2 * len(metrics)) + "|")
        for group, own in groups.items():
            cells = [_cell(own[arm][metric]) for metric in metrics for arm in ("generator", "reranked")]
            lines.append(f"| {group} | {own['requests']:,} | " + " | ".join(cells) + " |")
    recall = report["beam_recall"]
    lines += ["", "| hits of the beam | " + " | ".join(recall) + " |", "|---" * (1 + len(recall)) + "|"]
    lines.append("| share of requests with a target | " + " | ".join(map(_cell, recall.values())) + " |")
    return "\n".join(lines) + "\n"


_cell: Callable[[dict[str, float]], str] = "{0[value]:.3f} [{0[low]:.3f}, {0[high]:.3f}]".format


__all__ = ["FOLDER_NAME", "PLOT_NAME", "REPORT_NAME", "beam_recall", "cohorts", "report_reward", "report_table"]
