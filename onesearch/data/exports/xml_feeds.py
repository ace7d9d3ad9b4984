"""XML feeds, such as those for Google's product listings: the elements that occur again and again are the rows."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree


def read_xml(path: Path, data: bytes) -> list[dict[str, Any]]:
    """Read the rows of an XML file.

    A row is an element of the name that most elements with at least two children have, for example ``item``, ``entry`` or ``product``. Its
    children are its columns; a child that occurs again becomes a list, and a child with children an object.

    Args:
        path: the file, for messages.
        data: its contents.

    Raises:
        ValueError: the file is HTML, no XML, defines entities, which could grow without bound, or has no such elements.
    """
    if re.match(rb"\s*(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html)", data[:500], re.IGNORECASE):
        raise ValueError(f"{path} is HTML, as of a page for logging in; export it as CSV, JSON lines, Excel, XML or parquet")
    if b"<!ENTITY" in data:
        raise ValueError(f"{path} defines entities of its own; export it without them, or as CSV")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{path} is no XML ({error}); export it again, or as CSV") from error
    names = Counter(element.tag for element in root.iter() if len(element) > 1 and element is not root)
    if not names:
        raise ValueError(f"{path} holds no rows: no element has columns within it")
    most = max(names.values())
    row_name = next(element.tag for element in root.iter() if names.get(element.tag) == most)
    return [_columns(element) for element in root.iter(row_name)]


def _columns(element: ElementTree.Element) -> dict[str, Any]:
    """The children and attributes of an element by name, without name spaces."""
    found: dict[str, Any] = dict(element.attrib)
    for child in element:
        name = child.tag.rpartition("}")[2]
        value: Any = _columns(child) if len(child) else (child.text or "").strip() or child.get("href")
        if name in found:
            found[name] = [*(found[name] if isinstance(found[name], list) else [found[name]]), value]
        else:
            found[name] = value
    return found


__all__ = ["read_xml"]
