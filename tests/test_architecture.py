"""The shape of the package: which package may import which, which files travel to the Hub, and how long a file may be."""

from __future__ import annotations

import ast
import sys

import pytest
from draw_architecture import PAGES, ROOT, SOURCES, TOP_LEVEL, TREES, absolute, generated, imports, label, name_of

import onesearch

FLOW = (
    "onesearch.extras",
    "onesearch.files",
    "onesearch.parquet_files",
    "onesearch.uninitialised",
    "onesearch.signed_text",
    "onesearch.sequences",
    "onesearch.devices",
    "onesearch.data",
    "onesearch.simulator",
    "onesearch.evaluation",
    "onesearch.tokenization_sid",
    "onesearch.modeling_onesearch",
    "onesearch.views",
    "onesearch.serving",
    "onesearch.trainers",
    "onesearch.model_cards",
    "onesearch.pipeline",
    "onesearch.commands",
    "onesearch.cli",
)
"""Every package, in the direction in which data flows: a module imports only from its own package and from those above it."""

FRONT_DOOR = ("onesearch", "onesearch.registration")
"""The public names and the Auto classes: they refer to every package, and import it when a name is used."""

INNER_FLOW = {
    "onesearch.data": ("", "importers", "exports"),
    "onesearch.serving": ("", "http", "fleet"),
    "onesearch.tokenization_sid": ("", "parallel", "embedding", "keywords", "quantizers", "sids"),
    "onesearch.trainers": ("", "sft", "dense", "distillation", "reward", "preference", "dpo", "grpo", "soft", "unisearch"),
}
"""Folders within a package: one imports only those before it, and the package's own modules; these import any of them."""

TRAVELLING = [
    *(
        ROOT / "tokenization_sid" / name
        for name in ("tokenization_sid.py", "bpe.py", "prompts.py", "templates.py", "ragged.py", "user_ids.py")
    ),
    *(ROOT / "modeling_onesearch").glob("*_onesearch.py"),
    *(ROOT / "modeling_onesearch").glob("*_unisearch.py"),
]
"""Files that are copied beside a published checkpoint."""

FOREIGN = {"torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "numpy"}
OPTIONAL = {"numba"}
"""Imported within `try`, which transformers' loader of remote code leaves alone."""

MEDIAN_LINES, MOST_LINES, LONGEST_FILE = 150, 300, 500
"""Lines of the median file, of nine files in ten, and of any file at most."""


def package_of(module: str) -> str | None:
    """The entry of `FLOW` that a module belongs to; None for other libraries and for the front door."""
    return next((package for package in FLOW if f"{module}.".startswith(f"{package}.")), None)


def test_the_flow_names_every_package():
    unknown = [label(path) for path in SOURCES if package_of(name_of(path)) is None and name_of(path) not in FRONT_DOOR]
    assert not unknown


def test_data_flows_one_way():
    against = []
    for path in SOURCES:
        own = package_of(name_of(path))
        for line, module in imports(path):
            other = package_of(module)
            if own and other and FLOW.index(other) > FLOW.index(own):
                against.append(f"{label(path)}:{line} imports {module}")
    assert not against


def test_data_flows_one_way_within_a_package():
    against = []
    for path in SOURCES:
        own = name_of(path)
        package = package_of(own)
        for line, module in imports(path):
            if package not in INNER_FLOW or package_of(module) != package:
                continue
            folders = INNER_FLOW[package]
            own_place, place = (folders.index(inner_folder(name, package)) for name in (own, module))
            if own_place and place > own_place:
                against.append(f"{label(path)}:{line} imports {module}")
    assert not against


def inner_folder(module: str, package: str) -> str:
    """Folder of a module within its package, "" for a module of the package itself."""
    parts = module.removeprefix(package).strip(".").split(".")
    return parts[0] if parts[0] in INNER_FLOW[package] else ""


def test_packages_at_the_top_level_are_named_in_full():
    """`import trainers` works in a checkout and nowhere else."""
    bare = [f"{label(path)}:{line}" for path in SOURCES for line, module in imports(path) if module.split(".")[0] in TOP_LEVEL]
    assert not bare


def test_travelling_files_run_alone():
    problems = []
    for path in TRAVELLING:
        here = {other.stem for other in TRAVELLING if other.parent == path.parent}
        tried = [node for block in ast.walk(TREES[path]) if isinstance(block, ast.Try) for node in block.body]
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.ImportFrom) and node.level:
                is_alone = node.level == 1 and node.module in here and all(alias.name != "*" for alias in node.names)
            elif isinstance(node, ast.Import | ast.ImportFrom):
                allowed = FOREIGN | sys.stdlib_module_names | (OPTIONAL if node in tried else set())
                is_alone = {module.split(".")[0] for module in absolute(node, path)} <= allowed
            else:
                continue
            if not is_alone:
                problems.append(f"{label(path)}:{node.lineno}")
    assert not problems


def test_files_stay_short():
    lengths = {label(path): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}
    ordered = sorted(lengths.values())
    assert ordered[len(ordered) // 2] <= MEDIAN_LINES
    assert ordered[len(ordered) * 9 // 10] <= MOST_LINES


def test_the_generated_parts_of_the_pages_are_current():
    stale = [label(page) for page in PAGES if generated(page) != page.read_text(encoding="utf-8")]
    assert not stale, "`python docs/draw_architecture.py` (or `make docs`) writes them"


def test_the_public_names_resolve():
    assert len(onesearch.__all__) == len(set(onesearch.__all__)) > 10
    for name in onesearch.__all__:
        assert getattr(onesearch, name) is not None
    assert set(dir(onesearch)) >= set(onesearch.__all__)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        onesearch.nothing_like_it  # noqa: B018


def test_type_checkers_see_the_same_names():
    init = ROOT / "onesearch" / "__init__.py"
    (block,) = [node for node in TREES[init].body if isinstance(node, ast.If)]
    typed = {alias.asname or alias.name for node in block.body for alias in node.names}
    assert typed | {"__version__"} == set(onesearch.__all__)
    assert (ROOT / "onesearch" / "py.typed").is_file()
