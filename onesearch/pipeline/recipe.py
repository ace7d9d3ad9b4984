"""Recipes: all settings of a run in one short YAML file, read strictly into dataclasses. Reading one imports no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from onesearch.data.splits import SplitConfig
from onesearch.evaluation.cutoffs import check_beams, check_cutoffs
from onesearch.files import RunFolder, atomic_file
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.tokenization_sid.embedding.configs import AlignmentConfig, TextEncoderConfig
from onesearch.tokenization_sid.keywords.configs import KeywordConfig
from onesearch.tokenization_sid.quantizers.configs import QuantizerConfig
from onesearch.trainers.configs import FOLDER_NAME, TrainingConfig
from onesearch.trainers.dense.dense_config import DenseConfig
from onesearch.trainers.dpo.preference_config import PreferenceConfig
from onesearch.trainers.reward.reward_config import RewardConfig

from .mappings import build, plain
from .market_options import IMPORTERS, SIMULATION

RECIPE_NAME = "recipe.yaml"
"""File of a run's recipe, in the folder of the run."""

SUPERVISED = "supervised"
"""Name of the report of a checkpoint before its first preference stage, in ``evaluation/``."""

SPLITS = ("validation", "test")
"""Splits that can be measured."""

FIT_ON = ("items", "both")
"""Vectors that can train the codebooks."""


@dataclass(frozen=True)
class MarketConfig:
    """Source of the market's tables.

    Args:
        importer: ``simulate``, ``amazon``, ``chorus``, ``export`` (files of a shop), ``kuaisearch`` or ``tables``.
        source: folder or Hub dataset id that the importer reads.
        options: further arguments of the importer, or fields of `SimulatorConfig`.
        split: how the sessions are split; None leaves it to the importer or the simulation.

    Raises:
        ValueError: the importer is unknown. Options are compared with those of the importer when a run starts; see `check_options`.
    """

    importer: str = "simulate"
    source: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    split: SplitConfig | None = None

    def __post_init__(self) -> None:
        if self.importer not in (SIMULATION, *IMPORTERS):
            raise ValueError(f"importer {self.importer!r} is unknown; allowed are {SIMULATION}, {', '.join(IMPORTERS)}")


@dataclass(frozen=True)
class EvaluationConfig:
    """Requests on which the finished checkpoint is measured. The search settings are those of the checkpoint.

    Args:
        split: split of the market's sessions, ``validation`` or ``test``.
        sample: number of requests to draw (seed 0). A larger sample takes more time and narrows the intervals; None measures all.
        tune_cascade: fit the weights of the linear cascade on the validation split first, and train the boosted cascade there. Without it
            the linear cascade keeps its default weights, and the boosted one is left out. No other baseline is fitted on that split.
        sasrec: train and measure SASRec, whose score the boosted cascade then reads; it takes seconds on the demo's market and minutes of
            one core on Amazon Beauty.
        relevant_grade: lowest grade of a judgement, 1 to 3, from which an item counts as relevant in the recall on judged queries. Use 1
            for judgements with the grades 0 and 1.
        cutoffs: cut-offs k of HR, Recall, MRR and NDCG, whole numbers from 1 to 350. None takes 5, 10 and 50, and leaves those above the
            beams of the search out; one that is asked for and needs more beams is refused.

    Raises:
        ValueError: the split is unknown, the sample is below 1, the grade is not 1, 2 or 3, or a cut-off is out of range.
    """

    split: str = "test"
    sample: int | None = None
    tune_cascade: bool = True
    sasrec: bool = True
    relevant_grade: int = 2
    cutoffs: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split={self.split!r}: allowed are {', '.join(SPLITS)}")
        if self.sample is not None and self.sample < 1:
            raise ValueError(f"sample={self.sample} must be at least 1; leave it out to measure all requests")
        if self.relevant_grade not in (1, 2, 3):
            raise ValueError(f"relevant_grade={self.relevant_grade} is no grade that can be relevant; allowed are 1, 2 and 3")
        if self.cutoffs is not None:
            check_cutoffs(self.cutoffs)


@dataclass(frozen=True)
class Recipe:
    """All settings of a run.

    Args:
        name: name of the run, and of its folder in ``runs/`` unless another is given.
        market: source of the tables.
        encoder: text encoder of items and queries.
        alignment: training of the encoder on the training sessions, before the embeddings are made (see
            `onesearch.tokenization_sid.embedding.alignment`); None leaves the encoder as it is.
        codes: quantizer and codebook sizes; None takes `suggest_codebook_sizes` for the catalogue. In YAML the key ``quantizer``
            (default rq-opq) names the config that the other keys belong to; see `QUANTIZER_CONFIGS`.
        keywords: core keywords and their fusion into the embeddings. In YAML, true stands for the defaults, and false for no keywords.
        dictionary: file of additional keywords; see `onesearch.tokenization_sid.keywords.keyword_files.read_dictionary`.
        fit_on: vectors that train the codebooks: ``items``, or ``both`` (items and queries); see `build_sids`.
        processes: number of processes that train together, started by torchrun. On a processor, one process per core is faster than one
            process with a thread per core: the matrices are small. On GPUs each process takes one; with fewer GPUs than processes, one
            process takes the whole batch.
        training: prompts, stages and model.
        dense: dense term in the order of the hits (see `onesearch.trainers.dense`); None leaves it out.
        reward: reward model that ranks the hits of the finished checkpoint (see `onesearch.trainers.reward`); None trains none.
        preference: stages that train the generator on preferences after the reward model (see `onesearch.trainers.dpo`); None trains
            none.
        search: search settings, which the checkpoint is saved with and measured with.
        evaluation: requests that are measured.

    Raises:
        ValueError: the name is no name of a folder, `fit_on` is unknown, `processes` is below 1, a dictionary is given without keywords, a
            text index is searched that nothing ranks by, a dense index is searched that the recipe does not make, preferences are trained
            without a reward model, a preference stage has the name of another part of a run, or a cut-off of the evaluation is above the
            beams of the search.
    """

    name: str
    market: MarketConfig = field(default_factory=MarketConfig)
    encoder: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    alignment: AlignmentConfig | None = None
    codes: QuantizerConfig | None = None
    keywords: KeywordConfig | None = field(default_factory=KeywordConfig)
    dictionary: str | None = None
    fit_on: str = "items"
    processes: int = 1
    training: TrainingConfig = field(default_factory=TrainingConfig)
    dense: DenseConfig | None = None
    reward: RewardConfig | None = None
    preference: PreferenceConfig | None = None
    search: SearchConfig = field(default_factory=SearchConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        check_folder_name(self.name)
        if self.fit_on not in FIT_ON:
            raise ValueError(f"fit_on={self.fit_on!r}: allowed are {', '.join(FIT_ON)}")
        if self.processes < 1:
            raise ValueError(f"processes={self.processes} must be at least 1")
        if self.dictionary is not None and self.keywords is None:
            raise ValueError(f"dictionary={self.dictionary!r} needs keywords: true; without keywords it would be ignored")
        has_text_index = self.search.text_weight > 0 or (self.reward is not None and self.reward.text_index)
        if self.search.with_text and not has_text_index:
            raise ValueError(
                f"search.candidates={self.search.candidates!r} needs a reward model with a text index, or a search.text_weight; add "
                "`reward: {}`, or set search.candidates to beam"
            )
        if (self.search.with_dense or self.search.dense_weight) and self.dense is None:
            raise ValueError(
                "search.candidates and search.dense_weight ask for a dense index, which the recipe does not make; add `dense: {}`"
            )
        if self.preference is not None:
            self._check_preference(self.preference)
        check_beams(self.evaluation.cutoffs or (), self.search.num_beams)

    def _check_preference(self, preference: PreferenceConfig) -> None:
        if self.reward is None:
            raise ValueError("preference: the stages need a reward model, which ranks the generator's beams; add `reward: {}`")
        folders = [f"{number}-{stage.name}" for number, stage in enumerate(self.training.stages, 1)]
        taken = [stage.name for stage in preference.stages if stage.name in (*folders, "examples", "soft-targets", SUPERVISED)]
        if taken:
            raise ValueError(f"preference stage {taken[0]!r}: the name belongs to another part of a run; choose another one")


def check_folder_name(name: str) -> None:
    """Refuse a name that is not one segment of a path, such as ``../x``: folders in ``runs/`` are named after recipes and studies.

    Raises:
        ValueError: the name holds anything but letters, digits, ``-``, ``_`` and ``.``, or does not begin with a letter or digit.
    """
    if not FOLDER_NAME.fullmatch(name):
        raise ValueError(
            f"name={name!r} is no name of a folder; use letters, digits, '-', '_' and '.', and begin with a letter or digit"
        )


def recipe_names() -> list[str]:
    """Names of the recipes that the package ships."""
    return sorted(path.name.removesuffix(".yaml") for path in _shipped().iterdir() if path.name.endswith(".yaml"))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Load a shipped recipe by name, or any recipe by path.

    Raises:
        FileNotFoundError: no recipe has this name or path.
        ValueError: a key is unknown, or a value has the wrong type or is not allowed; the message names the key, the value and what is
            allowed.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        text = path.read_text(encoding="utf-8")
    elif str(name_or_path) in recipe_names():
        text = (_shipped() / f"{name_or_path}.yaml").read_text(encoding="utf-8")
    else:
        raise FileNotFoundError(
            f"no recipe {str(name_or_path)!r}; shipped are {', '.join(recipe_names())}, or give a .yaml file"
        )
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{name_or_path} is not valid YAML: {error}") from error
    return build(Recipe, values or {}, "recipe")


def run_recipe_of(run: RunFolder, named: str | None = None) -> Recipe | None:
    """The recipe that is named, else that which a run was made from; None for a run without one, whose steps were called one by one."""
    if named is not None:
        return load_recipe(named)
    path = run.root / RECIPE_NAME
    return load_recipe(path) if path.is_file() else None


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as YAML that `load_recipe` reads back to an equal one."""
    with atomic_file(path) as temporary:
        temporary.write_text(yaml.safe_dump(recipe_values(recipe), sort_keys=False, allow_unicode=True), encoding="utf-8")


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """Nested plain values from which `build` makes an equal recipe: mappings, lists, texts and numbers."""
    values = asdict(recipe)
    if recipe.codes is not None:
        values["codes"] = {"quantizer": recipe.codes.quantizer, **values["codes"]}
    return {name: plain(value) for name, value in values.items()}


def _shipped() -> Traversable:
    return resources.files("onesearch.trainers") / "recipes"


__all__ = [
    "RECIPE_NAME",
    "SUPERVISED",
    "EvaluationConfig",
    "MarketConfig",
    "Recipe",
    "check_folder_name",
    "load_recipe",
    "recipe_names",
    "recipe_values",
    "run_recipe_of",
    "save_recipe",
]
