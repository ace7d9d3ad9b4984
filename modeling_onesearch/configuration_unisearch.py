"""Configuration of UniSearch: OneSearch's encoder-decoder as the search generator, plus an item encoder and a quantizer in one model.

Annotations are evaluated here (no `from __future__`): `strict` does not check fields whose type is a string.
Travels to the Hub with the weights: imports nothing of this package.
"""

from dataclasses import dataclass
from typing import Any, cast

from huggingface_hub.dataclasses import strict

from .configuration_onesearch import OneSearchConfig, _Vocabulary, check_heads, check_sizes

QUANTIZERS = ("sim-vq", "vq")
"""Allowed values of `sid_quantizer`."""

LEVEL_INPUTS = ("whole", "partial", "own")
"""Allowed values of `sid_input`."""

GRADIENTS = ("straight-through", "rotation")
"""Allowed values of `sid_gradient`."""

BOUNDS = ("sphere", "ball")
"""Allowed values of `vector_bound`."""

ITEM_LIMITS = {
    "item_layers": 256,
    "item_attention_heads": 1024,
    "item_ffn_dim": 2**20,
    "item_max_tokens": 2**16,
    "item_dim": 2**16,
}
"""Largest values of the sizes of the item encoder: a damaged or hostile configuration is refused at once."""


class _Sizes(_Vocabulary):
    """Types of the fields that the checks below read; a configuration has them from its other parents."""

    d_model: int | None


@dataclass(init=False, repr=False, eq=False)  # fields only: the rest is the parent configuration's
class ItemFields(_Sizes):
    """Fields of the item encoder and of the quantizer. The paper gives no value but the 6 layers of its smaller model.

    Args:
        item_layers (`int`, defaults to 6):
            Layers of the item encoder.
        item_attention_heads (`int`, *optional*):
            Attention heads of the item encoder; defaults to `encoder_attention_heads`.
        item_ffn_dim (`int`, *optional*):
            Width of its feed-forward layers; defaults to `encoder_ffn_dim`.
        item_max_tokens (`int`, defaults to 48):
            Most tokens of an item's text; the rest is cut.
        item_dim (`int`, *optional*):
            Dimension of the item vectors d and of the query vector q; defaults to `d_model`.
        item_features (`int`, defaults to 0):
            Dimension of the multimodal features of an item, such as an embedding of its frames; 0 reads none.
        item_statistics (`list[str]`):
            Names of the numbers of an item that the encoder reads, for instance `["price", "click_count"]`.
        item_causal (`bool`, defaults to `False`):
            Each place of an item's input attends to itself and the places before it. A note on the paper says that its encoder does so;
            BERT's attention is bidirectional.
        sid_quantizer (`str`, defaults to `"sim-vq"`):
            `"sim-vq"`: code vectors are a learned linear map of a frozen codebook, one for each of the k item vectors (the paper's choice).
            `"vq"`: code vectors are learned themselves, which is known to collapse.
        sid_input (`str`, defaults to `"whole"`):
            Vector that level n quantises; the paper does not say it. `"whole"`: the rest of d¹ + … + dᵏ that the codes before it left, as
            residual quantisation does, so that levels complement each other. `"partial"`: the same of d¹ + … + dⁿ. `"own"`: dⁿ alone;
            later levels then mostly repeat the first. Both sums are bounded as `vector_bound` says.
        sid_gradient (`str`, defaults to `"straight-through"`):
            Gradient of a quantised vector with respect to the item vector: `"straight-through"` copies it, `"rotation"` rotates and scales
            it by the transformation of the item vector into its code vector (arXiv 2410.06424).
        vector_bound (`str`, defaults to `"sphere"`):
            The similarity 1 − ‖q − d‖² needs bounded norms. `"sphere"`: q, and each sum of item vectors that it is compared with, have
            length 1, so that the similarity is 2 cos − 1. `"ball"`: q and each item vector have length 1 at most, and sums stay as they
            are. Both are our choice; the paper gives none.
    """

    item_layers: int = 6
    item_attention_heads: int | None = None
    item_ffn_dim: int | None = None
    item_max_tokens: int = 48
    item_dim: int | None = None
    item_features: int = 0
    item_statistics: list[str] | tuple[str, ...] = ()
    item_causal: bool = False
    sid_quantizer: str = "sim-vq"
    sid_input: str = "whole"
    sid_gradient: str = "straight-through"
    vector_bound: str = "sphere"

    def _check_items(self) -> None:
        """Raise ValueError if a size is out of range, or a setting is unknown."""
        check_sizes(self, ITEM_LIMITS)
        check_heads("item_attention_heads", cast(int, self.item_attention_heads), "d_model", cast(int, self.d_model))
        if not 0 <= self.item_features <= 2**16:
            raise ValueError(f"item_features={self.item_features}: allowed are 0 (none) to {2**16}")
        self.item_statistics = [str(name) for name in self.item_statistics]
        if len(set(self.item_statistics)) < len(self.item_statistics):
            raise ValueError(f"item_statistics={self.item_statistics} names one twice")
        choices = {
            "sid_quantizer": QUANTIZERS,
            "sid_input": LEVEL_INPUTS,
            "sid_gradient": GRADIENTS,
            "vector_bound": BOUNDS,
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r}: allowed are {', '.join(map(repr, allowed))}")


@strict
class UniSearchConfig(ItemFields, OneSearchConfig):
    r"""Configuration of UniSearch (arXiv 2509.06887): item encoder, quantizer and search generator.

    It has all fields of [`OneSearchConfig`], which are those of the search generator, and of [`ItemFields`]. The Semantic IDs have one
    level for each of the item encoder's k learnable tokens: k is the number of `sid_codebook_sizes`.

    Raises:
        ValueError: the Semantic IDs do not fit into the vocabulary, or a size is not within its limits.

    Example:

    ```python
    >>> from onesearch import UniSearchConfig

    >>> config = UniSearchConfig(vocab_size=1000, sid_codebook_sizes=[64, 64, 64], sid_offset=800, item_features=16)
    >>> config.sid_levels, config.item_dim == config.d_model
    (3, True)

    ```"""

    model_type = "unisearch"

    def __post_init__(self, **kwargs: Any) -> None:
        if self.item_attention_heads is None:
            self.item_attention_heads = self.encoder_attention_heads
        if self.item_ffn_dim is None:
            self.item_ffn_dim = self.encoder_ffn_dim
        if self.item_dim is None:
            self.item_dim = self.d_model
        super().__post_init__(**kwargs)

    def check(self) -> None:
        """Raise ValueError if a size is not within its limits, or fields do not fit each other."""
        super().check()
        self._check_items()


__all__ = ["BOUNDS", "GRADIENTS", "LEVEL_INPUTS", "QUANTIZERS", "ItemFields", "UniSearchConfig"]
