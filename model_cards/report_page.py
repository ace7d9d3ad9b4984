"""One HTML file with everything that a run has measured: pictures are inside it, and it loads nothing."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from onesearch.data.market import Market
from onesearch.evaluation.reports import METRICS_NAME, Report, load_report
from onesearch.extras import require
from onesearch.files import RunFolder, atomic_file, read_json
from onesearch.tokenization_sid.sids.diagnostics import DIAGNOSTICS_NAME
from onesearch.tokenization_sid.sids.plots import PAGE_NAMES

from .calibration import calibration
from .report_figures import draw_arms, draw_calibration, draw_training

TEMPLATE = Path(__file__).with_name("report_template.html")
REPORT_NAME = "report.html"
"""File of the page, in the folder of the run."""

PICTURES = {".png": "image/png", ".svg": "image/svg+xml", ".webp": "image/webp"}
"""Endings of the pictures that are taken into the page."""


def write_report(run: RunFolder, path: Path | None = None) -> Path:
    """Write the page of a run from what its stages have left; a part that is not there is left out.

    Args:
        run: run folder with a market.
        path: file to write; default: ``report.html`` in the run.

    Returns:
        Path of the page.

    Raises:
        MissingExtraError: the extra ``plots`` is not installed.
        FileNotFoundError: the run has no market.
    """
    require("plots", needed_by="onesearch report")
    market = Market.load(run.require("market", "onesearch data"))
    report = load_report(run.evaluation) if (run.evaluation / METRICS_NAME).is_file() else None
    name = run.root.resolve().name
    parts = [_facts(run, market, report), _results(run, report), _training(run), _codes(run), _scaling(run), _recipe(run)]
    text = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        name=escape(name), market=escape(str(market.info.get("name", ""))), body="\n".join(part for part in parts if part)
    )
    path = path or run.root / REPORT_NAME
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _facts(run: RunFolder, market: Market, report: Report | None) -> str:
    """Numbers in a row: sizes, and the best result of the checkpoint."""
    facts = {"items": f"{len(market.items):,}", "sessions": f"{len(market.sessions):,}"}
    weights = run.checkpoint / "model.safetensors"
    if weights.is_file():
        facts["parameters"] = f"{_parameters(weights):,}"
    if report is not None and report.retrievers:
        arm = report.reference or next(iter(report.retrievers))
        found = report.retrievers[arm]["targets"].get("purchase", {}).get("item", {})
        metric = next((metric for metric in ("HR@10", *found) if metric in found), None)
        if metric:
            facts[f"{metric}, {arm}"] = f"{found[metric]['value']:.3f}"
    cells = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in facts.items())
    return f'<div class="facts">{cells}</div>'


def _parameters(weights: Path) -> int:
    """Number of parameters in a file of weights; tensors are not read."""
    from math import prod

    from safetensors import safe_open

    with safe_open(weights, framework="numpy") as file:
        return sum(prod(file.get_slice(name).get_shape()) for name in file.keys())


def _results(run: RunFolder, report: Report | None) -> str:
    """The arms and baselines with intervals, the whole table, and the calibration of the generator."""
    if report is None:
        return ""
    text = _section(
        "Arms and baselines", _svg(draw_arms(report)), "HR@10 with 95 % intervals; the checkpoint's arms are filled."
    )
    tables = "".join(_table(block) for block in report.to_table().split("\n\n"))
    text += f"<details><summary>All metrics</summary>{tables}</details>"
    bins = calibration(run.evaluation, report)
    if bins:
        note = (
            "Hits of the generator alone, in ten groups of equal size by the probability that it gave them: the share that was bought "
            "in the request. On the line the probabilities are right; the bars are 95 % intervals."
        )
        text += _section("Calibration", _svg(draw_calibration(bins)), note)
    return text


def _training(run: RunFolder) -> str:
    path = run.training / "log.json"
    figure = draw_training(read_json(path)) if path.is_file() else ""
    return (
        _section("Training", _svg(figure), "Loss of training and validation, and the quality on validation requests.")
        if figure
        else ""
    )


def _codes(run: RunFolder) -> str:
    """The page of the diagnostics, and what each prefix of codes tells."""
    page = next((run.sids / name for name in PAGE_NAMES if (run.sids / name).is_file()), None)
    text = (
        ""
        if page is None
        else _section("Semantic IDs", _picture(page), "Use of the codes, bucket sizes, map, largest branches.")
    )
    path = run.sids / DIAGNOSTICS_NAME
    told: dict[str, Any] = read_json(path).get("told") or {} if path.is_file() else {}
    if told:
        levels = len(next(iter(told.values()))["told"])
        head = ["told by the codes 1 to", *map(str, range(1, levels + 1))]
        rows = [[name, *(f"{100 * share:.0f} %" for share in row["told"])] for name, row in told.items()]
        text += f"<details><summary>What the codes tell</summary>{_html_table(head, rows)}</details>"
    return text


def _scaling(run: RunFolder) -> str:
    """Pictures in the folder ``scaling/`` of the run."""
    pictures = sorted(path for path in (run.root / "scaling").glob("*") if path.suffix in PICTURES)
    return _section("Scaling", "".join(map(_picture, pictures)), "") if pictures else ""


def _recipe(run: RunFolder) -> str:
    path = run.root / "recipe.yaml"
    if not path.is_file():
        return ""
    return f"<details><summary>Recipe</summary><pre>{escape(path.read_text(encoding='utf-8'))}</pre></details>"


def _section(title: str, content: str, note: str) -> str:
    return f"<section><h2>{escape(title)}</h2><p>{escape(note)}</p>{content}</section>"


def _svg(figure: str) -> str:
    """A drawing of this package as a picture."""
    code = base64.b64encode(figure.encode("utf-8")).decode("ascii")
    return f'<img alt="" src="data:image/svg+xml;base64,{code}">'


def _picture(path: Path) -> str:
    code = base64.b64encode(path.read_bytes()).decode("ascii")
    return f'<img alt="{escape(path.stem)}" src="data:{PICTURES[path.suffix]};base64,{code}">'


def _table(block: str) -> str:
    """A Markdown block of a report as HTML: a table, or a paragraph."""
    lines = block.strip().splitlines()
    if not lines or not lines[0].startswith("|"):
        return f"<p>{escape(block.strip().strip('*'))}</p>" if block.strip() else ""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return _html_table(rows[0], rows[2:])


def _html_table(head: list[str], rows: list[list[str]]) -> str:
    heads = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


__all__ = ["REPORT_NAME", "write_report"]
