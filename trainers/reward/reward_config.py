"""Config of the reward model and of its training. Reading one imports neither torch nor transformers."""

from __future__ import annotations

from dataclasses import dataclass, field

from onesearch.views.reward.groups import INPUT_GROUPS

from .negatives import NegativeSampling


@dataclass(frozen=True)
class RewardConfig:
    """Sizes and training of the reward model. The paper gives no values: all defaults are our choice.

    Args:
        hidden_size: width of the states of items. Raising it costs time and may fit more.
        attention_heads: heads of the attention over the history.
        tower_size: width of the hidden layer of each tower.
        dropout: dropout probability.
        recent: number of latest events that are always attended to.
        max_history: number of latest events that a history may have (OneSearch: about 10³).
        min_events: number of clicks and purchases in the training split from which an item has an embedding of its own.
        hidden_gaps: share of the training searches whose events have unknown times. Requests at serving give no times, so the model must
            do without them; a smaller share lets it rely on them.
        warm_up: share of the earliest training searches that only fill the memory: their counts are too small to learn from.
        epochs: passes over the training searches.
        batch_size: searches per step.
        learning_rate: largest learning rate of AdamW; it rises over the first tenth of the steps and then falls to 0.
        weight_decay: weight decay of AdamW. Raising it keeps the towers simpler.
        list_weight: weight of a list-wise loss beside the paper's binary cross-entropy: the softmax over the candidates of a search of its
            most wanted ones (bought ones, or clicked ones where nothing was bought). 0 is the paper's loss alone.
        match_weight: weight of a loss that compares the wanted items of a search with all items that its batch names. Raising it lets the
            embeddings of items learn more of who buys them. 0 leaves it out. Our addition.
        negatives: items that the clicked and bought ones are compared with.
        searches: number of training requests whose beams give hard negatives, and of validation requests that choose the weights of the
            ranking. Raising it costs the time of these searches.
        text_index: also build the text index of the checkpoint, with which a search can rank items that the beam missed (`candidates:
            beam+text`). It needs the extra ``evaluation``.
        without: groups of inputs that are left out, of `INPUT_GROUPS`: id_memory, long_history, attributes, transitions, log_p. For studies
            of what each is worth.
        seed: seeds the initial weights, the negatives and the order of the searches.

    Raises:
        ValueError: a number is out of range.
    """

    hidden_size: int = 64
    attention_heads: int = 4
    tower_size: int = 64
    dropout: float = 0.1
    recent: int = 20
    max_history: int = 1000
    min_events: int = 3
    hidden_gaps: float = 0.5
    warm_up: float = 0.1
    epochs: int = 2
    batch_size: int = 64
    learning_rate: float = 0.002
    weight_decay: float = 0.01
    list_weight: float = 1.0
    match_weight: float = 0.1
    negatives: NegativeSampling = field(default_factory=NegativeSampling)
    searches: int = 2000
    text_index: bool = True
    without: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_groups()
        for name in (
            "hidden_size",
            "attention_heads",
            "tower_size",
            "recent",
            "max_history",
            "min_events",
            "epochs",
            "batch_size",
            "searches",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"reward.{name}={getattr(self, name)} is invalid; give at least 1")
        for name in ("weight_decay", "list_weight", "match_weight", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"reward.{name}={getattr(self, name)} is invalid; give at least 0")
        for name in ("dropout", "warm_up"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"reward.{name}={getattr(self, name)} is invalid; give a share from 0 to below 1")
        if not 0 <= self.hidden_gaps <= 1:
            raise ValueError(f"reward.hidden_gaps={self.hidden_gaps} is invalid; give a share from 0 to 1")
        if not self.learning_rate > 0:
            raise ValueError(f"reward.learning_rate={self.learning_rate} is invalid; give a number above 0, for instance 0.002")
        if self.hidden_size % self.attention_heads:
            raise ValueError(
                f"reward.hidden_size={self.hidden_size} must be divisible by reward.attention_heads={self.attention_heads}"
            )

    def _check_groups(self) -> None:
        """Make `without` a tuple; ValueError for an unknown group."""
        object.__setattr__(self, "without", tuple(self.without))
        unknown = [group for group in self.without if group not in INPUT_GROUPS]
        if unknown:
            raise ValueError(f"reward.without holds {unknown[0]!r}; allowed are {', '.join(INPUT_GROUPS)}")


__all__ = ["RewardConfig"]
