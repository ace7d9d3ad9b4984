"""The attention of beams to their own codes. Keys and values of a code are kept once, however many beams begin with it.

Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

import torch

from .engines_onesearch import compiled_wanted

FIRST_CAPACITY = 2
"""Steps for whose rows the store of a layer has room at first, counted in rows of the first append; it doubles when it is full."""


class OwnCodes:
    """Keys and values of all codes of a search in one layer, one row for each beam of each step."""

    def __init__(self) -> None:
        self.count = 0
        self.keys = self.values = torch.empty(0)

    def append(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Add the keys and values (rows, width) of one step."""
        stop = self.count + len(keys)
        if stop > len(self.keys):
            room = (max(FIRST_CAPACITY * stop, 2 * len(self.keys)), keys.shape[1])
            for name, own in (("keys", self.keys), ("values", self.values)):
                larger = keys.new_empty(room)
                larger[: self.count] = own[: self.count].view(-1, room[1])
                setattr(self, name, larger)
        self.keys[self.count : stop], self.values[self.count : stop] = keys, values
        self.count = stop


class Places:
    """Rows of `OwnCodes` that hold the codes of each beam; all layers share them."""

    def __init__(self, queries: int) -> None:
        self.rows = torch.arange(queries)[:, None]
        self.count = queries

    def extend(self, parents: torch.Tensor) -> None:
        """Take the next step, whose beams extend the rows `parents` (rows,) of the one before."""
        new = torch.arange(self.count, self.count + len(parents))
        self.rows = torch.cat([self.rows.index_select(0, parents), new[:, None]], 1)
        self.count += len(parents)


def attend_own(query: torch.Tensor, own: OwnCodes, places: torch.Tensor, head_size: int, scaling: float) -> torch.Tensor:
    """Attention of each beam to its own codes.

    Args:
        query: (rows, width).
        own: keys and values of the layer.
        places: (rows, codes) rows of `own`.
        head_size: width of a head.
        scaling: factor of the products.

    Returns:
        (rows, width).
    """
    if compiled_wanted() and query.dtype == torch.float32:
        from .kernels_onesearch import AVAILABLE, attend  # numba takes long to import

        if AVAILABLE:
            mixed = torch.empty_like(query)
            attend(query.numpy(), own.keys.numpy(), own.values.numpy(), places.numpy(), head_size, scaling, mixed.numpy())
            return mixed
    rows, codes = places.shape
    keys, values = (part[places].view(rows, codes, -1, head_size) for part in (own.keys, own.values))
    weights = (keys * query.view(rows, 1, -1, head_size)).sum(-1) * scaling  # (rows, codes, heads)
    return (values * weights.float().softmax(1).to(values.dtype)[..., None]).sum(1).view(query.shape)


__all__ = ["OwnCodes", "Places", "attend_own"]
