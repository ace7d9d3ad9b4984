"""The part ``market:`` of a recipe: which importer or simulation makes the tables, and with which options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, get_type_hints

from .mappings import build, field_value

if TYPE_CHECKING:
    from onesearch.data.market import Market

SIMULATION = "simulate"
"""Name of the simulation, whose options are the fields of `SimulatorConfig`."""

IMPORTERS = ("amazon", "chorus", "export", "kuaisearch", "tables")
"""Names of the importers, whose options are the keyword arguments of their functions."""


def importer_of(name: str) -> Callable[..., Market]:
    """The function of one of `IMPORTERS`, which takes the source and the options."""
    from onesearch.data.importers.amazon import import_amazon
    from onesearch.data.importers.chorus import import_chorus
    from onesearch.data.importers.kuaisearch import import_kuaisearch
    from onesearch.data.importers.tables import import_tables

    from .export_importer import import_export

    functions: dict[str, Callable[..., Market]] = {
        "amazon": import_amazon,
        "chorus": import_chorus,
        "export": import_export,
        "kuaisearch": import_kuaisearch,
        "tables": import_tables,
    }
    return functions[name]


def check_options(importer: str, options: Mapping[str, Any]) -> None:
    """Compare options with those that an importer takes, without importing a market. Reading a recipe leaves this out, because it takes
    the libraries of the tables; a run does it first.

    Args:
        importer: `SIMULATION` or one of `IMPORTERS`.
        options: name of the option → value.

    Raises:
        ValueError: an option is unknown, or a value has the wrong type or, for a simulation, is out of range.
    """
    where = "recipe.market.options"
    if importer == SIMULATION:
        from onesearch.simulator import SimulatorConfig

        build(SimulatorConfig, options, where)
        return
    function = importer_of(importer)
    parameters = inspect.signature(function).parameters.values()
    names = [part.name for part in parameters if part.kind is inspect.Parameter.KEYWORD_ONLY]
    hints = get_type_hints(function)
    for name, value in options.items():
        if name not in names:
            raise ValueError(f"{where}: unknown key {name!r}; allowed are {', '.join(names)}")
        field_value(hints[name], value, f"{where}.{name}")


__all__ = ["IMPORTERS", "SIMULATION", "check_options", "importer_of"]
