"""Quantizer of UniSearch: k item vectors in, one code per level out.

SimVQ (arXiv 2411.02038) keeps a codebook C of random vectors frozen and learns a linear map: the code vectors are C W + b. A step moves all
of them, also those that no item uses, so that no code is left behind. `tokenization_sid/quantizers/learned.py` has SimVQ for the residuals
of fixed embeddings, with the layer of a library that a checkpoint on the Hub cannot import. Here each of the k levels has a codebook of its
own, and the vectors move.
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init

from .item_encoder_unisearch import bounded_sums, partial_sums

if TYPE_CHECKING:
    from .configuration_unisearch import UniSearchConfig


class Quantised(NamedTuple):
    """Item vectors after quantisation.

    Args:
        codes: (items, levels).
        vectors: (items, levels, dim) code vectors; their gradient goes to the item vectors, see `sid_gradient`.
        codebook_loss: (items, levels) squared distance of the code vector to the item vector, which is held fixed.
        commitment_loss: (items, levels) the same with the code vector held fixed.
        inputs: (items, levels, dim) vectors that the levels quantised; see `sid_input`.
    """

    codes: torch.Tensor
    vectors: torch.Tensor
    codebook_loss: torch.Tensor
    commitment_loss: torch.Tensor
    inputs: torch.Tensor


class LevelCodebook(nn.Module):
    """Codebook of one level.

    Args:
        size: number of codes.
        dim: dimension of the vectors.
        kind: see `UniSearchConfig.sid_quantizer`. `"sim-vq"` has a frozen codebook and a map, `"vq"` a learned codebook.
    """

    def __init__(self, size: int, dim: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.map = nn.Linear(dim, dim) if kind == "sim-vq" else None
        if kind == "vq":
            self.codebook = nn.Parameter(torch.zeros(size, dim))
        else:
            self.register_buffer("codebook", torch.zeros(size, dim))

    def vectors(self) -> torch.Tensor:
        """Code vectors (codes, dim): C W + b for SimVQ, else the codebook itself."""
        return self.codebook if self.map is None else self.map(self.codebook)

    def reset_parameters(self) -> None:
        """Gaussian codebook of expected length 1, and the identity as its map."""
        init.normal_(self.codebook, std=self.codebook.shape[1] ** -0.5)
        if self.map is not None:
            init.eye_(self.map.weight)
            init.zeros_(self.map.bias)

    @torch.no_grad()
    def start_from(self, vectors: torch.Tensor) -> None:
        """Take the code vectors from data: they become the codebook of SimVQ, too, and its map the identity.

        Args:
            vectors: (codes, dim).
        """
        self.codebook.copy_(vectors)
        if self.map is not None:
            nn.init.eye_(self.map.weight)
            nn.init.zeros_(self.map.bias)


class SidQuantizer(nn.Module):
    """Codebooks of all levels.

    Args:
        config: configuration of the model.
    """

    def __init__(self, config: UniSearchConfig) -> None:
        super().__init__()
        self.gradient, self.input, self.bound = config.sid_gradient, config.sid_input, config.vector_bound
        dim = cast(int, config.item_dim)
        self.levels = nn.ModuleList(LevelCodebook(size, dim, config.sid_quantizer) for size in config.sid_codebook_sizes)

    def forward(self, vectors: torch.Tensor) -> Quantised:
        """Quantise item vectors d¹ … dᵏ.

        Args:
            vectors: (items, levels, dim).
        """
        codes, chosen, inputs = [], [], []
        coded = torch.zeros_like(vectors[:, 0])  # sum of the code vectors so far
        for level, target in zip(self.levels, self.targets(vectors).unbind(1)):
            book = cast(LevelCodebook, level).vectors()
            own = target - coded
            code = nearest(own, book)
            codes.append(code)
            chosen.append(F.embedding(code, book))
            inputs.append(own)
            if self.input != "own":
                coded = coded + chosen[-1].detach()
        own, picked = torch.stack(inputs, 1), torch.stack(chosen, 1)
        estimate = rotated if self.gradient == "rotation" else straight_through
        return Quantised(
            codes=torch.stack(codes, 1),
            vectors=estimate(own, picked.detach()),
            codebook_loss=(picked - own.detach()).square().sum(-1),
            commitment_loss=(own - picked.detach()).square().sum(-1),
            inputs=own,
        )

    def targets(self, vectors: torch.Tensor) -> torch.Tensor:
        """Vectors (items, levels, dim) that the codes up to each level stand for together, or that the code stands for with `own` input.

        Args:
            vectors: (items, levels, dim) d¹ … dᵏ.
        """
        if self.input == "own":
            return vectors
        if self.input == "partial":
            return partial_sums(vectors, vectors, self.bound)
        return bounded_sums(vectors.sum(1, keepdim=True), self.bound).expand_as(vectors)

    def soft_codes(self, vectors: torch.Tensor, temperature: float) -> list[torch.Tensor]:
        """Probabilities (items, codes) of each level's codes: the softmax of −‖d − c‖² / temperature.

        Args:
            vectors: (items, levels, dim).
            temperature: a smaller one puts more probability on the nearest code.
        """
        books, inputs = self.level_vectors(), self(vectors).inputs
        return [(-distances(inputs[:, place], book) / temperature).softmax(-1) for place, book in enumerate(books)]

    def level_vectors(self) -> list[torch.Tensor]:
        """Code vectors (codes, dim) of each level."""
        return [cast(LevelCodebook, level).vectors() for level in self.levels]


def distances(vectors: torch.Tensor, book: torch.Tensor) -> torch.Tensor:
    """Squared distances (n, codes) of `vectors` (n, dim) to `book` (codes, dim), in float32 also under autocast."""
    with torch.autocast(vectors.device.type, enabled=False):
        vectors, book = vectors.float(), book.float()
        return vectors.square().sum(-1, keepdim=True) - 2 * vectors @ book.T + book.square().sum(-1)


@torch.no_grad()
def nearest(vectors: torch.Tensor, book: torch.Tensor) -> torch.Tensor:
    """Number (n,) of the code vector that is nearest to each of `vectors` (n, dim)."""
    return distances(vectors, book).argmin(-1)


def straight_through(vectors: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """The code vectors `chosen`, with the gradient of `vectors`; both (..., dim)."""
    return vectors + (chosen - vectors).detach()


def rotated(vectors: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """The code vectors `chosen`, with the gradient rotated and scaled as d is to become its code vector (arXiv 2410.06424, eq. 4).

    With unit vectors d̂ and ĉ and r = (d̂ + ĉ) / ‖d̂ + ĉ‖ the rotation is R = I − 2 r rᵀ + 2 ĉ d̂ᵀ, and the result (‖c‖ / ‖d‖) R d, where all
    but d is held fixed. Both arguments are (..., dim).
    """
    lengths = vectors.norm(dim=-1, keepdim=True).clamp(min=1e-6).detach()
    unit, target = (vectors / lengths).detach(), F.normalize(chosen, dim=-1)
    between = F.normalize(unit + target, dim=-1)
    turned = (
        vectors - 2 * between * (between * vectors).sum(-1, keepdim=True) + 2 * target * (unit * vectors).sum(-1, keepdim=True)
    )
    return turned * (chosen.norm(dim=-1, keepdim=True) / lengths)


__all__ = ["LevelCodebook", "Quantised", "SidQuantizer", "distances", "nearest", "rotated", "straight_through"]
