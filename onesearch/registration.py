"""Makes `import onesearch` enough for transformers' Auto classes, without importing torch.

Importing transformers' auto modules imports torch. So registration waits until somebody else imports them: a finder on `sys.meta_path`
lets the real import happen and then adds our classes.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType

_AUTO = "transformers.models.auto"


def register_auto_classes() -> None:
    """Register configuration, models and tokenizer with the Auto classes, now or as soon as those are imported."""
    pending = {}
    for name, register in _REGISTRATIONS.items():
        if name in sys.modules:
            register(sys.modules[name])
        else:
            pending[name] = register
    if pending and not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport(pending))


def _register_config(auto: ModuleType) -> None:
    from onesearch.modeling_onesearch.configuration_onesearch import OneSearchConfig

    auto.AutoConfig.register("onesearch", OneSearchConfig, exist_ok=True)


def _register_models(auto: ModuleType) -> None:
    from onesearch.modeling_onesearch.configuration_onesearch import OneSearchConfig
    from onesearch.modeling_onesearch.modeling_onesearch import OneSearchForConditionalGeneration, OneSearchModel

    auto.AutoModel.register(OneSearchConfig, OneSearchModel, exist_ok=True)
    auto.AutoModelForSeq2SeqLM.register(OneSearchConfig, OneSearchForConditionalGeneration, exist_ok=True)


def _register_tokenizer(auto: ModuleType) -> None:
    from onesearch.modeling_onesearch.configuration_onesearch import OneSearchConfig
    from onesearch.tokenization_sid.tokenization_sid import SidTokenizer

    auto.AutoTokenizer.register(OneSearchConfig, fast_tokenizer_class=SidTokenizer, exist_ok=True)


_REGISTRATIONS: dict[str, Callable[[ModuleType], None]] = {
    f"{_AUTO}.configuration_auto": _register_config,
    f"{_AUTO}.modeling_auto": _register_models,
    f"{_AUTO}.tokenization_auto": _register_tokenizer,
}


class _AfterImport(importlib.abc.MetaPathFinder):
    """Runs a registration once its module has been executed."""

    def __init__(self, pending: dict[str, Callable[[ModuleType], None]]):
        self.pending = pending

    def find_spec(self, fullname, path=None, target=None):  # noqa: ANN201 - parent's contract
        if fullname not in self.pending:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _RegisteringLoader(spec.loader, self.pending.pop(fullname))
        return spec


class _RegisteringLoader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader, register: Callable[[ModuleType], None]):
        self.loader = loader
        self.register = register

    def create_module(self, spec):  # noqa: ANN201 - parent's contract
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        self.register(module)
