"""Studies: variants of one recipe, each with several seeds, in one table with intervals. This is how ablations are measured.

```yaml
name: history
base: demo                    # a shipped recipe, or a .yaml file
seeds: [0, 1, 2]
reference: no history
variants:                     # dotted keys of the recipe
  no history: {training.prompt.items: 0}
  short: {training.prompt.items: 5}
```

Every cell (one variant with one seed) is an ordinary run in ``RUNS/<variant>/seed-<n>``. Parts that do not depend on the varied fields
(the market, the embeddings) are linked from the first run that made them. A stopped study continues where it was. A study that is started
several times on the same folder shares its cells among the processes; on a processor, start it once per core with cells of one process.
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from .mappings import build
from .recipe import Recipe, check_folder_name, load_recipe, recipe_values

SEEDED = (
    "encoder.seed",
    "alignment.seed",
    "codes.seed",
    "training.arguments.seed",
    "training.soft_targets.seed",
    "training.soft_targets.reward.seed",
    "dense.seed",
    "reward.seed",
    "preference.arguments.seed",
)
"""Fields that a seed of the study sets, beside the seed of each preference stage. The market keeps its own seed, so all cells are measured
on the same requests."""

MEASURED = ("search", "encoder")
"""What a study can measure of each cell."""


@dataclass(frozen=True)
class Study:
    """Variants of a recipe and the metrics that they are compared by.

    Args:
        name: name of the study.
        base: recipe that every variant changes: a name or a ``.yaml`` file.
        common: changes of all variants, {dotted key of the recipe: value}.
        variants: name of the variant → its changes, {dotted key of the recipe: value}.
        cumulative: each variant also has the changes of the variants before it.
        seeds: seeds of everything that is trained (`SEEDED`), one cell per variant and seed. More seeds take more time and narrow the
            intervals.
        reference: variant that the others are compared with, request by request; default: the first.
        metrics: metrics of `onesearch.pipeline.study_metrics`: ``HR@10`` and others of purchases, ``click HR@10``, ``judged NDCG@10``,
            ``expected purchases@10``.
        measured: ``search`` trains the model of every cell and measures its search; ``encoder`` stops at the SIDs and measures the
            encoder alone by ``recall@K`` of purchases in the whole catalogue, in minutes instead of hours.
        diagnostics: dotted keys of ``sids/diagnostics.json`` that the table shows beside the metrics.
        baselines: every cell also measures the baselines of the recipe's evaluation, which take more time; the table compares the order
            that is served with each of them, over all seeds.

    Raises:
        ValueError: the name is no name of a folder, there is no variant or no seed, a seed is negative, the reference is unknown, two
            variants have the same folder, the metrics are none of what is measured, or an encoder is measured with baselines.
    """

    name: str
    base: str = "default"
    common: dict[str, Any] = field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    cumulative: bool = False
    seeds: tuple[int, ...] = (0, 1, 2)
    reference: str | None = None
    metrics: tuple[str, ...] = ("HR@10", "MRR@10")
    measured: str = "search"
    diagnostics: tuple[str, ...] = ("items.icr_items", "items.largest_bucket")
    baselines: bool = False

    def __post_init__(self) -> None:
        check_folder_name(self.name)
        object.__setattr__(self, "seeds", tuple(self.seeds))
        if min(self.seeds, default=0) < 0:
            raise ValueError(f"study {self.name!r}: seeds {list(self.seeds)} must be at least 0")
        if self.measured not in MEASURED:
            raise ValueError(f"study {self.name!r}: measured={self.measured!r} is unknown; allowed are {', '.join(MEASURED)}")
        wrong = [name for name in self.metrics if self.measured == "encoder" and not re.fullmatch(r"recall@[1-9]\d*", name)]
        if wrong:
            raise ValueError(f"study {self.name!r}: {wrong} are no metrics of an encoder; give recall@10 or another cut-off")
        if self.measured == "encoder" and self.baselines:
            raise ValueError(
                f"study {self.name!r}: measured='encoder' has no baselines; leave `baselines` out or measure the search"
            )
        if not self.variants or not self.seeds:
            raise ValueError(f"study {self.name!r} needs at least one variant and one seed")
        if self.reference is not None and self.reference not in self.variants:
            raise ValueError(f"reference {self.reference!r} is no variant; the variants are {', '.join(self.variants)}")
        folders = [folder_name(name) for name in self.variants]
        if len(set(folders)) < len(folders):
            raise ValueError(f"the variants {list(self.variants)} have the folders {folders}, which must differ; rename one")


def load_study(path: str | Path) -> Study:
    """Read a study from a YAML file; ValueError names an unknown key."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    return build(Study, values or {}, "study")


def folder_name(variant: str) -> str:
    """Name of a variant's folder: the letters and digits of its name, joined by hyphens."""
    return re.sub(r"[^\w]+", "-", variant).strip("-").lower() or "variant"


def recipe_of(study: Study, variant: str, seed: int, source: str | None = None) -> Recipe:
    """The recipe of one cell.

    Raises:
        ValueError: a dotted key is no field of the recipe, or a value does not fit.
    """
    base = load_recipe(study.base)
    if source is not None:
        base = replace(base, market=replace(base.market, source=source))
    values = recipe_values(base)
    names = list(study.variants)
    counted = names[: names.index(variant)] if study.cumulative else []
    changes = dict(study.common)
    for name in (*counted, variant):
        changes |= study.variants[name]
    for key, value in changes.items():
        _set(values, key, deepcopy(value), variant)  # the next keys may change it, and the study's own value stays as it is
    values = recipe_values(build(Recipe, values, f"variant {variant!r}"))  # a part that a variant gives in part is whole now
    for key in SEEDED:
        if key not in changes:
            _set(values, key, seed, variant)
    for stage in (values["preference"] or {}).get("stages", ()):  # the arguments that stages share do not reach those of `grpo`
        stage["arguments"].setdefault("seed", seed)
    values["name"] = f"{study.name}-{folder_name(variant)}-{seed}"
    return build(Recipe, values, f"variant {variant!r}")


def _set(values: dict[str, Any], key: str, value: Any, variant: str) -> None:
    """Set the value at a dotted key, unless it lies in a part that the recipe leaves to its defaults (None)."""
    *path, last = key.split(".")
    place: Any = values
    for name in path:
        if not isinstance(place, dict) or name not in place:
            raise ValueError(
                f"variant {variant!r}: {key!r} is no field of the recipe; in place of {name!r} allowed are {', '.join(place)}"
            )
        if place[name] is None:
            return
        place = place[name]
    place[last] = value


__all__ = ["SEEDED", "Study", "folder_name", "load_study", "recipe_of"]
