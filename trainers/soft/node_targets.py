r"""The teacher's masses over items as distributions over codes: one at each node of a path in the trie.

Let $m_i$ be the teacher's mass of item $i$, and $s_i$ its Semantic ID. After the codes $c_1 \dots c_{l-1}$ the teacher expects

$$q(c \mid c_1 \dots c_{l-1}) = \frac{M(c_1 \dots c_{l-1} c)}{M(c_1 \dots c_{l-1})}, \qquad
M(c_1 \dots c_l) = \sum_{i: s_i \text{ begins with } c_1 \dots c_l} m_i$$

A node under which the teacher has no item has no distribution. By the chain rule, the divergences of the nodes along paths that are drawn
from the masses add up, on average, to the divergence of the two distributions over items.
"""

from __future__ import annotations

import torch


def node_weights(sids: torch.Tensor, masses: torch.Tensor, paths: torch.Tensor) -> torch.Tensor:
    """Share of each item in the mass of every node along some paths.

    Args:
        sids: (rows, items, levels) codes of the teacher's items; any where the mass is 0.
        masses: (rows, items) masses, at least 0.
        paths: (rows, paths, levels) codes of Semantic IDs.

    Returns:
        (rows, paths, levels, items): at each level the shares of the items that begin with the codes of the path before it. They add up to
        1, or to 0 where the teacher has no such item.
    """
    before = (sids[:, None] == paths[:, :, None]).cumprod(-1)[..., :-1]  # (rows, paths, items, levels - 1)
    begins = torch.nn.functional.pad(before, (1, 0), value=1)  # every item begins with no code
    inside = masses[:, None, None] * begins.transpose(2, 3)
    total = inside.sum(-1, keepdim=True)
    return torch.where(total > 0, inside / total.clamp(min=torch.finfo(total.dtype).tiny), 0.0)


def code_distribution(weights: torch.Tensor, codes: torch.Tensor, size: int) -> torch.Tensor:
    """Shares of the codes of a level.

    Args:
        weights: (n, items) shares of the items; see `node_weights`.
        codes: (n, items) code of each item at the level; any where the share is 0.
        size: number of codes of the level.

    Returns:
        (n, size); a row adds up to 1, or to 0 where the teacher has no item.
    """
    return weights.new_zeros((len(weights), size)).scatter_add(1, codes.clamp(0, size - 1), weights)


def divergence(expected: torch.Tensor, log_probs: torch.Tensor) -> torch.Tensor:
    """KL(expected ‖ model) of each row, (n,); 0 where nothing is expected.

    Args:
        expected: (n, codes) shares of the teacher, which take no gradient.
        log_probs: (n, codes) log-probabilities of the model.
    """
    return (torch.xlogy(expected, expected) - expected * log_probs).sum(-1)


__all__ = ["code_distribution", "divergence", "node_weights"]
