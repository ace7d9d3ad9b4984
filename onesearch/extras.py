"""Libraries that only an extra installs: one error message for all that are missing, and imports that need care.

The base installation imports, simulates and checks markets, builds Semantic IDs, searches, and evaluates a checkpoint alone. Training,
the baselines, the plots, the learned quantizers, the compiled search step, Excel files, pretrained English vectors, the HTTP server,
the fleet and the ONNX graphs need an extra.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

MODULES = {
    "train": ("trl", "peft"),
    "evaluation": ("bm25s", "Stemmer", "faiss", "lightgbm"),
    "plots": ("matplotlib",),
    "variants": ("vector_quantize_pytorch",),
    "fast": ("numba",),
    "exports": ("openpyxl", "py3langid"),
    "english": ("wordllama",),
    "serve": ("fastapi", "uvicorn", "prometheus_client"),
    "ray": ("ray",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
}
"""Extra in ``setup.py`` → import names of the modules that it installs."""


class MissingExtraError(ModuleNotFoundError):
    """A feature needs libraries that the base installation leaves out."""


def require(extra: str, *modules: str, needed_by: str = "this feature") -> None:
    """Raise in one line if a module of an extra is not installed. Imports nothing, so it costs microseconds.

    Call it in the function that needs the modules, before their imports.

    Args:
        extra: name of the extra, a key of `MODULES`, for example ``evaluation``.
        modules: import names of the top-level modules that are needed, for example ``bm25s``; by default all of the extra.
        needed_by: subject of the message: the class, function or command that needs them.

    Raises:
        MissingExtraError: at least one module is not installed; the message names all of them and the extra.

    Example:
        >>> require("evaluation", "bm25s", needed_by="BM25Retriever")  # doctest: +SKIP
        MissingExtraError: BM25Retriever needs bm25s: pip install onesearch[evaluation]
    """
    missing = [module for module in modules or MODULES[extra] if find_spec(module) is None]
    if missing:
        raise MissingExtraError(f"{needed_by} needs {', '.join(missing)}: pip install onesearch[{extra}]", name=missing[0])


def import_bm25s(needed_by: str) -> ModuleType:
    """The module bm25s, imported as if JAX were not installed.

    Where JAX is installed, the import of bm25s starts it, and JAX then reserves three quarters of the GPU's memory for its process. This
    package takes the best scores with numpy, so it loses nothing.

    Args:
        needed_by: subject of the message if bm25s is missing.

    Raises:
        MissingExtraError: bm25s is not installed.
    """
    require("evaluation", "bm25s", needed_by=needed_by)
    jax = sys.modules.get("jax")
    sys.modules["jax"] = None  # type: ignore[assignment]  # an import of JAX now raises ModuleNotFoundError, which bm25s expects
    try:
        return import_module("bm25s")
    finally:
        del sys.modules["jax"]
        if jax is not None:
            sys.modules["jax"] = jax


__all__ = ["MODULES", "MissingExtraError", "import_bm25s", "require"]
