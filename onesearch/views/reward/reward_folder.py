"""The folder ``reward/`` of a checkpoint: the reward model, the items as it knows them, the memory, and the encoder of queries.

* ``config.json``, ``model.safetensors``: the model.
* ``reward_items.safetensors``: vectors, codes, facets and numbers of own embeddings of the items; ``reward_items.parquet``: their ids;
  ``reward_facets.parquet``: the texts of the facets.
* ``memory.safetensors``: what was counted, and up to which byte of the server's event log; ``memory_queries.parquet``: the queries that it
  was counted under.
* ``reward.json``: kinds of the facets, sizes, and weights of the ranking.
* ``encoder/``: the text encoder, in the format of sentence-transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import pyarrow as pa

from onesearch.data.arrow_tables import as_dataset, conform, table_from_rows
from onesearch.data.market import Market
from onesearch.files import atomic_files, read_json, write_json
from onesearch.parquet_files import read_table, write_table
from onesearch.tokenization_sid.embedding.static_encoder import StaticVectors
from onesearch.tokenization_sid.tensor_files import read_tensors, write_tensors

from .counts import TimedCounts
from .inputs import ItemTable
from .item_files import KnownItems, items_name, load_items, save_items
from .memory import STATISTICS, BehaviourMemory
from .ranking import RankingWeights

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from onesearch.modeling_onesearch.modeling_reward_onesearch import OneSearchRewardModel
    from onesearch.modeling_onesearch.reward_functions_onesearch import PlainRewardModel

FOLDER_NAME = "reward"
"""Folder of the reward model in a checkpoint."""

PREFIX = "reward"
"""First part of the names of the items' files; see `item_files.py`."""

MEMORY_FORMAT = "onesearch-memory/1"

REMEDY = "copy the checkpoint again, or train the reward model with `onesearch reward`"

LOG_END = "log_end"
"""Key of `BehaviourMemory.log_end` in the metadata of the memory's file; absent before the first count of the log."""

COUNTS = ("query_clicked", "query_purchased", "query_leaves", "query_events", "transitions", "departures")
"""Counts of `BehaviourMemory` beside the statistics."""


class RewardParts(NamedTuple):
    """Everything that ranks the candidates of a checkpoint.

    Attributes:
        model: the model.
        table: what is known of the items.
        item_ids: their ids, by row.
        memory: what was counted of them.
        weights: weights of the ranking.
        encoder: makes the text vectors of queries.
        without: groups of inputs that the model was trained without.
    """

    model: OneSearchRewardModel | PlainRewardModel
    table: ItemTable
    item_ids: list[str]
    memory: BehaviourMemory
    weights: RankingWeights
    encoder: SentenceTransformer | StaticVectors
    without: tuple[str, ...] = ()


def save_reward(parts: RewardParts, folder: Path) -> None:
    """Write all parts into a folder. Times of counted events are not kept: a checkpoint counts what happened before it was made.

    Raises:
        TypeError: the parts were read from a folder.
    """
    if isinstance(parts.encoder, StaticVectors):
        raise TypeError("the encoder of these parts was read from a folder in a form that cannot be written; copy that folder")
    cast("OneSearchRewardModel", parts.model).save_pretrained(folder)
    save_items(KnownItems(parts.item_ids, parts.table), folder, PREFIX)
    _save_memory(parts.memory, folder)
    parts.encoder.save(str(folder / "encoder"), create_model_card=False)
    settings = {"kinds": list(parts.table.facets.kinds), "leaves": parts.memory.leaves, "weights": asdict(parts.weights)}
    settings["without"] = list(parts.without)
    write_json(folder / "reward.json", settings)


def _save_memory(memory: BehaviourMemory, folder: Path) -> None:
    counts = {f"statistics_{name}": part for name, part in zip(STATISTICS, memory.statistics)}
    counts |= {name: getattr(memory, name) for name in COUNTS}
    sums = {name: (part.keys, part.sums) for name, part in counts.items()}
    tensors = {f"{name}.{what}": array for name, pair in sums.items() for what, array in zip(("keys", "sums"), pair)}
    metadata = {"format": MEMORY_FORMAT} | ({LOG_END: str(memory.log_end)} if memory.log_end else {})
    write_tensors(folder / "memory.safetensors", tensors, metadata)
    write_table(pa.table({"query": pa.array(list(memory.queries), pa.string())}), folder / "memory_queries.parquet")


def update_memory(folder: Path, sessions: pa.Table, origin: str = "sessions", log_end: int | None = None) -> int:
    """Count new sessions in the memory of a saved reward model, without any training. The file is replaced whole or not at all.

    A session counts each time that it is given: give new ones only. Items that the reward model does not know are left out.

    Args:
        folder: folder ``reward/`` of a checkpoint.
        sessions: rows with the columns of the sessions table, sorted by time.
        origin: name of the table in errors.
        log_end: where these sessions end in the server's event log; it is saved in the same file as the counts. None if they are not from
            there.

    Returns:
        the number of queries that the memory knows afterwards.

    Raises:
        FileNotFoundError: there is no reward model.
        ValueError: the table does not fit, or a file is damaged.
    """
    item_ids, _, memory, _ = _load_tables(folder)
    updated = memory.updated(sessions_market(known_items(item_ids), sessions, origin), log_end)
    with atomic_files(folder, last="memory.safetensors") as new:
        _save_memory(updated, new)
    return len(updated.queries)


def counted_log_end(folder: Path) -> int:
    """The byte of the server's event log up to which the memory of a saved reward model has counted it; see `BehaviourMemory.log_end`.

    Raises:
        FileNotFoundError: there is no memory.
        ValueError: the file is damaged.
    """
    metadata = read_tensors(folder / "memory.safetensors", MEMORY_FORMAT, REMEDY).metadata
    return int(metadata.get(LOG_END, 0))


def add_items(folder: Path, items: pa.Table, texts: Sequence[str], codes: np.ndarray) -> int:
    """Let a saved reward model know further items, without any training. The files are replaced whole or not at all.

    A further item is what is known of it: its text vector, its codes and its facets. It has no embedding of its own, and counts from the
    next `update_memory` on. Items that are known already stay as they are.

    Args:
        folder: folder ``reward/`` of a checkpoint.
        items: rows with the columns of the items table.
        texts: text of each item, for its vector; an empty one gives zeros.
        codes: codes of its Semantic ID, int64 ``(items, levels)``.

    Returns:
        the number of items that were added.

    Raises:
        FileNotFoundError: there is no reward model.
        ValueError: a file is damaged.
    """
    item_ids, table, memory, _ = _load_tables(folder)
    wider = KnownItems(item_ids, table).with_items(items, texts, codes, folder / "encoder")
    added = len(wider.item_ids) - len(item_ids)
    if added:
        with atomic_files(folder, last=items_name(PREFIX)) as temporary:
            save_items(wider, temporary, PREFIX)
            _save_memory(memory.with_items(wider.table.facets.leaf[len(item_ids) :]), temporary)
    return added


def known_items(item_ids: Sequence[str]) -> pa.Table:
    """The items table of items of which the ids alone are known."""
    return conform("items", pa.table({"item_id": pa.array(item_ids, pa.string()), "title": [""] * len(item_ids)}), "items")


def sessions_market(items: pa.Table, sessions: pa.Table, origin: str = "sessions") -> Market:
    """A market of sessions.

    Args:
        items: items table that `known_items` made; a server keeps it, since it takes seconds for millions of items.
        sessions: rows with the columns of the sessions table, sorted by time.
        origin: name of the table in errors.

    Raises:
        ValueError: the table does not have the columns of the sessions table, or is not sorted by time.
    """
    rows = conform("sessions", sessions, origin)
    times = rows.column("time").to_numpy()
    if (np.diff(times) < 0).any():
        row = int(np.argmax(np.diff(times) < 0)) + 1
        raise ValueError(f"{origin}: row {row} is earlier than the row before it; sort the sessions by time")
    tables = {
        "items": items,
        "sessions": rows,
        "users": table_from_rows("users", ()),
        "relevance": table_from_rows("relevance", ()),
    }
    return Market(**{name: as_dataset(table) for name, table in tables.items()}, info={"split": {"method": "none"}})


def load_reward(folder: Path, plain: bool = False) -> RewardParts:
    """Read the folder that `save_reward` wrote.

    Args:
        folder: the folder.
        plain: load the layers alone, without transformers' model class, which takes seconds to import; they can rank and nothing else.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged.
    """
    item_ids, table, memory, settings = _load_tables(folder)
    return RewardParts(
        model=_plain_model(folder) if plain else _model(folder),
        table=table,
        item_ids=item_ids,
        memory=memory,
        weights=RankingWeights(**settings["weights"]),
        encoder=_encoder(folder / "encoder"),
        without=tuple(settings["without"]),
    )


def _model(folder: Path) -> OneSearchRewardModel:
    from onesearch.modeling_onesearch.modeling_reward_onesearch import OneSearchRewardModel

    return OneSearchRewardModel.from_pretrained(folder).eval()


def _plain_model(folder: Path) -> PlainRewardModel:
    from safetensors.torch import load_file

    from onesearch.modeling_onesearch.configuration_reward_onesearch import OneSearchRewardConfig
    from onesearch.modeling_onesearch.reward_functions_onesearch import PlainRewardModel
    from onesearch.uninitialised import Uninitialised

    with Uninitialised():
        model = PlainRewardModel(OneSearchRewardConfig.from_pretrained(folder))
    model.load_state_dict(load_file(folder / "model.safetensors"), assign=True)
    return model.eval()


def _encoder(folder: Path) -> SentenceTransformer | StaticVectors:
    """The saved encoder of queries."""
    static = StaticVectors.load(folder)
    if static is not None:
        return static
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu")


def _load_tables(folder: Path) -> tuple[list[str], ItemTable, BehaviourMemory, dict[str, Any]]:
    """Ids of the items, what is known of them, the memory, and the settings."""
    if not (folder / "reward.json").is_file():
        raise FileNotFoundError(f"{folder} holds no reward model (no reward.json); train one with `onesearch reward`")
    settings: dict[str, Any] = read_json(folder / "reward.json")
    item_ids, table = load_items(folder, PREFIX, settings["kinds"], REMEDY)
    return item_ids, table, _memory(folder, table, settings["leaves"]), settings


def _memory(folder: Path, table: ItemTable, leaves: int) -> BehaviourMemory:
    metadata, tensors = read_tensors(folder / "memory.safetensors", MEMORY_FORMAT, REMEDY)
    queries = read_table(folder / "memory_queries.parquet", REMEDY).column("query").to_pylist()

    def counts(name: str) -> TimedCounts:
        return TimedCounts.whole(tensors[f"{name}.keys"], tensors[f"{name}.sums"])

    return BehaviourMemory(
        items=len(table.vectors),
        leaves=leaves,
        leaf=table.facets.leaf,
        log_end=int(metadata.get(LOG_END, 0)),
        queries={query: number for number, query in enumerate(queries)},
        statistics=tuple(counts(f"statistics_{name}") for name in STATISTICS),
        **{name: counts(name) for name in COUNTS},
    )


__all__ = [
    "FOLDER_NAME",
    "RewardParts",
    "add_items",
    "counted_log_end",
    "known_items",
    "load_reward",
    "save_reward",
    "sessions_market",
    "update_memory",
]
