"""Quality by the size of the catalogue: simulated markets with sessions in proportion, the same number of passes over them, one plot.

`SIZES=500,2000,8000 SCALING_FOLDER=DIR python -m pytest tests/benchmarks/test_scaling_benchmark.py -m "" -s` trains the recipes `demo`
(items of the history as vectors, soft targets) and `demo-tokens` on each market, and draws ``DIR/scaling.png``. Without `SIZES` the
smallest one runs. A run that was stopped is continued. The codebooks follow the catalogue (`suggest_codebook_sizes`), everything else stays
as it is.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from test_shops_benchmark import cpu_seconds

from onesearch.files import RunFolder, read_json, write_json
from onesearch.pipeline.recipe import Recipe, load_recipe
from onesearch.pipeline.run import run_recipe

pytestmark = pytest.mark.slow

SIZES = tuple(int(size) for size in os.environ.get("SIZES", "500").split(","))

RECIPES = {"vectors, soft targets": "demo", "tokens": "demo-tokens"}

ARMS = {
    "onesearch": "generator",
    "onesearch_reward": "+ reward model",
    "cascade": "cascade",
    "cascade_linear": "linear cascade",
    "bm25": "BM25",
}
"""Retriever → its name in the table. Baselines are those of the run with the recipe `demo`."""


def recipe_of(name: str, items: int) -> Recipe:
    """The recipe on a market of `items` items, with codebooks that follow from it."""
    recipe = load_recipe(name)
    market = replace(recipe.market, options={**recipe.market.options, "items": items})
    return replace(
        recipe, name=f"scaling-{name}-{items}", market=market, codes=None, evaluation=replace(recipe.evaluation, sample=2000)
    )


def measured(folder: Path, items: int) -> dict[str, dict[str, float]]:
    """HR@10 of purchases with its interval, by curve."""
    curves: dict[str, dict[str, float]] = {}
    for label, name in RECIPES.items():
        run = RunFolder(folder / f"{name}-{items}")
        before = cpu_seconds()
        run_recipe(recipe_of(name, items), run, resume=run.root.exists(), progress=False)
        minutes = (cpu_seconds() - before) / 60
        report = read_json(run.evaluation / "metrics.json")
        for arm, shown in ARMS.items():
            is_baseline = not arm.startswith("onesearch")
            if arm not in report["retrievers"] or (is_baseline and name != "demo"):
                continue
            curve = shown if is_baseline else f"{label}: {shown}"
            curves[curve] = {
                **report["retrievers"][arm]["targets"]["purchase"]["item"]["HR@10"],
                "cpu_minutes": round(minutes, 1),
            }
    return curves


def drawn(found: dict[int, dict[str, dict[str, float]]], path: Path) -> None:
    """One line per curve over the number of items, with intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for curve in next(iter(found.values())):
        sizes = [size for size in sorted(found) if curve in found[size]]
        values, low, high = ([found[size][curve][name] for size in sizes] for name in ("value", "low", "high"))
        errors = [[value - end for value, end in zip(values, low)], [end - value for value, end in zip(values, high)]]
        axes.errorbar(sizes, values, errors, marker="o", capsize=3, label=curve)
    axes.set(xscale="log", xlabel="items", ylabel="HR@10 of purchases, test split")
    axes.set_xticks(sorted(found), labels=[f"{size:,}" for size in sorted(found)])
    axes.minorticks_off()
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def test_scaling(tmp_path):
    folder = Path(os.environ.get("SCALING_FOLDER", tmp_path))
    found = {}
    for items in SIZES:
        found[items] = measured(folder, items)
        write_json(folder / "scaling.json", found)
        for curve, own in found[items].items():
            print(f"| {items:,} | {curve} | {own['value']:.3f} [{own['low']:.3f}, {own['high']:.3f}] | {own['cpu_minutes']} |")
    drawn(found, folder / "scaling.png")
    assert (folder / "scaling.png").stat().st_size > 0
