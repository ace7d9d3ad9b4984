"""Config of the dense term and of its training. Reading one imports neither torch nor transformers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DenseConfig:
    """The dense term s = log p(SID) + γ cos(h, e) of a checkpoint (LIGER, arXiv 2411.18814; COBRA, arXiv 2503.02453).

    h is the text vector of the query plus a projection of the generator's state of the prompt. The projection learns after the generator,
    which stays as it is; LIGER and COBRA train both together. γ is `search.dense_weight`; where that is 0, it is chosen on the validation
    requests, or 10 where there are fewer than 20 of them. All values are our choice.

    Args:
        recall: let the nearest items of the dense index join those of the beams (`candidates: beam+dense`), so that items that the beams
            missed can be found. False only orders the items of the beams.
        epochs: passes over the examples. 0 trains no projection: h is the query's text vector.
        batch_size: examples per step; the targets of the other examples of a batch are negatives.
        learning_rate: learning rate of AdamW.
        temperature: temperature of the softmax over target and negatives. Lowering it stresses the hardest negatives.
        negatives: number of the beam search's best items that are further negatives of each example.
        searches: number of requests that examples are made of, sampled if there are more. Without any request, as many queries are made of
            the catalogue. Raising it costs the time of these searches; on the demo's market 8,000 instead of 2,000 raised HR@10 from 0.436
            to 0.448.
        seed: seeds sampling and shuffling.

    Raises:
        ValueError: a number is out of range.
    """

    recall: bool = True
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 0.003
    temperature: float = 0.05
    negatives: int = 20
    searches: int = 8000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "negatives", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"dense.{name}={getattr(self, name)} is invalid; give at least 0")
        for name, least in (("batch_size", 2), ("searches", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"dense.{name}={getattr(self, name)} is invalid; give at least {least}")
        for name in ("learning_rate", "temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"dense.{name}={getattr(self, name)} is invalid; give a number above 0")


__all__ = ["DenseConfig"]
