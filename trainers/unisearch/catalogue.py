"""The catalogue in the joint training: encoded again and again, by the trained weights or by their moving average."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex
from onesearch.modeling_onesearch.modeling_unisearch import UniSearchForConditionalGeneration, UniSearchModel
from onesearch.modeling_onesearch.sim_vq_unisearch import LevelCodebook
from onesearch.serving.item_encoding import EncodedItems, encode_items
from onesearch.tokenization_sid.quantizers.k_means import k_means, lloyd, move_to_means
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

    def report(self, codes: np.ndarray, before: np.ndarray | None, step: int, warns: bool) -> dict[str, Any]:
        """See `refresh_report`; without `warns` no level is named as collapsed."""
        return refresh_report(codes, before, self.codebook_sizes, step, self.config.collapse if warns else 0.0)

    @torch.no_grad()
    def start_codebooks(self, model: UniSearchModel, vectors: torch.Tensor, seed: list[int]) -> np.ndarray:
        """Set the code vectors of each level to k-means centroids of the vectors that it quantises, or to sampled ones (`codebook_start`).

        With `level_input: whole` and k-means this is RQ-KMeans of the sum of each item's vectors.

        Args:
            model: backbone.
            vectors: (items, levels, dim) item vectors of the catalogue.
            seed: seeds the draws.

        Returns:
            (items, levels) codes of the items.
        """
        random = np.random.default_rng([*seed, 18])
        for level, own in self._levels(model, vectors):
            size = len(level.codebook)
            if self.config.codebook_start == "k-means" and len(own) >= size:
                chosen = k_means(own, size, 10, random)
            else:
                chosen = own[random.choice(len(own), size, replace=len(own) < size)]
            level.start_from(torch.from_numpy(np.ascontiguousarray(chosen)).to(vectors.device))
        return model.quantizer(vectors).codes.cpu().numpy()

    @torch.no_grad()
    def refit_codebooks(self, model: UniSearchModel, vectors: torch.Tensor, codes: np.ndarray, seed: list[int]) -> np.ndarray:
        """Let the codebooks follow the item vectors, which have moved as a whole; codes keep their numbers.

        Each code vector moves to the mean of what the items with this code are now, or, where no item has it, beside another one; then
        `refit` of Lloyd's iterations follow.

        Args:
            model: backbone.
            vectors: (items, levels, dim) item vectors of the catalogue.
            codes: (items, levels) codes that the items had so far.
            seed: seeds the places of codes without items.

        Returns:
            (items, levels) new codes of the items.
        """
        random = np.random.default_rng([*seed, 19])
        for place, (level, own) in enumerate(self._levels(model, vectors)):
            centroids = np.zeros((len(level.codebook), own.shape[1]), dtype=np.float32)
            move_to_means(own, codes[:, place], centroids, random)
            lloyd(own, centroids, self.config.refit, random)
            level.start_from(torch.from_numpy(centroids).to(vectors.device))
        return model.quantizer(vectors).codes.cpu().numpy()

    def _levels(self, model: UniSearchModel, vectors: torch.Tensor) -> Iterator[tuple[LevelCodebook, np.ndarray]]:
        """Codebook of each level, and the vectors (items, dim) that it quantises with the code vectors of the levels before."""
        for place, level in enumerate(model.quantizer.levels):
            yield cast(LevelCodebook, level), model.quantizer(vectors).inputs[:, place].cpu().numpy()

    @torch.no_grad()
    def code_vectors(self, model: UniSearchModel, codes: np.ndarray) -> torch.Tensor:
        """Code vectors (items, levels, dim) of codes (items, levels)."""
        books = model.quantizer.level_vectors()
        return torch.stack([book[torch.from_numpy(codes[:, place]).to(book.device)] for place, book in enumerate(books)], dim=1)

    def start_averages(
        self, model: UniSearchModel, parts: tuple[str, ...] = ("item_encoder", "quantizer")
    ) -> dict[str, torch.Tensor]:
        """Moving averages that begin at the current weights of `parts`."""
        tensors = _encoder_tensors(model)
        return {name: tensor.detach().clone() for name, tensor in tensors.items() if name.split(".")[0] in parts}

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
