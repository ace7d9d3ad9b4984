"""Dataclasses from nested mappings, and back to plain values: recipes and studies are read from YAML with these functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from onesearch.tokenization_sid.quantizers.configs import QUANTIZER_CONFIGS, QuantizerConfig

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def build(cls: type[T], values: Any, where: str) -> T:
    """Build a dataclass, and the dataclasses in its fields, from nested mappings.

    Args:
        cls: the dataclass.
        values: {field: value}; fields that are left out keep their defaults.
        where: position of `values` in the file, for the error messages.

    Raises:
        ValueError: a key is unknown, a value has the wrong type or a dataclass refuses it; the message names the position.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must be a mapping, got {values!r}")
    names = [part.name for part in fields(cls)]
    unknown = sorted(map(str, set(values) - set(names)))
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; allowed are {', '.join(names)}")
    hints = get_type_hints(cls)
    arguments = {key: _field_value(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    try:
        return cls(**arguments)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error


def plain(value: Any) -> Any:
    """The value with lists in place of tuples, on every level: YAML has no tuples."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


def _field_value(hint: Any, value: Any, where: str) -> Any:
    """The value of a field of type `hint`: mappings become the dataclass that the type names."""
    kinds = (hint, *get_args(hint))
    nested = next((kind for kind in kinds if isinstance(kind, type) and is_dataclass(kind)), None)
    if value is None:
        return None
    if QuantizerConfig in kinds:
        return _quantizer_config(value, where)
    if nested is None:
        return value
    if get_origin(hint) is not tuple:
        return build(nested, value, where)
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where} must be a list of mappings, got {value!r}")
    return tuple(build(nested, part, f"{where}[{place}]") for place, part in enumerate(value))


def _quantizer_config(values: Any, where: str) -> QuantizerConfig:
    """The config of the quantizer that the key ``quantizer`` names."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must be a mapping, got {values!r}")
    kind = values.get("quantizer", "rq-opq")
    if not isinstance(kind, str) or kind not in QUANTIZER_CONFIGS:
        raise ValueError(f"{where}.quantizer: {kind!r} is unknown; allowed are {', '.join(QUANTIZER_CONFIGS)}")
    sizes = {key: value for key, value in values.items() if key != "quantizer"}
    return build(QUANTIZER_CONFIGS[kind], sizes, f"{where} ({kind})")


__all__ = ["build", "plain"]
