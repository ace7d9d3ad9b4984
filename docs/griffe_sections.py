"""Extension of griffe, which reads the docstrings for the API reference: how this project writes sections, in griffe's terms."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Sections(griffe.Extension):
    """Two differences: a section ``Example:``, and ``Args:`` of a class whose arguments are its fields and not those of an ``__init__``."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Rewrite the headings of every docstring of a package, before any is parsed."""
        _rewrite(pkg)


def _rewrite(obj: griffe.Object) -> None:
    if obj.docstring is not None:
        value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
        if isinstance(obj, griffe.Class) and "__init__" not in obj.members:
            value = re.sub(r"^Args:$", "Attributes:", value, flags=re.MULTILINE)
        obj.docstring.value = value
    for member in obj.members.values():
        if not member.is_alias:
            _rewrite(member)
