"""Recipes: a whole run as one short YAML file, read strictly into dataclasses."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from onesearch.files import atomic_file
from onesearch.modeling_onesearch.hits_onesearch import RANKINGS
from onesearch.tokenization_sid.embedding.configs import AlignmentConfig, TextEncoderConfig
from onesearch.tokenization_sid.quantizers.configs import QuantizerConfig
from onesearch.trainers.configs import TrainingConfig

from .mappings import build, plain

RECIPE_NAME = "recipe.yaml"
"""File of a run's recipe, in its folder."""


@dataclass(frozen=True)
class MarketConfig:
    """Where the tables come from.

    Args:
        importer: ``simulate``, ``amazon``, ``chorus``, ``kuaisearch`` or ``tables``.
        source: folder or Hub dataset id of the importer.
        options: further arguments of the importer, or fields of `SimulatorConfig`.
    """

    importer: str = "simulate"
    source: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationConfig:
    """How the finished checkpoint is measured.

    Args:
        split: of the market's sessions.
        sample: so many requests, drawn with seed 0; None for all.
        num_beams: of the search.
        exclude_history: leave items of the user's history out of what the model finds, as the cascade does by itself where training
            shows that nobody buys a thing twice.
        rank_by: ``sid``, or ``item``: what is found is ranked by the probability of its SID, or by its own; see `SidIndex.hits`.
        tune_cascade: fit the cascade's weights on the validation split first; the other baselines have nothing to fit.
    """

    split: str = "test"
    sample: int | None = None
    num_beams: int = 50
    exclude_history: bool = False
    rank_by: str = "sid"
    tune_cascade: bool = True

    def __post_init__(self):
        if self.rank_by not in RANKINGS:
            raise ValueError(f"rank_by={self.rank_by!r}: allowed are {', '.join(RANKINGS)}")


@dataclass(frozen=True)
class Recipe:
    """Everything that a run is made from.

    Args:
        name: of the run.
        alignment: of the encoder with the training sessions, before anything is embedded (see
            `onesearch.tokenization_sid.embedding.alignment`); None leaves the encoder as `encoder` says.
        codes: quantizer and sizes of the SIDs; None takes `suggest_codebook_sizes` for the catalogue. In YAML the key ``quantizer`` (rq-opq
            if it is left out) says which config the other keys belong to: rq-opq `RQOPQConfig`, rq-k-means `RQKMeansConfig`, prq-k-means
            `PRQConfig`, rq-vae `RQVAEConfig`, sim-vq `SimVQConfig`.
        keywords: fuse core keywords into the embeddings.
        dictionary: a file of further keywords; see `onesearch.tokenization_sid.keywords.keyword_files.read_dictionary`.
        fit_on: what trains the codebooks, ``items`` or ``both`` (items and queries); see `build_sids`.
        processes: processes that train together (started by torchrun). On a processor one per core beats one with many threads:
            small matrices do not share well.
    """

    name: str
    market: MarketConfig = field(default_factory=MarketConfig)
    encoder: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    alignment: AlignmentConfig | None = None
    codes: QuantizerConfig | None = None
    keywords: bool = True
    dictionary: str | None = None
    fit_on: str = "items"
    processes: int = 1
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


def recipe_names() -> list[str]:
    """Names of the recipes that ship with the package."""
    return sorted(path.name.removesuffix(".yaml") for path in _shipped().iterdir() if path.name.endswith(".yaml"))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """A shipped recipe by name, or one's own by path.

    Raises:
        FileNotFoundError: neither exists.
        ValueError: a key is unknown or a value has the wrong type.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        if str(name_or_path) not in recipe_names():
            raise FileNotFoundError(
                f"no recipe {str(name_or_path)!r}; shipped are {', '.join(recipe_names())}, or give a .yaml file"
            )
        text = (_shipped() / f"{name_or_path}.yaml").read_text(encoding="utf-8")
    else:
        text = path.read_text(encoding="utf-8")
    try:
        return build(Recipe, yaml.safe_load(text) or {}, "recipe")
    except yaml.YAMLError as error:
        raise ValueError(f"{name_or_path} is not valid YAML: {error}") from error


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as YAML that `load_recipe` reads back to an equal one."""
    with atomic_file(path) as temporary:
        temporary.write_text(yaml.safe_dump(recipe_values(recipe), sort_keys=False, allow_unicode=True), encoding="utf-8")


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """Nested plain values from which `build` makes an equal recipe: mappings, lists, texts and numbers."""
    values = asdict(recipe)
    if recipe.codes is not None:
        values["codes"] = {"quantizer": recipe.codes.quantizer, **values["codes"]}
    return plain(values)


def _shipped() -> Any:
    return resources.files("onesearch.trainers") / "recipes"
