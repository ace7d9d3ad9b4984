"""Which candidates of a request are chosen and rejected. Reading it imports neither torch nor transformers."""

from __future__ import annotations

from dataclasses import dataclass

ORDERS = ("changes", "whole")
"""Parts of the reward model's order that lists are made of; see `BeamListConfig.order`."""


@dataclass(frozen=True)
class BeamListConfig:
    """Lists from the reward model's order of the policy's beams (phase 1). The paper gives no numbers: all are our choice.

    Args:
        num_beams: beams that the policy searches a request with. More beams show the reward model more candidates, and cost time.
        chosen: number of the reward model's best candidates that may head a list.
        tail: number of the reward model's last candidates that are rejected, even if they were last before.
        order: ``changes`` takes what the paper describes: promoted candidates are chosen, demoted ones and the tail rejected. ``whole``
            lets each of the best `chosen` candidates head a list of all candidates behind it, so that the policy learns the order itself
            (our choice).
        clicked: let clicked and bought candidates head lists, wherever the reward model ranks them, and reject none of them.

    Raises:
        ValueError: a number is out of range, or `order` is unknown.
    """

    num_beams: int = 50
    chosen: int = 10
    tail: int = 10
    order: str = "changes"
    clicked: bool = True

    def __post_init__(self) -> None:
        for name in ("num_beams", "chosen"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.tail < 0:
            raise ValueError(f"tail={self.tail} must be at least 0")
        if self.order not in ORDERS:
            raise ValueError(f"order={self.order!r}: allowed are {' and '.join(map(repr, ORDERS))}")


__all__ = ["ORDERS", "BeamListConfig"]
