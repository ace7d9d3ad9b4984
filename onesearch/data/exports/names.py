"""Look up the field of a column by its name. Capitals, blanks, accents and punctuation of a name do not matter."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from ..languages import DETECTED
from .name_lists import ATTRIBUTE_NAMES, EVENT_KINDS, IGNORED_KINDS, LOG_NAMES, PRODUCT_NAMES

LEVEL_WORDS = "category|categorie|categoria|kategorie|cat|subcategory|categorylevel|catlevel|level|lvl|类目|分类|カテゴリ"
"""Words before the number of a category level."""

CONTENTS = frozenset({"value", "amount", "text", "name", "title", "label", "path", "url", "src", "en", "de"})
"""Names of the parts of nested values that hold the value itself, such as ``price.amount``."""

SUFFIXES = frozenset(DETECTED) - {"id", "no"}
"""Codes of languages at the end of a name; ``brand_id`` and ``style_no`` are numbers and not translations."""

WRAPPERS = r"(?:(?:_source|source|_doc|doc|document|node|fields|record|payload|data|entry|object)\.)+"
"""What the answers of search engines and interfaces wrap an object in, such as Elasticsearch's ``_source`` and GraphQL's ``node``."""

PREFIXES = (
    r"(?:google shopping\s*/|custom_attributes?|additional_?property|attributes?|attr|pa|spec(?:ification)?s?|meta|attrs|options?|custom|"
    r"product|variant|details|properties)"
)
"""What shop systems write before the name of an attribute."""

CHINESE_NUMBERS = "一二三四五"


def plain(name: str) -> str:
    """Reduce a name to letters and digits in lower case, without accents; ``Artikel-Nr.`` is ``artikelnr``, ``g:id`` is ``id``."""
    folded = unicodedata.normalize("NFKD", name.lower().removeprefix("g:").replace("ß", "ss"))
    letters = (letter for letter in folded if letter.isalnum() or unicodedata.category(letter) == "Mc")
    return unicodedata.normalize("NFC", "".join(letters))


def _lookup(names: Mapping[str, str]) -> dict[str, tuple[str, int]]:
    """Plain name → field and rank of the name within it."""
    found: dict[str, tuple[str, int]] = {}
    for field, words in names.items():
        for rank, word in enumerate(words.split()):
            found.setdefault(plain(word), (field, rank))
    return found


ATTRIBUTE_LOOKUP = _lookup({f"attributes.{kind}": words for kind, words in ATTRIBUTE_NAMES.items()})
PRODUCT_LOOKUP = {**ATTRIBUTE_LOOKUP, **_lookup(PRODUCT_NAMES)}
LOG_LOOKUP = _lookup(LOG_NAMES)

KIND_LOOKUP = {name: field for name, (field, _) in _lookup(EVENT_KINDS).items()}
"""Plain name of a kind of event → kind."""

IGNORED = frozenset(plain(word) for word in IGNORED_KINDS.split())
"""Plain names of events that say no interest in an item."""


def kind_name(text: str) -> str:
    """Return the plain name of a kind of event, without words such as "product" where only the rest is known.

    Example:
        >>> kind_name("Product Clicked")
        'clicked'
    """
    name = plain(text)
    if name in KIND_LOOKUP or name in IGNORED:
        return name
    bare = re.sub(r"product|items?|event|user|ecommerce", "", name)
    return bare if bare in KIND_LOOKUP or bare in IGNORED else name


def product_field(name: str) -> tuple[str, int] | None:
    """Return the field of a column of products by its name, and the rank of the name; None if shops use no such name.

    Prefixes and suffixes of shop systems are left out for attributes: ``attributes.color``, ``pa_color`` and
    ``Color (product.metafields.shopify.color-pattern)`` are all ``attributes.color``. The code of a language at the end of a name is left
    out, as in ``title_en``, and a wrapper at its beginning, as in ``_source.title``.
    """
    name = unwrapped(name)
    found = PRODUCT_LOOKUP.get(plain(name))
    if found is not None:
        return found
    if "." in name:
        outer, _, inner = name.rpartition(".")
        if plain(inner) in CONTENTS:
            return PRODUCT_LOOKUP.get(plain(outer))
        if plain(outer) in ("variants", "variant"):
            return PRODUCT_LOOKUP.get(f"variant{plain(inner)}")
    bare = re.sub(r"\s*\(.*\)$", "", name)
    bare = re.sub(rf"^{PREFIXES}[\s._:/-]+", "", bare, flags=re.IGNORECASE)
    if bare != name:
        return PRODUCT_LOOKUP.get(plain(bare))
    translated = re.fullmatch(r"(.+?)[ _.-]\(?([a-z]{2})(?:[_-][A-Za-z]{2})?\)?", name)
    return PRODUCT_LOOKUP.get(plain(translated.group(1))) if translated and translated.group(2) in SUFFIXES else None


def attribute_field(name: str) -> str | None:
    """Return the field of a column of attributes whose name ends in that of an attribute or of the kind of product; None for others.

    Only names that say that they are attributes are looked at.

    Example:
        >>> attribute_field("attr_t_product_colour"), attribute_field("spec.frame_material"), attribute_field("seo_colour")
        ('attributes.color', 'attributes.material', None)
    """
    found = re.match(rf"{PREFIXES}[\s._:/-]+", name, re.IGNORECASE)
    if found is None or plain(found.group()) in ("product", "variant"):
        return None
    words = [word for word in re.split(r"[\s._:/-]+", name[found.end() :]) if word]
    for first in range(len(words)):
        tail = plain(" ".join(words[first:]))
        field = PRODUCT_LOOKUP.get(tail, ("", 0))[0]
        if field.startswith("attributes.") or (field == "categories" and tail == "producttype"):
            return field
    return None


def unwrapped(name: str) -> str:
    """A name without the wrapper around its object: ``_source.price.amount`` is ``price.amount``."""
    return re.sub(rf"^{WRAPPERS}", "", name)


def log_field(name: str) -> tuple[str, int] | None:
    """Return the field of a column of a log by its name, and the rank of the name; None if shops use no such name."""
    name = unwrapped(name)
    return LOG_LOOKUP.get(plain(name)) or LOG_LOOKUP.get(plain(name.rpartition(".")[2]))


def category_level(name: str) -> int | None:
    """Return the number of a category level in a column's name, such as 2 of ``category_2``, ``cat2``, ``l2_category``, ``level2name``."""
    short = plain(unwrapped(name))
    number = re.fullmatch(rf"(?:{LEVEL_WORDS})(?:level|l|lvl|name)?(\d)(?:name)?", short)
    number = number or re.fullmatch(r"l(?:evel)?(\d)(?:category|cat)?(?:name)?", short)
    if number:
        return int(number.group(1))
    chinese = re.fullmatch(rf"([{CHINESE_NUMBERS}])级(?:类目|分类)(?:名称)?", short)
    return CHINESE_NUMBERS.index(chinese.group(1)) + 1 if chinese else None


__all__ = [
    "IGNORED",
    "KIND_LOOKUP",
    "attribute_field",
    "category_level",
    "kind_name",
    "log_field",
    "plain",
    "product_field",
    "unwrapped",
]
