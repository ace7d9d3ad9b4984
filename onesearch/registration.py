"""Registers this package's classes with the Auto classes of transformers, without importing torch.

Importing the auto modules of transformers imports torch. Registration therefore waits until other code imports them: a finder on
`sys.meta_path` lets the real import happen and then registers our classes. Modules of transformers and of this package import each other
while they are half imported (for example, the docstring decorator of a configuration imports `modeling_auto`), so registration waits until
the outermost of these imports has ended.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

_AUTO = "transformers.models.auto"


def register_auto_classes() -> None:
    """Register configurations, models and tokenizer with the Auto classes, now or as soon as those are imported."""
    for finder in sys.meta_path:
        if isinstance(finder, _AfterImport):
            finder.register_loaded()
            return
    finder = _AfterImport()
    finder.register_loaded()
    sys.meta_path.insert(0, finder)


@contextmanager
def models_later() -> Iterator[None]:
    """Within it, importing the auto modules of transformers does not register the models, whose import takes seconds.

    They are registered by the next import of a module of transformers or of the models outside of it, or by `register_auto_classes`.
    """
    finders = [finder for finder in sys.meta_path if isinstance(finder, _AfterImport)]
    for finder in finders:
        finder.later.add(f"{_AUTO}.modeling_auto")
    try:
        yield
    finally:
        for finder in finders:
            finder.later.clear()


def _register_config(auto: ModuleType) -> None:
    from onesearch.modeling_onesearch.configuration_onesearch import OneSearchConfig, OneSearchQwen3Config
    from onesearch.modeling_onesearch.configuration_reward_onesearch import OneSearchRewardConfig
    from onesearch.modeling_onesearch.configuration_unisearch import UniSearchConfig

    for config in (OneSearchConfig, OneSearchQwen3Config, OneSearchRewardConfig, UniSearchConfig):
        auto.AutoConfig.register(config.model_type, config, exist_ok=True)


def _register_models(auto: ModuleType) -> None:
    from onesearch.modeling_onesearch import modeling_onesearch as models
    from onesearch.modeling_onesearch import modeling_unisearch as unisearch
    from onesearch.modeling_onesearch.configuration_onesearch import OneSearchConfig, OneSearchQwen3Config
    from onesearch.modeling_onesearch.configuration_reward_onesearch import OneSearchRewardConfig
    from onesearch.modeling_onesearch.configuration_unisearch import UniSearchConfig
    from onesearch.modeling_onesearch.modeling_reward_onesearch import OneSearchRewardModel

    auto.AutoModel.register(OneSearchConfig, models.OneSearchModel, exist_ok=True)
    auto.AutoModelForSeq2SeqLM.register(OneSearchConfig, models.OneSearchForConditionalGeneration, exist_ok=True)
    auto.AutoModel.register(OneSearchQwen3Config, models.OneSearchQwen3Model, exist_ok=True)
    auto.AutoModelForCausalLM.register(OneSearchQwen3Config, models.OneSearchForCausalLM, exist_ok=True)
    auto.AutoModel.register(OneSearchRewardConfig, OneSearchRewardModel, exist_ok=True)
    auto.AutoModel.register(UniSearchConfig, unisearch.UniSearchModel, exist_ok=True)
    auto.AutoModelForSeq2SeqLM.register(UniSearchConfig, unisearch.UniSearchForConditionalGeneration, exist_ok=True)


def _register_tokenizer(auto: ModuleType) -> None:
    from onesearch.modeling_onesearch.configuration_onesearch import OneSearchConfig, OneSearchQwen3Config
    from onesearch.modeling_onesearch.configuration_unisearch import UniSearchConfig
    from onesearch.tokenization_sid.tokenization_sid import SidTokenizer

    for config in (OneSearchConfig, OneSearchQwen3Config, UniSearchConfig):
        auto.AutoTokenizer.register(config, fast_tokenizer_class=SidTokenizer, exist_ok=True)


_REGISTRATIONS: dict[str, Callable[[ModuleType], None]] = {
    f"{_AUTO}.configuration_auto": _register_config,
    f"{_AUTO}.modeling_auto": _register_models,
    f"{_AUTO}.tokenization_auto": _register_tokenizer,
}
"""Auto module → the registration that is due once it is imported."""

_WATCHED = ("transformers.", "onesearch.modeling_onesearch.", "onesearch.tokenization_sid.tokenization_sid")
"""Beginnings of the names of modules whose imports are watched."""


class _AfterImport(importlib.abc.MetaPathFinder):
    """Runs registrations whose auto module is imported, as soon as no module of transformers or of this package is half imported.

    `pending` holds the registrations that have not run, `later` those of them that wait, and `running` counts the watched imports that
    have not ended.
    """

    def __init__(self) -> None:
        self.pending = dict(_REGISTRATIONS)
        self.later: set[str] = set()
        self.running = 0

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not self.pending or not f"{fullname}.".startswith(_WATCHED):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _WatchedLoader(spec.loader, self)
        return spec

    def register_loaded(self) -> None:
        """Run the registrations whose auto modules are imported, and those that become due in the meantime."""
        self.running += 1
        try:
            while due := [name for name in self.pending if name in sys.modules and name not in self.later]:
                self.pending.pop(due[0])(sys.modules[due[0]])
        finally:
            self.running -= 1


class _WatchedLoader(importlib.abc.Loader):
    """Loads a module with its own loader and counts the import as running until it has ended."""

    def __init__(self, loader: importlib.abc.Loader, finder: _AfterImport) -> None:
        self.loader = loader
        self.finder = finder

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        self.finder.running += 1
        try:
            self.loader.exec_module(module)
        finally:
            self.finder.running -= 1
        if not self.finder.running:
            self.finder.register_loaded()
