"""The embeddings of a run: one row per item and per distinct query, in safetensors shards, with the encoder that made them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from onesearch.data.market import Market
from onesearch.data.text import item_texts
from onesearch.files import RunFolder, atomic_folder, read_json, write_json

from .text_encoder import TextEncoderConfig, build_text_encoder, embed_texts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

ROWS_PER_SHARD = 262_144
KINDS = ("items", "queries")


def embed_market(run: RunFolder, config: TextEncoderConfig, progress: bool = False) -> None:
    """Make the encoder of a run and embed its items and distinct queries into ``embeddings/``; the folder appears whole or not at all.

    Rows of items follow the items table; rows of queries follow `distinct_queries`.
    """
    market = Market.load(run.require("market", "onesearch data"))
    encoder = build_text_encoder(market, config)
    texts = {"items": item_texts(market), "queries": distinct_queries(market)}
    with atomic_folder(run.embeddings) as folder:
        if config.model is None:
            encoder.save(str(folder / run.encoder.name), create_model_card=False)
        for kind, part in texts.items():
            logger.info("embedding %s %s", f"{len(part):,}", kind)
            for shard, start in enumerate(range(0, max(len(part), 1), ROWS_PER_SHARD)):
                vectors = embed_texts(encoder, part[start : start + ROWS_PER_SHARD], progress=progress)
                save_file({"embeddings": vectors}, folder / f"{kind}-{shard:05d}.safetensors")
        counts = {kind: len(part) for kind, part in texts.items()}
        write_json(folder / "embeddings.json", {"encoder": asdict(config), "rows": counts})


def distinct_queries(market: Market) -> list[str]:
    """Queries of sessions and judgements, each once, in order of first appearance; blank ones left out."""
    queries = [*market.sessions.data.column("query").to_pylist(), *market.relevance.data.column("query").to_pylist()]
    return [query for query in dict.fromkeys(queries) if query.strip()]


def load_embeddings(run: RunFolder, kind: str) -> np.ndarray:
    """All rows of ``items`` or ``queries``, (rows, dimension) float32."""
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is unknown; allowed are {', '.join(KINDS)}")
    run.require("embeddings", "onesearch sids build")
    return np.concatenate(list(_shards(run.embeddings, kind)))


def load_encoder(run: RunFolder) -> SentenceTransformer:
    """The encoder that made the run's embeddings."""
    from sentence_transformers import SentenceTransformer

    name = read_json(run.require("embeddings", "onesearch sids build") / "embeddings.json")["encoder"]["model"]
    return SentenceTransformer(name or str(run.encoder), device="cpu")


def encode_queries(encoder: SentenceTransformer, queries: Sequence[str]) -> np.ndarray:
    """Unit vectors of queries, (queries, dimension)."""
    return embed_texts(encoder, list(queries))


def _shards(folder: Path, kind: str) -> Iterator[np.ndarray]:
    paths = sorted(folder.glob(f"{kind}-*.safetensors"))
    if not paths:
        raise FileNotFoundError(f"{folder} holds no {kind}-*.safetensors; make them again with `onesearch sids build`")
    for path in paths:
        try:
            yield load_file(path)["embeddings"]
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}); make it again with `onesearch sids build --rebuild`") from error
