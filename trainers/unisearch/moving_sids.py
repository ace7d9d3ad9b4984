"""The Semantic IDs of the catalogue while they move: codes, memory bank, and what a refresh reports (trap: they must change together)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from onesearch.tokenization_sid.sids.diagnostics import measures
from onesearch.tokenization_sid.tensor_files import read_tensors, write_tensors

logger = logging.getLogger(__name__)

STATE_NAME = "unisearch_state.safetensors"
"""File of a trainer's checkpoint with what moves beside the weights."""

FORMAT = "unisearch-state/1"


@dataclass
class MovingSids:
    """State of the Semantic IDs in training.

    Args:
        codes: (items, levels) of the last refresh; targets, histories, index and trie are those of these codes.
        bank: (items, levels, dim) memory bank: the vectors of the last refresh, and of the batches since.
        beams: (examples, negatives) rows that the generator's beams found at the last refresh, -1 for none; no columns without mining.
        averages: moving averages of the item encoder's and quantizer's weights, by name; empty without momentum.
        history: report of each refresh.
    """

    codes: np.ndarray
    bank: torch.Tensor
    beams: np.ndarray
    averages: dict[str, torch.Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write everything but the history, which the trainer's log holds."""
        tensors = {"codes": self.codes, "bank": self.bank.cpu().numpy(), "beams": self.beams}
        tensors |= {f"average.{name}": tensor.cpu().numpy() for name, tensor in self.averages.items()}
        write_tensors(path, tensors, {"format": FORMAT})

    @classmethod
    def load(cls, path: Path, device: torch.device) -> MovingSids:
        """Read the state beside a trainer's checkpoint.

        Raises:
            FileNotFoundError: the checkpoint has none.
            ValueError: the file is damaged.
        """
        tensors = read_tensors(path, FORMAT, "resume from an earlier checkpoint, or train anew").tensors
        averages = {
            name.removeprefix("average."): torch.from_numpy(values.copy()).to(device)
            for name, values in tensors.items()
            if name.startswith("average.")
        }
        bank = torch.from_numpy(tensors["bank"].copy()).to(device)
        return cls(tensors["codes"].copy(), bank, tensors["beams"].copy(), averages)


def refresh_report(
    codes: np.ndarray, before: np.ndarray | None, codebook_sizes: Sequence[int], step: int, collapse: float
) -> dict[str, Any]:
    """Measures of new codes; warns of a level that has collapsed.

    Args:
        codes: (items, levels).
        before: codes of the refresh before; None for the first.
        codebook_sizes: number of codes of each level.
        step: finished training steps.
        collapse: a level that uses a smaller share of the codes that it could use is named in a warning.

    Returns:
        ``sid_step``; for each level l ``utilisation_l`` (used codes over the smaller of codebook and catalogue), ``perplexity_l`` and
        ``churn_l`` (share of items whose code changed); ``churn`` of whole Semantic IDs; ``collisions``, the share of items that share
        their Semantic ID; and ``distinct_sids``.
    """
    found = measures(codes, codebook_sizes)
    report: dict[str, Any] = {"sid_step": step}
    for level, (used, size) in enumerate(zip(found["used_per_level"], codebook_sizes)):
        share = used / min(size, len(codes))
        report[f"utilisation_{level}"] = round(share, 4)
        report[f"perplexity_{level}"] = round(found["perplexity_per_level"][level], 2)
        if share < collapse:
            logger.warning(
                "level %d of the Semantic IDs uses %d of %d codes after %d steps: it has collapsed. Likely causes are: codebooks that "
                "do not follow the item vectors (refit: 0), coarse_to_fine without residual, the token loss reaching the item encoder "
                "(stop_gradient: false), or a learning rate that is too high",
                level, used, size, step,
            )  # fmt: skip
        if before is not None:
            report[f"churn_{level}"] = round(float((codes[:, level] != before[:, level]).mean()), 4)
    if before is not None:
        report["churn"] = round(float((codes != before).any(1).mean()), 4)
    report["collisions"] = round(1 - found["icr_items"], 4)
    report["distinct_sids"] = found["distinct_sids"]
    return report


__all__ = ["STATE_NAME", "MovingSids", "refresh_report"]
