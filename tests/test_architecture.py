"""The shape of the package: who may import whom, what travels, what is documented."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import onesearch
from onesearch.recipe import build, load_recipe, recipe_names

ROOT = Path(__file__).parent.parent
ROOMS = ("onesearch.data", "onesearch.evaluation", "tokenization_sid", "modeling_onesearch", "trainers", "model_cards")
"""From the top of the data flow down; a room imports only rooms above it."""

TRAVELLING = [
    *(ROOT / "tokenization_sid" / name for name in ("tokenization_sid.py", "prompts.py", "ragged.py", "user_ids.py")),
    *(ROOT / "modeling_onesearch").glob("*_onesearch.py"),
]
FOREIGN = {"torch", "transformers", "tokenizers", "safetensors", "huggingface_hub", "numpy"}
OPTIONAL = {"numba"}
"""Imported within `try`, which transformers' loader of remote code leaves alone."""
KNOWS_EVERY_ROOM = ("onesearch/road.py", "onesearch/recipe.py", "onesearch/study.py")


def name_of(path: Path) -> str:
    """Full module name: the rooms at the top level are sub-packages of `onesearch`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "onesearch" else ("onesearch", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = sorted(
    path for room in ("onesearch", *ROOMS[2:]) for path in (ROOT / room).rglob("*.py") if "__pycache__" not in path.parts
)
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def absolute(node: ast.Import | ast.ImportFrom, path: Path) -> list[str]:
    """Modules that an import statement names, in full."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not node.level:
        return [node.module]
    package = name_of(path).split(".")
    package = package if path.name == "__init__.py" else package[:-1]
    base = package[: len(package) - node.level + 1]
    return [".".join([*base, *([node.module] if node.module else [])])]


def imports(path: Path, lazy: bool) -> set[str]:
    """Modules imported by a file; without `lazy` those of the module's own level, TYPE_CHECKING left out."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                found.update(absolute(child, path))
            elif not lazy and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            elif not lazy and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                for other in child.orelse:
                    visit(other)
            else:
                visit(child)

    visit(TREES[path])
    return found


def room_of(module: str) -> int | None:
    """Place of a module's room in the data flow; None for the front door and for foreign modules."""
    parts = module.split(".")
    if parts[0] != "onesearch" or len(parts) < 2:
        return None
    for place, room in enumerate(ROOMS):
        if parts[1] == room.split(".")[-1]:
            return place
    return None


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_no_room_imports_one_below_it(path):
    own = room_of(name_of(path))
    if own is None:
        pytest.skip("front door")
    below = {module for module in imports(path, lazy=True) if (room_of(module) or 0) > own}
    assert not below


FRONT_DOOR = [path for path in SOURCES if room_of(name_of(path)) is None]


@pytest.mark.parametrize("path", FRONT_DOOR, ids=label)
def test_the_front_door_opens_rooms_only_when_asked(path):
    if label(path) in KNOWS_EVERY_ROOM:
        pytest.skip("knows every room")
    eager = {module for module in imports(path, lazy=False) if (room_of(module) or 0) > ROOMS.index("onesearch.evaluation")}
    assert not eager


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_the_package_names_its_rooms_in_full(path):
    """`import trainers` works in a checkout and nowhere else."""
    bare = {module for module in imports(path, lazy=True) if module.split(".")[0] in ROOMS}
    assert not bare


@pytest.mark.parametrize("path", TRAVELLING, ids=label)
def test_travelling_files_run_alone(path):
    here = {other.stem for other in TRAVELLING if other.parent == path.parent}
    tried = [node for block in ast.walk(TREES[path]) if isinstance(block, ast.Try) for node in block.body]
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            roots = {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1 and node.module in here, f"line {node.lineno}: only `from .name import symbol`"
            assert all(alias.name != "*" for alias in node.names)
            continue
        elif isinstance(node, ast.ImportFrom):
            roots = {node.module.split(".")[0]}
        else:
            continue
        optional = OPTIONAL if node in tried else set()
        assert roots <= FOREIGN | sys.stdlib_module_names | optional, f"line {node.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_everything_public_is_documented(path):
    tree = TREES[path]
    missing = [] if ast.get_docstring(tree) else ["the module"]

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or child.name.startswith("_"):
                continue
            if not ast.get_docstring(child) and not documented_elsewhere(child, node):
                missing.append(prefix + child.name)
            if isinstance(child, ast.ClassDef):
                visit(child, f"{prefix}{child.name}.")

    visit(tree, "")
    assert not missing


def documented_elsewhere(node: ast.AST, parent: ast.AST) -> bool:
    """A setter has its property's text, an inherited method its parent's."""
    setter = any(isinstance(decorator, ast.Attribute) and decorator.attr == "setter" for decorator in node.decorator_list)
    return setter or isinstance(parent, ast.ClassDef) and node.name in INHERITED


INHERITED = {"find_spec", "create_module", "exec_module", "forward"}


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_files_stay_short(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 600


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


# Recipes


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_are_short_and_load_strictly(name, tmp_path):
    path = ROOT / "trainers" / "recipes" / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 25
    recipe = load_recipe(name)
    assert recipe.name == name == load_recipe(path).name
    from onesearch.trainers.sft_config import SidSFTConfig

    SidSFTConfig(**{"output_dir": str(tmp_path), **recipe.training.arguments})
    other = tmp_path / "other.yaml"
    other.write_text(f"{text}\nlearning_rates: 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="unknown key 'learning_rates'.*training"):
        load_recipe(other)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": "x", "training": {"model": {"d_modell": 8}}}, "recipe.training.model: unknown key 'd_modell'.*d_model"),
        ({"name": "x", "market": ["simulate"]}, "recipe.market must be a mapping"),
        ({"market": {}}, "recipe: .*name"),
        ({"name": "x", "codes": {"levels": [4, 0]}}, r"levels=\(4, 0\)"),
        (
            {"name": "x", "codes": {"quantizer": "vq"}},
            "recipe.codes.quantizer: 'vq' is unknown; allowed are rq-opq, rq-k-means",
        ),
        ({"name": "x", "codes": {"quantizer": ["rq-opq"]}}, "recipe.codes.quantizer: .* is unknown"),
        ({"name": "x", "codes": {"top_k": 3}}, r"recipe.codes \(rq-opq\): unknown key 'top_k'; allowed are levels, opq"),
        ({"name": "x", "codes": {"quantizer": "sim-vq", "opq": [2, 4]}}, r"recipe.codes \(sim-vq\): unknown key 'opq'"),
        ({"name": "x", "codes": {"quantizer": "rq-vae", "levels": 5}}, r"recipe.codes \(rq-vae\): 'int' object"),
        ({"name": "x", "codes": ["rq-opq"]}, "recipe.codes must be a mapping"),
        ({"name": "x", "evaluation": {"rank_by": "share"}}, "rank_by='share': allowed are sid, item"),
    ],
)
def test_a_recipe_that_does_not_fit_says_where(values, words):
    from onesearch.recipe import Recipe

    with pytest.raises(ValueError, match=words):
        build(Recipe, values, "recipe")


def test_a_recipe_survives_its_file(recipe, tmp_path):
    from onesearch.recipe import save_recipe

    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize(
    ("codes", "kind"),
    [
        ({"levels": [4, 2]}, "rq-opq"),  # as before there was a choice
        ({"quantizer": "rq-opq", "levels": [4, 2], "opq": [1, 2]}, "rq-opq"),
        ({"quantizer": "rq-k-means", "levels": [4, 2]}, "rq-k-means"),
        ({"quantizer": "prq-k-means", "top_k": 2}, "prq-k-means"),
        ({"quantizer": "rq-vae", "hidden": [8], "steps": 3}, "rq-vae"),
        ({"quantizer": "sim-vq", "hidden": []}, "sim-vq"),
    ],
)
def test_a_recipe_chooses_its_quantizer(codes, kind, tmp_path):
    from onesearch.recipe import Recipe, save_recipe
    from onesearch.tokenization_sid.quantizers.loading import QUANTIZERS

    recipe = build(Recipe, {"name": "x", "codes": codes}, "recipe")
    assert type(recipe.codes) is QUANTIZERS[kind].config_class and recipe.codes.quantizer == kind
    save_recipe(recipe, tmp_path / "recipe.yaml")
    again = load_recipe(tmp_path / "recipe.yaml")
    assert again == recipe and type(again.codes) is type(recipe.codes)


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(FileNotFoundError, match="'demoo'.*demo"):
        load_recipe("demoo")
