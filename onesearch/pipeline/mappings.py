"""Dataclasses from nested mappings, and back to plain values: how recipes and studies are read from YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from onesearch.tokenization_sid.quantizers.configs import QUANTIZER_CONFIGS, QuantizerConfig

T = TypeVar("T")


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Dataclass from nested mappings; ValueError names an unknown key, the allowed ones and where it stands."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must be a mapping, got {values!r}")
    hints, names = get_type_hints(cls), [part.name for part in fields(cls)]
    unknown = sorted(map(str, set(values) - set(names)))
    if unknown:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; allowed are {', '.join(names)}")
    arguments = {}
    for key, value in values.items():
        if hints[key] == QuantizerConfig | None and value is not None:
            arguments[key] = _build_codes(value, f"{where}.{key}")
            continue
        nested = next((kind for kind in (hints[key], *getattr(hints[key], "__args__", ())) if is_dataclass(kind)), None)
        if nested is None or value is None:
            arguments[key] = value
        elif getattr(hints[key], "__origin__", None) is tuple:
            arguments[key] = _build_all(nested, value, f"{where}.{key}")
        else:
            arguments[key] = build(nested, value, f"{where}.{key}")
    try:
        return cls(**arguments)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error


def _build_codes(values: Any, where: str) -> QuantizerConfig:
    """The config of the quantizer that the key ``quantizer`` names."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must be a mapping, got {values!r}")
    kind = values.get("quantizer", "rq-opq")
    if not isinstance(kind, str) or kind not in QUANTIZER_CONFIGS:
        raise ValueError(f"{where}.quantizer: {kind!r} is unknown; allowed are {', '.join(QUANTIZER_CONFIGS)}")
    sizes = {key: value for key, value in values.items() if key != "quantizer"}
    return build(QUANTIZER_CONFIGS[kind], sizes, f"{where} ({kind})")


def _build_all(cls: type[T], values: Any, where: str) -> tuple[T, ...]:
    if not isinstance(values, list | tuple):
        raise ValueError(f"{where} must be a list of mappings, got {values!r}")
    return tuple(build(cls, value, f"{where}[{place}]") for place, value in enumerate(values))


def plain(value: Any) -> Any:
    """Tuples as lists, all the way down: YAML knows no tuples."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value
