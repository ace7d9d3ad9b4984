"""Tokenizers with a trained autoencoder: RQ-VAE (Lee et al., CVPR 2022; TIGER, NeurIPS 2023) and SimVQ (arXiv 2411.02038).

Training takes the codebooks of `vector-quantize-pytorch` (``pip install onesearch[variants]``); encoding and decoding need numpy alone.
Both start their codebooks from data: from a random start an RQ-VAE uses 8 % of its first level. Sizes and schedule are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from onesearch.extras import require

from ..parallel.rows import Rows, as_rows, draw
from .base import Quantizer
from .configs import LearnedConfig, RQVAEConfig, SimVQConfig
from .k_means import Centroids

if TYPE_CHECKING:
    import torch


class _Learned(Quantizer):
    """Encoder, residual codebooks over the latent, decoder. Weights are tensors ``encoder_0``, ``encoder_0_bias`` and so on."""

    @property
    def dimension(self) -> int:
        """Size of the vectors."""
        return self.tensors["encoder_0"].shape[0] if self.config.hidden else self.tensors["level_0"].shape[1]

    @classmethod
    def fit(cls, vectors: Rows, config: LearnedConfig) -> Self:
        """Train on `vectors` (n, dimension), on one thread and with a generator of its own, so that a seed gives the same codes.

        Raises:
            ValueError: values that are not finite, or fewer vectors than codes of a level.
            MissingExtraError: `vector-quantize-pytorch` is not installed.
        """
        require("variants", needed_by=f"training {cls.__name__}")
        drawn = draw(as_rows(vectors), config.training_rows, config.seed)
        if len(drawn) < max(config.residual_sizes):
            raise ValueError(f"{len(drawn):,} vectors cannot train {max(config.residual_sizes):,} codes: use narrower levels")
        return cls(config, _train(cls, drawn, config))

    @classmethod
    def _layer(cls, width: int, data: torch.Tensor) -> Any:
        """Codebook of `width` codes that starts from the residuals `data`; called as the library's layers are."""
        raise NotImplementedError

    def _encode_chunk(self, vectors: np.ndarray, codes: np.ndarray) -> None:
        residual = _perceptron(vectors, self.tensors, "encoder", len(self.config.hidden))
        for level, ready in enumerate(self._ready):
            codes[:, level] = ready.nearest(residual)
            residual = residual - ready.centroids[codes[:, level]]

    @cached_property
    def _ready(self) -> list[Centroids]:
        return [Centroids(book) for book in self.level_centroids]

    def _decode_chunk(self, codes: np.ndarray) -> np.ndarray:
        latent = sum(book[codes[:, level]] for level, book in enumerate(self.level_centroids))
        return _perceptron(latent, self.tensors, "decoder", len(self.config.hidden))


class RQVAE(_Learned):
    """Residual VQ of an autoencoder's latent, codebooks moved by exponential averages, unused codes replaced."""

    kind = "rq-vae"
    config_class = RQVAEConfig

    @classmethod
    def _layer(cls, width: int, data: torch.Tensor) -> Any:
        from vector_quantize_pytorch import VectorQuantize

        return VectorQuantize(data.shape[1], width, kmeans_init=True, kmeans_iters=10, threshold_ema_dead_code=1, decay=0.9)


class SimVQ(_Learned):
    """Residual levels whose codebook is a trained linear map of frozen vectors.

    The frozen vectors are drawn from the data and the map starts as the identity. Even so, watch the use of the first of several residual
    levels.
    """

    kind = "sim-vq"
    config_class = SimVQConfig

    @classmethod
    def _layer(cls, width: int, data: torch.Tensor) -> Any:
        import torch
        from vector_quantize_pytorch import SimVQ as Layer

        layer = Layer(data.shape[1], width, rotation_trick=False)
        layer.frozen_codebook.copy_(data[torch.randperm(len(data))[:width]])
        torch.nn.init.eye_(layer.code_transform.weight)
        return layer


def _train(cls: type[_Learned], vectors: np.ndarray, config: LearnedConfig) -> dict[str, np.ndarray]:
    import torch

    with _own_randomness(config.seed):
        data = torch.from_numpy(vectors)
        sizes = [vectors.shape[1], *config.hidden, config.latent] if config.hidden else []
        encoder, decoder = _linear_layers(sizes), _linear_layers(sizes[::-1])
        layers = torch.nn.ModuleList()
        with torch.no_grad():
            residual = _forward(encoder, data[torch.randperm(len(data))[: 64 * max(config.residual_sizes)]])
            for width in config.residual_sizes:
                layers.append(cls._layer(width, residual))
                quantised, _, _ = layers[-1](residual[None])
                residual = residual - quantised[0]
        weights = [*encoder.parameters(), *decoder.parameters(), *layers.parameters()]
        optimizer = torch.optim.Adam(weights, config.learning_rate) if weights else None  # codebooks alone move by averages
        for _ in range(config.steps):
            batch = data[torch.randint(len(data), (config.batch_size,))]
            latent = _forward(encoder, batch)
            residual, total, commitment = latent, 0, 0
            for layer in layers:
                quantised, _, loss = layer(residual[None])
                residual, total, commitment = residual - quantised[0].detach(), total + quantised[0], commitment + loss.sum()
            error = ((_forward(decoder, total) - batch) ** 2).sum(dim=1).mean()
            loss = error + config.commitment * commitment * latent.shape[1]
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        tensors = {f"level_{level}": layer.codebook.detach().numpy().copy() for level, layer in enumerate(layers)}
    for name, module in (("encoder", encoder), ("decoder", decoder)):
        for place, linear in enumerate(module):
            tensors[f"{name}_{place}"] = linear.weight.detach().numpy().T.copy()
            tensors[f"{name}_{place}_bias"] = linear.bias.detach().numpy().copy()
    return tensors


def _linear_layers(sizes: Sequence[int]) -> torch.nn.ModuleList:
    import torch

    return torch.nn.ModuleList(torch.nn.Linear(*pair) for pair in zip(sizes, sizes[1:]))


def _forward(layers: torch.nn.ModuleList, values: torch.Tensor) -> torch.Tensor:
    for place, layer in enumerate(layers):
        values = layer(values if not place else values.relu())
    return values


def _perceptron(values: np.ndarray, tensors: dict[str, np.ndarray], name: str, hidden: int) -> np.ndarray:
    """The same in float64, so that the rows beside and the number of threads do not show after rounding to float32."""
    values = values.astype(np.float64)
    for place in range(hidden + 1 if hidden else 0):
        values = values if not place else np.maximum(values, 0)
        values = values @ tensors[f"{name}_{place}"].astype(np.float64) + tensors[f"{name}_{place}_bias"]
    return values.astype(np.float32)


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Torch on one thread with its own random state; both as before afterwards."""
    import torch

    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
