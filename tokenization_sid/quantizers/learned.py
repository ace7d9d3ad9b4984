"""Quantizers with a trained autoencoder: RQ-VAE (Lee et al., CVPR 2022; TIGER, NeurIPS 2023) and SimVQ (arXiv 2411.02038).

Training uses the codebooks of `vector-quantize-pytorch` (``pip install onesearch[variants]``); encoding and decoding need numpy alone.
Both start their codebooks from the data: from random codebooks an RQ-VAE uses 8 % of its first level. Sizes and schedule are our choice.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from onesearch.extras import require

from ..parallel.rows import Rows, as_rows, draw
from .base import Quantizer
from .configs import LearnedConfig, RQVAEConfig, SimVQConfig
from .nearest import Centroids

if TYPE_CHECKING:
    import torch
    from torch import nn

Tensors = dict[str, np.ndarray]


class _Learned(Quantizer[LearnedConfig]):
    """Encoder, residual codebooks over the latent vector, decoder.

    The weights are the tensors ``encoder_0`` (inputs, outputs), ``encoder_0_bias``, … and ``decoder_0``, …; the codebooks are
    ``level_0``, …
    """

    @property
    def dimension(self) -> int:
        """Dimension of the vectors."""
        return self.tensors["encoder_0"].shape[0] if self.config.hidden else self.tensors["level_0"].shape[1]

    @classmethod
    def fit(cls, vectors: Rows, config: LearnedConfig) -> Self:
        """Train encoder, codebooks and decoder.

        It uses one thread and a random generator of its own, so that a seed always gives the same codes.

        Args:
            vectors: (n, dimension).
            config: sizes and training.

        Raises:
            ValueError: a value is NaN or infinite, or there are fewer vectors than codes of a level.
            MissingExtraError: `vector-quantize-pytorch` is not installed.
        """
        require("variants", "vector_quantize_pytorch", needed_by=cls.__name__)
        sample = draw(as_rows(vectors), config.training_rows, config.seed)
        largest = max(config.residual_sizes)
        if len(sample) < largest:
            raise ValueError(
                f"{len(sample):,} vectors cannot train {largest:,} codes; lower residual_sizes={config.residual_sizes}"
            )
        return cls(config, _train(cls, sample, config))

    @classmethod
    @abstractmethod
    def _layer(cls, size: int, data: torch.Tensor) -> Any:
        """Codebook of `size` codes that starts from the residuals `data` (n, latent): a module of the library, which has no types.

        Calling it with residuals (1, batch, latent) gives quantised vectors of that shape, codes and a loss.
        """

    def _encode_chunk(self, vectors: np.ndarray, codes: np.ndarray) -> None:
        residual = _perceptron(vectors, self.tensors, "encoder", len(self.config.hidden))
        for level, ready in enumerate(self._ready):
            codes[:, level] = ready.nearest(residual)
            residual = residual - ready.centroids[codes[:, level]]

    @cached_property
    def _ready(self) -> list[Centroids]:
        return [Centroids(book) for book in self.level_centroids]

    def _decode_chunk(self, codes: np.ndarray) -> np.ndarray:
        books = self.level_centroids
        latent = np.zeros((len(codes), books[0].shape[1]), dtype=np.float32)
        for level, book in enumerate(books):
            latent = latent + book[codes[:, level]]
        return _perceptron(latent, self.tensors, "decoder", len(self.config.hidden))


class RQVAE(_Learned):
    """Residual quantisation of an autoencoder's latent vector; codebooks move by exponential averages, and unused codes are replaced."""

    kind = "rq-vae"
    config_class = RQVAEConfig

    @classmethod
    def _layer(cls, size: int, data: torch.Tensor) -> Any:
        from vector_quantize_pytorch import VectorQuantize

        return VectorQuantize(data.shape[1], size, kmeans_init=True, kmeans_iters=10, threshold_ema_dead_code=1, decay=0.9)


class SimVQ(_Learned):
    """Residual levels whose codebook is a trained linear map of frozen vectors.

    The frozen vectors are sampled from the data, and the map starts as the identity. With several residual levels, check the codebook
    utilisation of the first: it may be low even so.
    """

    kind = "sim-vq"
    config_class = SimVQConfig

    @classmethod
    def _layer(cls, size: int, data: torch.Tensor) -> Any:
        import torch
        from vector_quantize_pytorch import SimVQ as Layer

        layer = Layer(data.shape[1], size, rotation_trick=False)
        layer.frozen_codebook.copy_(data[torch.randperm(len(data))[:size]])
        torch.nn.init.eye_(layer.code_transform.weight)
        return layer


class _Modules(NamedTuple):
    """Modules in training: linear layers of the encoder and the decoder, and the codebook of each level."""

    encoder: list[nn.Linear]
    decoder: list[nn.Linear]
    layers: list[Any]


def _train(cls: type[_Learned], vectors: np.ndarray, config: LearnedConfig) -> Tensors:
    """Tensors of the quantizer, trained on `vectors` (n, dimension)."""
    import torch

    with _own_randomness(config.seed):
        data = torch.from_numpy(vectors)
        modules = _start(cls, data, config)
        trained = [*modules.encoder, *modules.decoder, *modules.layers]
        weights = [weight for module in trained for weight in module.parameters()]
        optimizer = torch.optim.Adam(weights, config.learning_rate) if weights else None  # codebooks alone move by averages
        for _ in range(config.steps):
            loss = _loss(modules, data[torch.randint(len(data), (config.batch_size,))], config)
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return _tensors(modules)


def _start(cls: type[_Learned], data: torch.Tensor, config: LearnedConfig) -> _Modules:
    """Random encoder and decoder, and codebooks that start from the latent vectors of a sample of `data` (n, dimension)."""
    import torch

    sizes = [data.shape[1], *config.hidden, config.latent] if config.hidden else []
    modules = _Modules(_linear_layers(sizes), _linear_layers(sizes[::-1]), [])
    with torch.no_grad():
        residual = _forward(modules.encoder, data[torch.randperm(len(data))[: 64 * max(config.residual_sizes)]])
        for size in config.residual_sizes:
            layer = cls._layer(size, residual)
            modules.layers.append(layer)
            quantised, _, _ = layer(residual[None])
            residual = residual - quantised[0]
    return modules


def _loss(modules: _Modules, batch: torch.Tensor, config: LearnedConfig) -> torch.Tensor:
    """Reconstruction error of `batch` (rows, dimension) plus the weighted codebook and commitment terms."""
    import torch

    latent = _forward(modules.encoder, batch)
    residual, total, commitment = latent, torch.zeros_like(latent), latent.new_zeros(())
    for layer in modules.layers:
        quantised, _, loss = layer(residual[None])
        residual = residual - quantised[0].detach()
        total = total + quantised[0]
        commitment = commitment + loss.sum()
    error = ((_forward(modules.decoder, total) - batch) ** 2).sum(dim=1).mean()
    return error + config.commitment * commitment * latent.shape[1]


def _tensors(modules: _Modules) -> Tensors:
    """Codebooks and weights as arrays, in the names of `_Learned`."""
    tensors = {f"level_{level}": layer.codebook.detach().numpy().copy() for level, layer in enumerate(modules.layers)}
    for name, module in (("encoder", modules.encoder), ("decoder", modules.decoder)):
        for place, linear in enumerate(module):
            tensors[f"{name}_{place}"] = linear.weight.detach().numpy().T.copy()
            tensors[f"{name}_{place}_bias"] = linear.bias.detach().numpy().copy()
    return tensors


def _linear_layers(sizes: Sequence[int]) -> list[nn.Linear]:
    from torch import nn

    return [nn.Linear(inputs, outputs) for inputs, outputs in zip(sizes, sizes[1:])]


def _forward(layers: Sequence[nn.Linear], values: torch.Tensor) -> torch.Tensor:
    """Linear layers with ReLU between them."""
    for place, layer in enumerate(layers):
        values = layer(values if not place else values.relu())
    return values


def _perceptron(values: np.ndarray, tensors: Tensors, name: str, hidden: int) -> np.ndarray:
    """Compute `_forward` with numpy: (n, inputs) → (n, outputs) float32.

    It computes in float64, so that after rounding to float32 the result depends neither on the other rows nor on the number of threads.

    Args:
        values: (n, inputs).
        tensors: weights.
        name: ``encoder`` or ``decoder``.
        hidden: number of hidden layers; 0 stands for no layer at all.
    """
    values = values.astype(np.float64)
    for place in range(hidden + 1 if hidden else 0):
        values = values if not place else np.maximum(values, 0)
        values = values @ tensors[f"{name}_{place}"].astype(np.float64) + tensors[f"{name}_{place}_bias"]
    return values.astype(np.float32)


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Run torch on one thread with its own random state; both are restored afterwards."""
    import torch

    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


__all__ = ["RQVAE", "SimVQ"]
