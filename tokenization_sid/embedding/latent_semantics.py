"""Latent semantic analysis: a vector of every token by the texts that it stands in."""

from __future__ import annotations

import numpy as np

from ..parallel.threads import fixed_threads
from ..ragged import Ragged


def latent_semantic_vectors(tokens: Ragged, size: int, dimension: int, seed: int) -> np.ndarray:
    """Token vectors by latent semantic analysis.

    1. Weight the counts of tokens in texts by inverse document frequency (idf) and a logarithm. If every token is in every text, as in
       a catalogue of equal titles, all idf are 0: then each counts as 1.
    2. Factorise the (texts, vocabulary) matrix by a truncated SVD, and take the right singular vectors.
    3. Scale each token's vector by its idf, and all vectors to a mean length of 1.

    Args:
        tokens: tokens of each text.
        size: size of the vocabulary.
        dimension: size of the vectors.
        seed: seed of the factorisation.

    Returns:
        (size, dimension) float32; next to zero for a token that no text has.
    """
    from scipy.sparse import csr_matrix
    from sklearn.utils.extmath import randomized_svd

    texts = len(tokens)
    counts = csr_matrix((np.ones(len(tokens.values), dtype=np.float32), tokens.values, tokens.offsets), shape=(texts, size))
    counts.sum_duplicates()
    document_frequency = np.bincount(counts.indices, minlength=size)
    idf = np.log((1 + texts) / (1 + document_frequency)).astype(np.float32)
    if not idf[counts.indices].any():
        idf = np.ones_like(idf)
    weighted = counts.multiply(idf).tocsr()
    weighted.data = np.log1p(weighted.data)
    rank = min(dimension, max(min(weighted.shape) - 1, 1))
    with fixed_threads(1):  # its matrix products and factorisations round by the number of threads, in two of three values
        _, _, right = randomized_svd(weighted, n_components=rank, random_state=seed)
    vectors = np.zeros((size, dimension), dtype=np.float32)
    vectors[:, :rank] = right.T * idf[:, None]
    mean_length = float(np.linalg.norm(vectors, axis=1).mean()) or 1.0
    return vectors / mean_length


__all__ = ["latent_semantic_vectors"]
