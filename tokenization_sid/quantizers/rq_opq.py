"""RQ-OPQ, the quantizer of OneSearch: residual k-means with a balanced last level, then product codes (arXiv 2509.03236, KHQE step C)."""

from __future__ import annotations

import numpy as np

from .balance import balanced_k_means
from .configs import RQOPQConfig
from .k_means import SWAP_ROUNDS, k_means
from .residual import ResidualQuantizer
from .residual_training import Level


class RQOPQ(ResidualQuantizer[RQOPQConfig]):
    """Residual k-means, followed by optimised product quantisation of what it leaves.

    The codes of the residual levels form a hierarchy; the product codes that follow have no order among themselves. Codebooks are frozen
    once they are saved: new items are encoded with them, and a published SID never moves. Prefer it to the variants unless you reproduce
    another paper.

    Example:
        >>> import numpy as np
        >>> vectors = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
        >>> quantizer = RQOPQ.fit(vectors, RQOPQConfig(residual_sizes=(16, 8), opq=(2, 8)))
        >>> quantizer.encode(vectors).shape
        (400, 4)
        >>> from collections import Counter
        >>> parents = Counter(quantizer.encode(vectors)[:, 0].tolist())
        >>> codes = Counter(map(tuple, quantizer.encode(vectors)[:, :2].tolist()))
        >>> all(count <= -(-parents[parent] // 8) for (parent, _), count in codes.items())  # at most ⌈n / 8⌉ of a parent's n vectors
        True
    """

    kind = "rq-opq"
    config_class = RQOPQConfig

    @classmethod
    def _train_level(cls, residual: np.ndarray, level: int, config: RQOPQConfig, generator: np.random.Generator) -> Level:
        size, last = config.residual_sizes[level], level == len(config.residual_sizes) - 1
        if last and config.balanced != "none" and size > 1:
            return Level(*balanced_k_means(residual, size, max(1, config.iterations // 2), generator))
        rounds = 0 if last and level else SWAP_ROUNDS
        return Level(k_means(residual, size, config.iterations, generator, rounds), None)


__all__ = ["RQOPQ"]
