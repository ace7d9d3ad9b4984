"""Model cards in parts: generated blocks between markers, which a new card replaces, and everything else, which belongs to people.

A block lies between two comments, the second of which holds a fingerprint of the text between them::

    <!-- onesearch:results -->
    …
    <!-- /onesearch:results 0123456789ab -->

A block whose text no longer fits its fingerprint was edited by somebody and is kept as it is.
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from huggingface_hub import CardData, ModelCard, ModelCardData, RepoCard

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CARD_NAME = "README.md"
"""File of a card, in the folder of its checkpoint."""

BLOCK = re.compile(r"<!-- onesearch:(?P<name>\w+) -->\n(?P<text>.*?)<!-- /onesearch:(?P=name) (?P<seal>\w*) ?-->", re.DOTALL)
"""A generated block."""

TASK_NAME = "Generative product search"
"""Name of the task of this package's entries in the `model-index` of a card; entries of other tasks are kept."""

BLANK = "[More Information Needed]"
"""Text of transformers' template of a card, which says nothing about the model."""

TAGS = ("onesearch", "generative-retrieval", "semantic-ids", "product-search")
"""Tags of every card."""

NO_RESULTS = (
    "These weights were not measured. `onesearch evaluate` measures a run, and `onesearch push` publishes it with its results."
)
"""Text of the block of results of a model that was pushed without an evaluation."""


class MergedCard(NamedTuple):
    """A card with the edits of people and new generated parts.

    Args:
        text: the card.
        kept: names of the generated blocks that somebody has edited, so that they are old.
    """

    text: str
    kept: list[str]


def block(name: str, text: str) -> str:
    """A generated block with its markers."""
    text = text.strip("\n") + "\n"
    return f"<!-- onesearch:{name} -->\n{text}<!-- /onesearch:{name} {_seal(text)} -->"


def seal_blocks(text: str) -> str:
    """The card with a fingerprint in the end of every block."""
    return BLOCK.sub(lambda found: block(found["name"], found["text"]), text)


def prose_of(text: str) -> str:
    """What people write in a card: everything but the metadata and the texts of the generated blocks that nobody has edited."""
    body = ModelCard(text, ignore_metadata_errors=True).text if text.startswith("---") else text
    return BLOCK.sub(lambda found: f"[{found['name']}]" if _is_generated(found) else found[0], body).strip()


def merge_cards(own: str, new: str) -> MergedCard:
    """Bring the generated parts of a card up to date, and keep all that people wrote.

    * Text outside of the blocks is that of `own`. A block that `own` lacks was removed by somebody and stays away.
    * A block of `own` is replaced by that of `new`, unless somebody has edited it.
    * Fields of the metadata stay. Fields that are missing, tags, and this package's entries of the `model-index` are taken from `new`.

    Args:
        own: the card as it is, with its metadata.
        new: a new card of the same model.

    Raises:
        ValueError: the metadata of one of them is no YAML mapping.
    """
    blocks = {found["name"]: found[0] for found in BLOCK.finditer(new)}
    kept = [found["name"] for found in BLOCK.finditer(own) if not _is_generated(found)]

    def replaced(found: re.Match[str]) -> str:
        return blocks.get(found["name"], found[0]) if _is_generated(found) else found[0]

    card, other = RepoCard(own), RepoCard(new)  # not ModelCard, which joins results of other tasks on the same data set
    data = CardData(**_merged_metadata(card.data.to_dict(), other.data.to_dict()))
    return MergedCard(f"---\n{data.to_yaml()}\n---\n{BLOCK.sub(replaced, card.text)}", kept)


def plain_card(model: PreTrainedModel, name: str = "") -> str:
    """The card of a model of which nothing but its configuration is known. It claims no results.

    Args:
        model: the model.
        name: title; default: the class of the model.
    """
    config = model.config
    sizes = list(getattr(config, "sid_codebook_sizes", ()))
    data = ModelCardData(library_name="transformers", pipeline_tag="text-ranking", tags=list(TAGS))
    lines = [f"* class: `{type(model).__name__}`, {model.num_parameters():,} parameters"]
    if sizes:
        lines.append(f"* Semantic IDs: {len(sizes)} codes per item, codebook sizes {'-'.join(map(str, sizes))}")
    if getattr(config, "sid_fingerprint", None):
        lines.append(f"* fingerprint of the codebooks: `{config.sid_fingerprint}`")
    parts = [
        f"---\n{data.to_yaml()}\n---\n",
        f"# {name or type(model).__name__}\n",
        "A model of [OneSearch](https://arxiv.org/abs/2509.03236), generative search with Semantic IDs.\n",
        "## Model\n",
        block("model", "\n".join(lines)) + "\n",
        "## Results\n",
        block("results", NO_RESULTS) + "\n",
    ]
    return "\n".join(parts)


def is_blank(text: str) -> bool:
    """Whether a card is transformers' template, which nobody has filled."""
    return "# Model Card for Model ID" in text and BLANK in text


def _seal(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _is_generated(found: re.Match[str]) -> bool:
    return found["seal"] == _seal(found["text"])


def _merged_metadata(own: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata of a card with what `new` adds; see `merge_cards`."""
    merged = {**new, **own}
    tags = [*own.get("tags", ()), *new.get("tags", ())]
    if tags:
        merged["tags"] = list(dict.fromkeys(tags))
    ours, theirs = (_results(values) for values in (new, own))
    others = [result for result in theirs if result.get("task", {}).get("name") != TASK_NAME]
    if ours or others:
        named = own if theirs else new
        merged["model-index"] = [{**named["model-index"][0], "results": [*ours, *others]}]
    else:
        merged.pop("model-index", None)
    return merged


def _results(metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Entries of the `model-index`."""
    index = metadata.get("model-index") or []
    return list(index[0].get("results", ())) if index else []


__all__ = [
    "CARD_NAME",
    "NO_RESULTS",
    "TAGS",
    "TASK_NAME",
    "MergedCard",
    "block",
    "is_blank",
    "merge_cards",
    "plain_card",
    "prose_of",
    "seal_blocks",
]
