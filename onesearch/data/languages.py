"""The language of a market: one decision, which BM25, the text encoder, the prompt templates and the card share.

A language is the first subtag of a BCP 47 tag in lower case: ``zh-CN``, ``ZH_tw`` and ``zh`` are all ``zh``. A market without a language
gets the one of its texts: by script where a script tells it, and by a detector among languages of the Latin, Cyrillic and Arabic scripts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .market import Market

DEFAULT_LANGUAGE = "en"
"""Language of texts that tell none."""

MIXED = "mul"
"""Language of a catalogue in several scripts (the ISO 639 code for multiple languages)."""

LANGUAGE_RULE = "the first part of a language is its code of two or three letters, as in en, zh-CN or de"

SAMPLE = 500
"""Number of texts that are read, spread evenly over all; our choice."""

SHARE = 0.2
"""Share of other letters that makes a text not Latin, and share of texts in a second script that makes a catalogue mixed. Our choice."""

MARGIN = 5.0
"""Logarithm of the likelihood ratio by which another language of the Latin script must beat English: few titles prove none. Our choice."""

DETECTED = (
    "ar", "bg", "bs", "ca", "cs", "da", "de", "en", "es", "et", "fa", "fi", "fr", "hr", "hu", "id", "it", "lt", "lv", "nl", "no", "pl",
    "pt", "ro", "ru", "sk", "sl", "sr", "sv", "tr", "uk", "ur", "vi",
)  # fmt: skip
"""Languages that the detector chooses between. Rare ones would be found in texts made of brand names."""

_SCRIPTS = {
    "Han": r"\u3400-\u9fff\uf900-\ufaff",
    "Kana": r"\u3040-\u30ff\uff66-\uff9f",
    "Hangul": r"\u1100-\u11ff\u3130-\u318f\uac00-\ud7af",
    "Thai": r"\u0e00-\u0e7f",
    "Lao": r"\u0e80-\u0eff",
    "Khmer": r"\u1780-\u17ff",
    "Myanmar": r"\u1000-\u109f",
    "Greek": r"\u0370-\u03ff",
    "Hebrew": r"\u0590-\u05ff",
    "Devanagari": r"\u0900-\u097f",
    "Cyrillic": r"\u0400-\u052f",
    "Arabic": r"\u0600-\u06ff",
    "Latin": r"A-Za-z\u00c0-\u024f\u1e00-\u1eff",
}
_PATTERNS = {script: re.compile(f"[{ranges}]") for script, ranges in _SCRIPTS.items()}

_LANGUAGE_OF = {
    "Hangul": "ko", "Thai": "th", "Lao": "lo", "Khmer": "km", "Myanmar": "my", "Greek": "el", "Hebrew": "he", "Devanagari": "hi",
}  # fmt: skip
"""Scripts that tell the language by themselves."""

_COMMONEST = {"Latin": DEFAULT_LANGUAGE, "Cyrillic": "ru", "Arabic": "ar"}
"""Language of a script of several languages where no detector is installed."""


class Detection(NamedTuple):
    """The language of some texts.

    Attributes:
        language: first subtag, for example ``de``, or `MIXED`.
        reason: evidence, for a report.
    """

    language: str
    reason: str


def first_subtag(tag: Any) -> str | None:
    """Return the first subtag of a language tag in lower case.

    Args:
        tag: for example ``zh-CN``; None and blank text name no language.

    Raises:
        ValueError: `tag` is no language tag.

    Example:
        >>> first_subtag("ZH_Hant-TW")
        'zh'
    """
    if tag is None or (isinstance(tag, str) and not tag.strip()):
        return None
    found = re.fullmatch(r"\s*([A-Za-z]{2,3})(?:[-_.@][\w.@-]*)?\s*", tag) if isinstance(tag, str) else None
    if found is None:
        raise ValueError(f"language is {tag!r}; {LANGUAGE_RULE}")
    return found.group(1).lower()


def market_language(market: Market) -> str:
    """Return the language of a market: the first subtag of ``market.info["language"]``, else the language of its titles.

    Raises:
        ValueError: ``market.info["language"]`` is no language tag.
    """
    return first_subtag(market.info.get("language")) or detect_language(market.items.data.column("title").to_pylist()).language


def template_language(language: str | None) -> str:
    """Return the language of the prompt templates for a market's language: ``zh`` for Chinese, else ``en``."""
    return "zh" if first_subtag(language) == "zh" else "en"


def detect_language(texts: Sequence[str | None]) -> Detection:
    """Find the language of texts, such as the titles of a catalogue.

    1. Find the script of each text of a sample. Latin words within a text of another script, such as brand names, do not count.
    2. If no script has more than 1 - `SHARE` of the texts, the catalogue is `MIXED`.
    3. Thai, Hangul and some others tell the language. Han with at least a tenth of kana is Japanese, and Chinese otherwise.
    4. Latin, Cyrillic and Arabic are scripts of many languages: py3langid decides, if it is installed (``onesearch[exports]``).
       Without it the answer is ``en``, ``ru`` or ``ar``, and the reason says so.

    Args:
        texts: any number of texts; null and blank ones are left out.
    """
    sample = [text for text in texts[:: max(1, len(texts) // SAMPLE)] if text]
    scripts = Counter(script for script in map(_script, sample) if script)
    if not scripts:
        return Detection(DEFAULT_LANGUAGE, "the texts hold no letters of a known script")
    script, count = scripts.most_common(1)[0]
    share = f"{count / scripts.total():.0%} of the texts are in {script} letters"
    if count < (1 - SHARE) * scripts.total():
        shares = ", ".join(f"{name} {number / scripts.total():.0%}" for name, number in scripts.most_common())
        return Detection(MIXED, f"the texts are in several scripts: {shares}")
    if script == "Han":
        letters = _letters("".join(sample))
        return Detection("ja", f"{share}, with kana") if 10 * letters["Kana"] >= letters["Han"] else Detection("zh", share)
    if script in _LANGUAGE_OF:
        return Detection(_LANGUAGE_OF[script], share)
    return _by_detector(sample, script, share)


def _letters(text: str) -> Counter[str]:
    """Number of letters of each script."""
    return Counter({script: count for script, letters in _PATTERNS.items() if (count := len(letters.findall(text)))})


def _script(text: str) -> str | None:
    """Script of a text; None without letters. Kana counts as Han, and Latin only where other letters are less than `SHARE`."""
    letters = _letters(text)
    letters["Han"] += letters.pop("Kana", 0)
    others = letters.total() - letters["Latin"]
    if others and others >= SHARE * letters.total():
        letters.pop("Latin", None)
    return letters.most_common(1)[0][0] if letters.total() else None


def _by_detector(sample: Sequence[str], script: str, share: str) -> Detection:
    if find_spec("py3langid") is None:
        language = _COMMONEST.get(script, DEFAULT_LANGUAGE)
        return Detection(
            language, f"{share}, taken as {language}; pip install onesearch[exports] tells languages of a script apart"
        )
    scores = dict(_identifier().rank("\n".join(sample).lower()))
    best = max(scores, key=scores.__getitem__)
    few = script == "Latin" and scores[best] - scores[DEFAULT_LANGUAGE] < MARGIN
    language = DEFAULT_LANGUAGE if few else best
    return Detection(language, f"{share}, and py3langid finds {language}")


@lru_cache(maxsize=1)
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages(list(DETECTED))
    return identifier


__all__ = [
    "DEFAULT_LANGUAGE",
    "DETECTED",
    "LANGUAGE_RULE",
    "MIXED",
    "Detection",
    "detect_language",
    "first_subtag",
    "market_language",
    "template_language",
]
