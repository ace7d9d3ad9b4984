"""Search settings of a checkpoint: they are saved beside the weights, so that everybody who loads it searches as it was measured.

Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .hits_onesearch import MAX_ITEMS_PER_SID, RANKINGS

SEARCH_CONFIG_NAME = "search_config.json"
"""File of the search settings, beside the weights of a checkpoint."""


VIEWS = ("sid", "user", "long_view", "items", "queries", "profile", "default_history")
"""Views of a request that prompts can hide at search: the query's SID, the user's signatures, the pooled long sequences, the recent items,
the earlier queries, the profile, and the items that stand in for an empty history."""

CANDIDATES = ("beam", "beam+text", "beam+dense", "beam+text+dense")
"""Sources of the items that are ranked: the beams of the generator, and beside them a text index or a dense index of the catalogue."""


def check_count(name: str, value: object) -> None:
    """Raise TypeError if a setting is no whole number, ValueError if it is below 1."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} must be a whole number")
    if value < 1:
        raise ValueError(f"{name}={value} must be at least 1")


def check_weight(name: str, value: object) -> None:
    """Raise TypeError if a setting is no number, ValueError if it is below 0 or not finite."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} must be a number")
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name}={value} must be at least 0 and finite")


@dataclass(frozen=True)
class SearchConfig:
    """Settings that decide which hits a search returns, apart from the query, the user and the item filter.

    Args:
        num_beams: Semantic IDs kept at each level of the beam search. More beams find more items and cost more time. The paper serves
            with 512; 50 is our choice for a processor without GPU. On the demo's market 10 beams instead of 30 cost 0.010 [0.002, 0.018] of
            HR@10, and 100 gain nothing.
        rank_by: order of the hits. `"sid"` ranks by the probability of the Semantic ID and, within one, by popularity; `"item"` ranks by
            the probability of the item, which is that of its Semantic ID times the item's share of its popularity. On the demo's market
            `"sid"` lowers HR@10 by 0.027 [0.014, 0.041].
        items_per_sid: items of one Semantic ID that may be among the hits, the most popular first. The default of 5 is that of
            PRQ-KMeans' evaluation protocol.
        exclude_history: leave the items of the user's own history out of the hits. Useful in markets where users rarely repurchase;
            on the demo's market, where they do, it lowers HR@10 by 0.169 [0.149, 0.190].
        hidden_views: names in `VIEWS` that prompts leave out although the model was trained with them. The loss of quality tells what a
            model makes of a view; hiding those of the user turns personalisation off.
        rerank: rank the hits of all beams by the checkpoint's reward model, if it has one.
        candidates: `"beam+text"` lets the best items of the checkpoint's text index (BM25) join those of the beams before both are ranked;
            it needs a text index, and `rerank` or a `text_weight`. It helps where the log is small or the catalogue is new to the
            generator. `"beam+dense"` does so with the items of the checkpoint's dense index that are nearest to the query; it needs
            `rerank` or a `dense_weight`. `"beam+text+dense"` does both.
        text_items: number of items that the text index, and the dense index, add for each request; 50 is our choice. More cost time in the
            reward model.
        text_weight: weight of the text match in the order of the hits, at least 0; it needs a text index. The text match of an item is its
            BM25 score as a share of the best one of the query. It is added to the score of the reward model, or without one to a tenth of
            the log-probability. A large weight gives the order of BM25, and leaves the rest to items that BM25 cannot tell apart or does
            not find. 0 leaves it out.
        text_popularity: popularity in the text match, at least 0: this times the popularity of an item, from 0 to 1, is added to its BM25
            share before both are weighted by `text_weight`. It orders the items that the words of a query cannot tell apart, such as all
            those of a category. The popularity is the logarithm of the item's purchases and clicks in training (a click counts 0.3), as a
            share of the largest. 0 leaves it out. Our addition.
        dense_weight: γ of s = log p + γ cos(h, e), at least 0; it needs a dense index. h is the vector of the query and e that of the item
            (LIGER, arXiv 2411.18814; COBRA, arXiv 2503.02453). A large weight gives the order of dense retrieval. With a `text_weight`
            both count. With `rerank`, the reward model's own relevance term takes its place. 0 leaves it out.

    Raises:
        ValueError: a count is below 1, a weight below 0, or `rank_by`, `candidates` or a view is unknown.
        TypeError: a setting has the wrong type.
    """

    num_beams: int = 50
    rank_by: str = "sid"
    items_per_sid: int = MAX_ITEMS_PER_SID
    exclude_history: bool = False
    hidden_views: tuple[str, ...] = ()
    rerank: bool = False
    candidates: str = "beam"
    text_items: int = 50
    text_weight: float = 0.0
    text_popularity: float = 0.0
    dense_weight: float = 0.0

    @property
    def with_text(self) -> bool:
        """Whether items of the text index join those of the beams."""
        return "text" in self.candidates

    @property
    def with_dense(self) -> bool:
        """Whether items of the dense index join those of the beams."""
        return "dense" in self.candidates

    def __post_init__(self) -> None:
        hidden: object = self.hidden_views
        if isinstance(hidden, str):
            raise TypeError(f"hidden_views={hidden!r} must be a list of names")
        object.__setattr__(self, "hidden_views", tuple(self.hidden_views))  # JSON and YAML know lists only
        unknown = [view for view in self.hidden_views if view not in VIEWS]
        if unknown:
            raise ValueError(f"hidden_views holds {unknown[0]!r}; allowed are {', '.join(map(repr, VIEWS))}")
        for name in ("num_beams", "items_per_sid", "text_items"):
            check_count(name, getattr(self, name))
        for name, allowed in {"rank_by": RANKINGS, "candidates": CANDIDATES}.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown; allowed are {', '.join(map(repr, allowed))}")
        for name in ("text_weight", "text_popularity", "dense_weight"):
            check_weight(name, getattr(self, name))
        for name in ("exclude_history", "rerank"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name}={getattr(self, name)!r} must be true or false")

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write `search_config.json` into the folder of a checkpoint; it appears whole or not at all, also after a power cut."""
        path = Path(folder) / SEARCH_CONFIG_NAME
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(json.dumps(asdict(self), indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def from_pretrained(cls, folder_or_repo: str | os.PathLike, **hub: Any) -> SearchConfig:
        """Read the settings of a checkpoint folder or Hub repository.

        Args:
            folder_or_repo: folder or repository of the checkpoint.
            hub: `cache_dir`, `local_files_only`, `token`, `revision` or `subfolder`, as in transformers.

        Returns:
            The saved settings; the defaults where the checkpoint has no `search_config.json`.

        Raises:
            ValueError: the file is damaged, holds an unknown setting or a value that is not allowed; the message names the file.
        """
        from transformers.utils import cached_file  # here, so that reading a recipe does not import transformers

        path = cached_file(folder_or_repo, SEARCH_CONFIG_NAME, _raise_exceptions_for_missing_entries=False, **hub)
        if path is None:
            return cls()
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is damaged ({error}); copy the checkpoint again") from error
        return _checked(cls, values, path)


def _checked(cls: type[SearchConfig], values: Any, path: str) -> SearchConfig:
    """The settings in `values`; the error names the file they come from."""
    names = [part.name for part in fields(cls)]
    if not isinstance(values, Mapping) or not set(values) <= set(names):
        raise ValueError(f"{path} holds {values!r}; expected an object with some of the settings {', '.join(names)}")
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


__all__ = ["CANDIDATES", "SEARCH_CONFIG_NAME", "VIEWS", "SearchConfig", "check_count"]
