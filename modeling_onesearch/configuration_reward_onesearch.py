"""Configuration of OneSearch's reward model: the sizes of its item inputs, its attention over a history and its three towers.

Annotations are evaluated here (no `from __future__`): `strict` does not check fields whose type is a string.
Travels to the Hub with the weights: imports nothing of this package.
"""

from dataclasses import dataclass
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import PretrainedConfig

from .configuration_onesearch import check_heads, check_sizes
from .history_fields_onesearch import EVENT_KINDS, GAP_BUCKETS

TOWERS = ("ctr", "cvr", "ctcvr")
"""Towers in the order of the last axis of the logits: click, purchase of a clicked item, click and purchase."""

REWARD_LIMITS = {
    "vector_size": 2**16,
    "hidden_size": 2**16,
    "attention_heads": 1024,
    "tower_size": 2**20,
    "max_history": 2**16,
}


@strict
@dataclass(repr=False)
class OneSearchRewardConfig(PretrainedConfig):
    """Sizes of `OneSearchRewardModel`. The paper gives no sizes: every default is our choice.

    Args:
        vector_size (`int`): width of the text vectors of items and queries.
        codebook_sizes (`list[int]`): number of codes of each level of a Semantic ID.
        num_facets (`int`): number of facets: the known values of brand, category, price band and attributes.
        num_ids (`int`): number of items with an embedding of their own; items that were seldom seen have none.
        features (`list[str]`): names of the cross features of a request and a candidate, in their order.
        hidden_size (`int`): width of the states of items. Raising it costs time and may fit more.
        attention_heads (`int`): heads of the attention over the history; `hidden_size` must be divisible by it.
        tower_size (`int`): width of the hidden layer of each tower.
        dropout (`float`): dropout probability.
        recent (`int`): number of latest events that are always attended to.
        max_history (`int`): number of latest events that a history may have.
    """

    model_type = "onesearch_reward"

    vector_size: int = 64
    codebook_sizes: list[int] | tuple[int, ...] = ()
    num_facets: int = 0
    num_ids: int = 0
    features: list[str] | tuple[str, ...] = ()
    hidden_size: int = 64
    attention_heads: int = 4
    tower_size: int = 64
    dropout: float = 0.1
    recent: int = 20
    max_history: int = 1000

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        check_sizes(self, REWARD_LIMITS)
        check_heads("attention_heads", self.attention_heads, "hidden_size", self.hidden_size)


__all__ = ["EVENT_KINDS", "GAP_BUCKETS", "TOWERS", "OneSearchRewardConfig"]
