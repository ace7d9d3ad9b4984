"""Texts to codes with what a run has frozen: its encoder, its keywords and its codebooks. Search, inspection and append share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from onesearch.files import RunFolder

from .embeddings import load_encoder
from .keyword_files import KEYWORDS_NAME, load_keywords
from .keywords import CoreKeywords
from .quantizers.rq_opq import RQOPQ
from .text_encoder import embed_texts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True, eq=False)
class SidEncoder:
    """Frozen encoder, keywords and codebooks of a run.

    Args:
        run: folder of the run.
        core: its keywords; none if it was built without.
        quantizer: its codebooks.
    """

    run: RunFolder
    core: CoreKeywords
    quantizer: RQOPQ

    @classmethod
    def load(cls, run: RunFolder) -> SidEncoder:
        """Read what `build_sids` left; the text encoder itself is read at first use."""
        quantizer = RQOPQ.from_pretrained(run.require("sids", "onesearch sids build"))
        return cls(run, load_keywords(run.sids / KEYWORDS_NAME, quantizer.digest), quantizer)

    @cached_property
    def encoder(self) -> SentenceTransformer:
        """The run's text encoder."""
        return load_encoder(self.run)

    def embed(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors with keywords in, (texts, dimension) float32, and whether the encoder knows a word of each text, (texts,) bool."""
        plain = embed_texts(self.encoder, texts)
        fused = self.core.fuse(texts, plain)
        return fused, known_rows(fused)

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Codes (texts, levels) int32, and whether the encoder knows a word of each text, (texts,) bool."""
        if not len(texts):
            return np.zeros((0, len(self.quantizer.config.widths)), dtype=np.int32), np.zeros(0, dtype=bool)
        vectors, known = self.embed(texts)
        return self.quantizer.encode(vectors), known


def known_rows(vectors: np.ndarray) -> np.ndarray:
    """(rows,) bool: which vectors are not zero."""
    return vectors.any(axis=1)


def code_centroids(vectors: np.ndarray, first: np.ndarray, width: int) -> np.ndarray:
    """Mean of the vectors (n, dimension) of each level-0 code: (width, dimension) float32, NaN for codes that none has.

    Those of the items themselves, so that they lie where the vectors do whatever a quantizer does to them first.
    """
    from scipy.sparse import csr_matrix

    members = csr_matrix((np.ones(len(first), dtype=np.float32), (first, np.arange(len(first)))), shape=(width, len(first)))
    counts = np.bincount(first, minlength=width).astype(np.float32)
    return np.where(counts[:, None] > 0, members @ vectors / np.maximum(counts, 1)[:, None], np.nan).astype(np.float32)


def centroid_distances(vectors: np.ndarray, first: np.ndarray, centroids: np.ndarray, chunk: int = 65_536) -> np.ndarray:
    """(n,) distance of each vector (n, dimension) to the centroid of its level-0 code `first` (n,); infinite where it has none."""
    distances = np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), chunk):
        part = slice(start, start + chunk)
        distances[part] = np.linalg.norm(vectors[part] - centroids[first[part]], axis=1)
    return np.nan_to_num(distances, nan=np.inf, posinf=np.inf)


__all__ = ["SidEncoder", "centroid_distances", "code_centroids", "known_rows"]
