"""The catalogue in the joint training: encoded again and again, by the trained weights or by their moving average."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex
from onesearch.modeling_onesearch.modeling_unisearch import UniSearchForConditionalGeneration, UniSearchModel
from onesearch.serving.item_encoding import EncodedItems, encode_items
from onesearch.tokenization_sid.quantizers.configs import RQKMeansConfig
from onesearch.tokenization_sid.quantizers.k_means import k_means
from onesearch.tokenization_sid.quantizers.variants import RQKMeans
from onesearch.views.item_inputs import ItemInputs

from .examples import JointExamples
from .moving_sids import refresh_report
from .unisearch_config import NegativeSchedule, UniSearchTrainingConfig

MINED_AT_ONCE = 64
"""Prompts whose beams are searched at once."""


class Catalogue:
    """Items of the market with the settings of the training.

    Args:
        inputs: inputs of the item encoder.
        config: settings.
        make_index: makes the item index of new codes (items, levels).
    """

    def __init__(
        self, inputs: ItemInputs, config: UniSearchTrainingConfig, make_index: Callable[[np.ndarray], SidIndex]
    ) -> None:
        self.inputs, self.config, self.make_index = inputs, config, make_index
        self.codebook_sizes: tuple[int, ...] = ()

    def encode(
        self, model: UniSearchForConditionalGeneration, accelerator: Accelerator, averages: dict[str, torch.Tensor]
    ) -> EncodedItems:
        """Encode the catalogue, each process its share; all get the whole.

        Args:
            model: the model without wrappers.
            accelerator: the processes.
            averages: moving averages that encode instead of the model's own weights; empty for none.
        """
        self.codebook_sizes = tuple(model.config.sid_codebook_sizes)
        backbone, kept = model.model, {}
        if averages:
            kept = {name: tensor.detach().clone() for name, tensor in _encoder_tensors(backbone).items()}
            self.use_averages(backbone, averages)
        count, processes = len(self.inputs), accelerator.num_processes
        share = -(-count // processes)
        rows = np.minimum(np.arange(share) + accelerator.process_index * share, count - 1)
        own = encode_items(backbone, self.inputs, rows)
        if kept:
            self.use_averages(backbone, kept)
        if processes == 1:
            return own
        parts = [accelerator.gather(torch.from_numpy(array).to(accelerator.device)).cpu().numpy()[:count] for array in own]
        return EncodedItems(*parts)

    def report(self, codes: np.ndarray, before: np.ndarray | None, step: int) -> dict[str, Any]:
        """See `refresh_report`."""
        return refresh_report(codes, before, self.codebook_sizes, step, self.config.collapse)

    @torch.no_grad()
    def start_codebooks(self, model: UniSearchModel, vectors: torch.Tensor, seed: int) -> None:
        """Set the code vectors of each level to k-means centroids of the catalogue's vectors, or to sampled ones.

        Args:
            model: backbone.
            vectors: (items, levels, dim).
            seed: seeds the draws.
        """
        random = np.random.default_rng([seed, 18])
        for place, level in enumerate(model.quantizer.levels):
            own = model.quantizer(vectors).inputs[:, place].cpu().numpy()  # of the codebooks before, which have started
            size = len(level.codebook)  # type: ignore[arg-type]
            if self.config.codebook_start == "k-means" and len(own) >= size:
                chosen = k_means(own, size, 10, random)
            else:
                chosen = own[random.choice(len(own), size, replace=len(own) < size)]
            level.start_from(torch.from_numpy(np.ascontiguousarray(chosen)).to(vectors.device))  # type: ignore[operator]

    @torch.no_grad()
    def revive_codes(self, model: UniSearchModel, codes: np.ndarray, vectors: torch.Tensor, seed: list[int]) -> None:
        """Give the codes of each level that no item uses the vectors of random items.

        Args:
            model: backbone.
            codes: (items, levels) codes in use.
            vectors: (items, levels, dim).
            seed: seeds the draws.
        """
        random = np.random.default_rng([*seed, 19])
        for place, level in enumerate(model.quantizer.levels):
            unused = np.setdiff1d(np.arange(len(level.codebook)), codes[:, place])  # type: ignore[arg-type]
            rows = random.choice(len(codes), len(unused), replace=len(unused) > len(codes))
            device, inputs = vectors.device, model.quantizer(vectors).inputs[:, place]
            level.move_codes(torch.from_numpy(unused).to(device), inputs[torch.from_numpy(rows).to(device)])  # type: ignore[operator]

    @torch.no_grad()
    def code_vectors(self, model: UniSearchModel, codes: np.ndarray) -> torch.Tensor:
        """Code vectors (items, levels, dim) of codes (items, levels)."""
        books = model.quantizer.level_vectors()
        return torch.stack([book[torch.from_numpy(codes[:, place]).to(book.device)] for place, book in enumerate(books)], dim=1)

    @torch.no_grad()
    def fit_residual(self, model: UniSearchModel, vectors: torch.Tensor, seed: int) -> None:
        """Two stages: codebooks of RQ-KMeans over the sum of each item's vectors (items, levels, dim)."""
        config = RQKMeansConfig(residual_sizes=tuple(model.config.sid_codebook_sizes), seed=seed)
        fitted = RQKMeans.fit(vectors.sum(1).cpu().numpy(), config)
        for level, book in zip(model.quantizer.levels, fitted.level_centroids):
            level.start_from(torch.from_numpy(np.array(book)).to(vectors.device))  # type: ignore[operator]

    def start_averages(self, model: UniSearchModel) -> dict[str, torch.Tensor]:
        """Moving averages that begin at the current weights."""
        return {name: tensor.detach().clone() for name, tensor in _encoder_tensors(model).items()}

    @torch.no_grad()
    def move_averages(self, model: UniSearchModel, averages: dict[str, torch.Tensor]) -> None:
        """average ← momentum · average + (1 − momentum) · weight; the codebooks' frozen vectors are taken over as they are."""
        for name, tensor in _encoder_tensors(model).items():
            if name not in averages:
                continue
            if isinstance(tensor, nn.Parameter):
                averages[name].lerp_(tensor, 1 - self.config.momentum)
            else:
                averages[name].copy_(tensor)

    @torch.no_grad()
    def use_averages(self, model: UniSearchModel, averages: dict[str, torch.Tensor]) -> None:
        """Copy moving averages into the model; nothing happens without any."""
        tensors = _encoder_tensors(model)
        for name, average in averages.items():
            tensors[name].copy_(average)

    def mine(self, model: UniSearchForConditionalGeneration, examples: JointExamples, schedule: NegativeSchedule) -> np.ndarray:
        """Items that the generator's beam finds for a sample of the examples, which are hard negatives.

        Returns:
            (examples, `schedule.count`) rows, -1 for none; no columns if the schedule asks for no beams.
        """
        if not schedule.beam or not schedule.beam_rows:
            return np.full((len(examples), 0), -1, dtype=np.int64)
        found = np.full((len(examples), schedule.count), -1, dtype=np.int64)
        index, device, was_training = model.sid_index, model.device, model.training
        if index is None:
            raise ValueError("the model has no item index whose beams could be mined")
        row_of = {item_id: row for row, item_id in enumerate(index.item_ids)}
        rows = np.arange(0, len(examples), max(len(examples) // schedule.beam_rows, 1))[: schedule.beam_rows]
        model.eval()
        for start in range(0, len(rows), MINED_AT_ONCE):
            part = rows[start : start + MINED_AT_ONCE]
            prompts = {name: torch.from_numpy(values).to(device) for name, values in examples.prompts_of(part).items()}
            for row, hits in zip(part, model.search(**prompts, num_beams=schedule.count, top_k=schedule.count)):
                found[row, : len(hits)] = [row_of[hit.item_id] for hit in hits]
        model.train(was_training)
        return found


def _encoder_tensors(model: UniSearchModel) -> dict[str, torch.Tensor]:
    """Parameters and buffers of item encoder and quantizer by name."""
    modules = {"item_encoder": model.item_encoder, "quantizer": model.quantizer}
    return {
        f"{prefix}.{name}": tensor
        for prefix, module in modules.items()
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]
        if tensor.is_floating_point()
    }


__all__ = ["MINED_AT_ONCE", "Catalogue"]
