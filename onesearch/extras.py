"""Optional packages: which extra of the installation brings each, and one line for a user who lacks it.

The base installation imports, simulates and checks markets, builds Semantic IDs, searches and evaluates a checkpoint alone. Training,
the baselines, plots, the learned quantizers and the compiled search step need packages that the extras of ``setup.py`` name.
"""

from __future__ import annotations

from importlib.util import find_spec

MODULES = {
    "train": ("trl", "peft"),
    "evaluation": ("bm25s", "Stemmer", "faiss"),
    "plots": ("matplotlib",),
    "variants": ("vector_quantize_pytorch",),
    "fast": ("numba",),
}
"""Extra → the modules that its packages bring."""


def require(*extras: str) -> None:
    """Check that extras are installed, before work starts that would end for want of one.

    Args:
        extras: names of extras, keys of `MODULES`.

    Raises:
        ModuleNotFoundError: a module of an extra is not installed; the message says how to install it.
    """
    for extra in extras:
        for module in MODULES[extra]:
            if find_spec(module) is None:
                raise ModuleNotFoundError(_advice(module, extra), name=module)


def explain(error: ImportError) -> str | None:
    """One line about a failed import: the missing package and the extra that brings it; None if no extra does.

    Args:
        error: what an import of an optional package, or `require`, raised.
    """
    module = (error.name or "").partition(".")[0]
    for extra, modules in MODULES.items():
        if module in modules:
            return _advice(module, extra)
    return None


def _advice(module: str, extra: str) -> str:
    return (
        f"{module} is not installed; `pip install 'onesearch[{extra}]'` brings it (in a clone: `pip install -e '.[{extra}]'`)"
    )
