"""The embeddings of a run: one row per item and per distinct query, in safetensors shards, with the encoder that made them.

``embeddings/`` holds ``items-00000.safetensors``, … and ``queries-00000.safetensors``, …, each with the tensor ``embeddings``
(rows, dimension) float32; ``embeddings.json`` with the config of the encoder and the numbers of rows; ``encoder/`` unless the encoder is
an unchanged published transformer; ``alignment.json`` if it is an aligned one; and ``item_facts.json`` if it reads facts of the items.
"""

from __future__ import annotations

import logging
import shutil
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onesearch.data.market import Market
from onesearch.files import RunFolder, atomic_folder, read_json, write_json

from ..item_facts import ItemFacts
from ..parallel.rows import ShardedRows
from ..parallel.shared_rows import make_rows
from ..tensor_files import read_tensors, write_tensors
from .configs import TextEncoderConfig
from .pretrained import load_encoder_named
from .static_encoder import static_module
from .text_encoder import build_text_encoder, embed_texts, refuse_untrained

if TYPE_CHECKING:
    from accelerate import Accelerator
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

ROWS_PER_SHARD = 262_144
"""Number of rows of a shard."""

ROWS_PER_BLOCK = 4096
"""Number of rows that a process embeds at a time. Batches do not cross blocks, so that no vector depends on the number of processes."""

FORMAT = "onesearch-embeddings/1"
"""Format of a shard."""

REMEDY = "make it again with `onesearch sids build --rebuild`"
"""Advice for a damaged shard."""

KINDS = ("items", "queries")
"""Kinds of rows."""

ALIGNMENT_NAME = "alignment.json"

EMBEDDINGS_NAME = "embeddings.json"
"""File with the encoder and the numbers of rows, in the folder of the embeddings."""

PARTS = ("*.safetensors", "*.json", "encoder")
"""Patterns of what the folder of the embeddings holds. Whatever else lies in it stays when it is written anew."""


def embed_market(
    run: RunFolder, config: TextEncoderConfig, progress: bool = False, accelerator: Accelerator | None = None
) -> None:
    """Embed a run's items and distinct queries, and write them to ``embeddings/``, which appears whole or not at all.

    If the run has an aligned encoder (see `alignment.py`), it is used with its frozen facts of the items; otherwise both are made as
    `config` says. The rows of items
    follow the items table, those of queries `distinct_queries`.

    Args:
        run: run with a market.
        config: config of the encoder. For an aligned encoder it is the config of its base.
        progress: show progress bars.
        accelerator: its processes share the rows, and the main one writes; the files are bit for bit those of one process. None embeds
            everything in this process.

    Raises:
        ValueError: the run's encoder was aligned from another one or with other facts, the static encoder would be trained in several
            processes, or a named encoder has not learned the tokens of a fact.
    """
    market = Market.load(run.require("market", "onesearch data"))
    facts = _facts_of(run, market, config)
    encoder = _encoder_of(run, market, config, facts, accelerator)
    texts = {"items": facts.texts(market), "queries": distinct_queries(market)}
    main = accelerator is None or accelerator.is_main_process
    with written_embeddings(run) if main else nullcontext() as folder:
        for kind, part in texts.items():
            logger.info("embedding %s %s", f"{len(part):,}", kind)
            for shard, start in enumerate(range(0, max(len(part), 1), ROWS_PER_SHARD)):
                vectors = _embed_shard(encoder, part[start : start + ROWS_PER_SHARD], progress and main, accelerator)
                if folder is not None:
                    write_tensors(folder / f"{kind}-{shard:05d}.safetensors", {"embeddings": vectors}, {"format": FORMAT})
        if folder is not None:
            _keep_encoder(run, encoder, config, folder)
            facts.save(folder)
            counts = {kind: len(part) for kind, part in texts.items()}
            write_json(folder / EMBEDDINGS_NAME, {"encoder": asdict(config), "rows": counts})
    if accelerator is not None:
        accelerator.wait_for_everyone()


def written_embeddings(run: RunFolder) -> AbstractContextManager[Path]:
    """A block with a temporary folder that takes the place of ``embeddings/``; see `onesearch.files.atomic_folder`."""
    return atomic_folder(run.embeddings, replaces=[EMBEDDINGS_NAME, ALIGNMENT_NAME], parts=PARTS)


def aligned_from(run: RunFolder) -> TextEncoderConfig | None:
    """Config of the encoder that the run's aligned encoder was aligned from; None if the run has no aligned encoder."""
    path = run.embeddings / ALIGNMENT_NAME
    return TextEncoderConfig(**read_json(path)["base"]) if path.is_file() else None


def distinct_queries(market: Market) -> list[str]:
    """Queries of sessions and judgements, each once, in the order of their first appearance, without blank ones."""
    queries = [*market.sessions.data.column("query").to_pylist(), *market.relevance.data.column("query").to_pylist()]
    return [query for query in dict.fromkeys(queries) if query.strip()]


def load_embeddings(run: RunFolder, kind: str) -> np.ndarray:
    """Read all rows of a kind, ``items`` or ``queries``, into memory: (rows, dimension) float32.

    Raises:
        FileNotFoundError: the run has no embeddings of this kind.
        ValueError: the kind is unknown, or a shard is damaged.
    """
    return np.concatenate([read_tensors(path, FORMAT, REMEDY).tensors["embeddings"] for path in _shard_paths(run, kind)])


def embedding_rows(run: RunFolder, kind: str) -> ShardedRows:
    """Rows of `load_embeddings` that stay on disk; a slice reads the rows that it returns, and a shard is checked before its first one."""
    return ShardedRows(_shard_paths(run, kind), expected=FORMAT)


def encoder_name(run: RunFolder) -> str:
    """Folder or name of the encoder that made the run's embeddings, as `load_encoder_named` loads it."""
    name = read_json(run.require("embeddings", "onesearch sids build") / EMBEDDINGS_NAME)["encoder"]["model"]
    return str(run.encoder) if run.encoder.is_dir() else name


def load_encoder(run: RunFolder) -> SentenceTransformer:
    """Load the encoder that made the run's embeddings, on the processor."""
    return load_encoder_named(encoder_name(run), device="cpu")


def load_facts(run: RunFolder) -> ItemFacts:
    """Frozen facts of items that the run's encoder reads; empty if it reads the text fields alone."""
    return ItemFacts.load(run.embeddings)


def _facts_of(run: RunFolder, market: Market, config: TextEncoderConfig) -> ItemFacts:
    """Facts for `embed_market`: those of the run's aligned encoder, or new ones of the market."""
    base = aligned_from(run)
    if base is None:
        return ItemFacts.fit(market, config)
    here, there = (
        {"facts": sorted(part.facts), "bands": part.bands, "core_keywords": part.core_keywords} for part in (config, base)
    )
    if here != there:
        raise ValueError(
            f"{run.encoder} was aligned with {there}, not with {here}; align again with `onesearch sids align`, or remove "
            f"{run.embeddings} to go without alignment"
        )
    return load_facts(run)


def _encoder_of(
    run: RunFolder, market: Market, config: TextEncoderConfig, facts: ItemFacts, accelerator: Accelerator | None
) -> SentenceTransformer:
    """Encoder for `embed_market`: the aligned one of the run, the named one, or the static one, which is trained."""
    from sentence_transformers import SentenceTransformer

    device = None if accelerator is None else str(accelerator.device)
    base = aligned_from(run)
    if base is not None and base.model != config.model:
        raise ValueError(
            f"{run.encoder} was aligned from encoder {base.model or 'static'}, not from {config.model or 'static'}; align again with "
            f"`onesearch sids align`, or remove {run.embeddings} to go without alignment"
        )
    if base is not None:
        return SentenceTransformer(str(run.encoder), device=device if device or base.model else "cpu")
    if config.model is not None:
        refuse_untrained(config, facts)
        return load_encoder_named(config.model, device)
    if accelerator is not None and accelerator.num_processes > 1:
        raise ValueError(
            f"the static encoder is trained in one process, not in {accelerator.num_processes}; run `onesearch sids align` first, "
            "name an encoder with --encoder, or start without torchrun"
        )
    return build_text_encoder(market, config, facts)


def _keep_encoder(run: RunFolder, encoder: SentenceTransformer, config: TextEncoderConfig, folder: Path) -> None:
    """Copy the encoder into `folder`, beside its embeddings, unless it is an unchanged published transformer."""
    if aligned_from(run) is not None:
        shutil.copytree(run.encoder, folder / run.encoder.name)
        shutil.copy2(run.embeddings / ALIGNMENT_NAME, folder)
    elif config.model is None or static_module(encoder) is not None:
        encoder.save(str(folder / run.encoder.name), create_model_card=False)


def _embed_shard(encoder: SentenceTransformer, texts: list[str], progress: bool, accelerator: Accelerator | None) -> np.ndarray:
    """Vectors (texts, dimension) float32 of all `texts`, in every process."""
    return make_rows(
        len(texts), ROWS_PER_BLOCK, lambda block: embed_texts(encoder, texts[block], progress=progress), accelerator
    )


def _shard_paths(run: RunFolder, kind: str) -> list[Path]:
    """Shards of a kind, in the order of their rows."""
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is unknown; allowed are {', '.join(KINDS)}")
    folder = run.require("embeddings", "onesearch sids build")
    paths = sorted(folder.glob(f"{kind}-*.safetensors"))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no {kind}-*.safetensors; make them again with `onesearch sids build`")
    return paths


__all__ = [
    "ALIGNMENT_NAME",
    "EMBEDDINGS_NAME",
    "aligned_from",
    "distinct_queries",
    "embed_market",
    "embedding_rows",
    "encoder_name",
    "load_embeddings",
    "load_encoder",
    "load_facts",
]
