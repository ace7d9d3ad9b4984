"""Packaging: the folders at the top level install as ``onesearch.*``, so that nothing called ``trainers`` lands in a user's environment.

``onesearch/`` holds a link to each of them. Through the links an editable install is one plain folder, which type checkers and editors
find. A checkout without links (Git on Windows, unless ``core.symlinks`` is on) installs the same packages from the folders themselves.
"""

from pathlib import Path

from setuptools import find_packages, setup

TOP_LEVEL = ("tokenization_sid", "modeling_onesearch", "trainers", "model_cards")


def layout() -> tuple[list[str], dict[str, str]]:
    """All packages, and the folder of each that is not where its name says."""
    packages = find_packages(include=["onesearch", "onesearch.*"])
    if "onesearch.trainers" in packages:
        return packages, {"": "."}  # so an editable install is a path, not an import hook
    unlinked = [package for top in TOP_LEVEL for package in (top, *(f"{top}.{sub}" for sub in find_packages(top)))]
    folders = {f"onesearch.{package}": package.replace(".", "/") for package in unlinked}
    return [*packages, *folders], {"onesearch": "onesearch", **folders}


packages, package_dir = layout()

# The extras that bring optional packages; `onesearch/extras.py` names them to a user who lacks one.
TRAIN = ["trl>=1.16,<1.17", "peft>=0.21,<1"]
EVALUATION = ["bm25s>=0.3,<1", "PyStemmer>=3,<4", "faiss-cpu>=1.13,<2", "lightgbm>=4.6,<5"]
PLOTS = ["matplotlib>=3.9,<4"]
VARIANTS = ["vector-quantize-pytorch>=1.32,<2"]
FAST = ["numba>=0.61,<1"]
EXPORTS = ["openpyxl>=3.1,<4", "py3langid>=0.4,<1", "charset-normalizer>=3.3,<4"]
ENGLISH = ["wordllama>=0.4,<1"]
SERVE = ["fastapi>=0.115,<1", "uvicorn>=0.34,<1", "prometheus_client>=0.21,<1"]
ONNX = ["onnx>=1.18,<2", "onnxscript>=0.7,<1", "onnxruntime>=1.23,<2"]
RAY = ["ray[serve,data]>=2.50,<3"]

# The extras of contributors. The tests compare our metrics with those of ir-measures.
TEST = [
    "pytest>=8",
    "pytest-xdist>=3.6,<4",
    "hypothesis>=6",
    "ir-measures>=0.4,<1",
    "httpx>=0.27,<1",
    "playwright>=1.49,<2",
    "schemathesis>=4,<5",
    "parameterized>=0.9,<1",
]
LINT = ["ruff>=0.15", "mypy>=1.18", "types-PyYAML", "types-tqdm", "pandas-stubs"]
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.6,<10", "mkdocstrings[python]>=1,<2"]
RELEASE = ["build>=1.2", "twine>=6"]

setup(
    name="onesearch",
    version="0.1.0",
    description="Open generative search: one model turns a query and a user's history into the Semantic IDs of items, under a trie.",
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The OneSearch authors",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    keywords=[
        "generative retrieval",
        "generative search",
        "semantic IDs",
        "e-commerce search",
        "recommendation",
        "transformers",
    ],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Internet :: WWW/HTTP :: Indexing/Search",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=packages,
    package_dir=package_dir,
    package_data={
        "onesearch": ["py.typed"],
        "onesearch.trainers": ["recipes/*.yaml", "recipes/studies/*.yaml", "recipes/accelerate/*.yaml"],
        "onesearch.model_cards": ["*.md", "*.html", "space/*", "benchmarks/*.yaml"],
        "onesearch.serving.http": ["static/*"],
    },
    install_requires=[
        "torch>=2.6",
        "transformers>=5.23,<6",
        "tokenizers>=0.23.1,<0.24",
        "accelerate>=1.10.1,<2",
        "datasets>=4.7,<6",
        "safetensors>=0.8,<1",
        "sentence-transformers>=6.2,<7",
        "pyahocorasick>=2.1,<3",
        "scikit-learn>=1.5,<2",
        "scipy>=1.14,<2",
        "threadpoolctl>=3.5,<4",
        "filelock>=3.16,<5",
        "numpy>=2",
        "pyarrow>=21",
        "PyYAML>=6",
        "tqdm>=4.66",
    ],
    extras_require={
        "train": TRAIN,
        "evaluation": EVALUATION,
        "plots": PLOTS,
        "variants": VARIANTS,
        "fast": FAST,
        "exports": EXPORTS,
        "english": ENGLISH,
        "serve": SERVE,
        "ray": RAY,
        "onnx": ONNX,
        "test": TEST,
        "lint": LINT,
        "docs": DOCS,
        "release": RELEASE,
        "all": TRAIN
        + EVALUATION
        + PLOTS
        + VARIANTS
        + FAST
        + EXPORTS
        + ENGLISH
        + SERVE
        + ONNX
        + TEST
        + LINT,  # what use and the tests need
    },
    entry_points={"console_scripts": ["onesearch = onesearch.cli:main"]},
)
