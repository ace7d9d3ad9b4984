"""Dataclasses from nested mappings, and back to plain values: recipes and studies are read from YAML with these functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from onesearch.tokenization_sid.keywords.configs import KeywordConfig
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
    arguments = {key: field_value(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error


def plain(value: Any) -> Any:
    """The value with lists in place of tuples, on every level: YAML has no tuples."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


def field_value(hint: Any, value: Any, where: str) -> Any:
    """Return the value of a field: mappings become the dataclass that the type names, lists become tuples.

    Args:
        hint: type of the field: a dataclass, a plain type, `Any`, a tuple, a dict with text as keys, or one of these or None.
        value: value from YAML.
        where: position of the value in the file, for the error messages.

    Raises:
        ValueError: the value has another type; the message names the position, the value and what is allowed.
    """
    if get_origin(hint) in (Union, UnionType):
        return _optional_value(get_args(hint), value, where)
    if hint is Any:
        _refuse_special_numbers(value, where)
        return value
    if hint is QuantizerConfig:
        return _quantizer_config(value, where)
    if hint is KeywordConfig and not isinstance(value, Mapping):
        return _keyword_switch(value, where)
    if isinstance(hint, type) and is_dataclass(hint):
        return build(hint, value, where)
    if get_origin(hint) is tuple:
        return _tuple(get_args(hint), value, where)
    if get_origin(hint) is dict:
        return _dict(get_args(hint)[1], value, where)
    allowed, is_allowed = _PLAIN[hint]
    if not is_allowed(value):
        raise ValueError(f"{where} must be {allowed}, got {value!r}{_hint(hint, value)}")
    return value


def _optional_value(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """The value of a field that may be None."""
    if value is None:
        return None
    (kind,) = (kind for kind in kinds if kind is not type(None))
    return field_value(kind, value, where)


def _tuple(parts: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    """A tuple from a list: ``tuple[X, ...]`` of any length, ``tuple[X, Y]`` of exactly its length."""
    of_mappings = isinstance(parts[0], type) and is_dataclass(parts[0])
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where} must be a list{' of mappings' if of_mappings else ''}, got {value!r}; write [...] around it")
    if parts[-1] is Ellipsis:
        parts = (parts[0],) * len(value)
    if len(parts) != len(value):
        raise ValueError(f"{where} must be a list of {len(parts)} values, got {value!r}")
    return tuple(field_value(part, entry, f"{where}[{place}]") for place, (part, entry) in enumerate(zip(parts, value)))


def _dict(part: Any, value: Any, where: str) -> dict[str, Any]:
    """A mapping from names to values of one type."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} must be a mapping, got {value!r}")
    for key in value:
        if not isinstance(key, str):
            raise ValueError(f"{where}: key {key!r} must be text; write it in quotes")
    return {key: field_value(part, entry, f"{where}.{key}") for key, entry in value.items()}


def _refuse_special_numbers(value: Any, where: str) -> None:
    """Refuse NaN and infinity, also within lists and mappings: no setting allows them."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            _refuse_special_numbers(part, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for place, part in enumerate(value):
            _refuse_special_numbers(part, f"{where}[{place}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} must be finite, got {value!r}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_PLAIN: dict[type, tuple[str, Callable[[Any], bool]]] = {
    bool: ("true or false", lambda value: isinstance(value, bool)),
    int: ("a whole number", _is_whole),
    float: ("a finite number", _is_number),
    str: ("text", lambda value: isinstance(value, str)),
}
"""Plain types of fields: what is allowed, for the error message, and the check."""


def _hint(hint: type, value: Any) -> str:
    """The mistake that YAML makes easy: 1e-3 without a point is text."""
    if hint is not float or not isinstance(value, str):
        return ""
    try:
        return f"; YAML takes {value} for text, write {float(value)}" if math.isfinite(float(value)) else ""
    except ValueError:
        return ""


def _quantizer_config(values: Any, where: str) -> QuantizerConfig:
    """The config of the quantizer that the key ``quantizer`` names."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must be a mapping, got {values!r}")
    kind = values.get("quantizer", "rq-opq")
    if not isinstance(kind, str) or kind not in QUANTIZER_CONFIGS:
        raise ValueError(f"{where}.quantizer: {kind!r} is unknown; allowed are {', '.join(QUANTIZER_CONFIGS)}")
    sizes = {key: value for key, value in values.items() if key != "quantizer"}
    return build(QUANTIZER_CONFIGS[kind], sizes, f"{where} ({kind})")


def _keyword_switch(value: Any, where: str) -> KeywordConfig | None:
    """The config that true or false stands for."""
    if not isinstance(value, bool):
        raise ValueError(f"{where} must be true, false or a mapping, got {value!r}")
    return KeywordConfig() if value else None


__all__ = ["build", "field_value", "plain"]
