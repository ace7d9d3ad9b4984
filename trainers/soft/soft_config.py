"""Settings of soft targets. Reading them imports neither torch nor transformers."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..reward.reward_config import RewardConfig

TEACHERS = ("reward", "sasrec", "transitions", "file", "none")
"""Kinds of teachers."""


@dataclass(frozen=True)
class SoftTargetConfig:
    """Teacher of the personalised stages, and how much they learn from it. All values are our choice.

    Args:
        teacher: ``reward`` trains a reward model on the training split, without a generator's beams; ``sasrec`` trains SASRec;
            ``transitions`` counts which items follow each other in histories; ``file`` reads lists that another program made;
            ``none`` gives requests of sessions no soft targets. SASRec and transitions do not read the query: on the demo SASRec lowered
            the validation HR@10 by 0.075 [0.038, 0.112].
        file: parquet file of the teacher ``file``: columns ``session_id``, ``item_ids`` (list) and ``scores`` (list of logarithms of
            masses, which need not be normalised). A training session that it lacks has no soft targets.
        made_queries: made queries (tasks ``item-words``, ``item-facets``, ``item-queries``, ``item-matches``) have soft targets, too:
            masses over the `items` items that BM25 finds for their words. With the teacher ``none`` they are the only ones, as for a
            catalogue without a log.
        items: number K of items with the highest scores that a list keeps. More items keep more of the teacher's doubt, and each batch
            takes a little longer.
        text_candidates: the reward model scores this many items whose text vectors are closest to the query's. More take more time and miss
            fewer items.
        transition_candidates: the reward model also scores this many items that most often follow the latest items of the history. Raise it
            where queries say little of the item; 0 adds none.
        temperature: masses are the softmax of the scores divided by it. A higher temperature spreads the masses more evenly.
        weight: share w of the teacher in the loss of a Semantic ID, (1 − w) · cross-entropy + w · KL. 1 learns from the teacher alone
            where it has an opinion; 0 does not learn from it.
        paths: number of further paths per request and step: Semantic IDs of items drawn from the teacher's masses, at whose nodes the KL
            is taken as well. The KL is then the mean over the target's path and these. More paths teach more nodes. They cost little
            for an encoder-decoder, and a pass of the whole model each for a decoder-only one.
        unseen: number of further requests per training request that nobody made: user and moment of one session with the query of another.
            They have no observed target, and learn from the teacher alone. Needs the teacher ``reward``.
        folds: SASRec is trained this many times, each time without the users of one part, and scores the requests of that part: it then
            has not seen their targets. 1 trains it once, on all users, so that it has seen the targets. More folds take more time.
        reward: sizes and training of the teacher ``reward``. Its `negatives.beam`, `searches` and `text_index` do not apply.
        seed: seeds the unseen requests and the folds.

    Raises:
        ValueError: the teacher is unknown, a number is out of range, or a setting does not apply to the teacher.
    """

    teacher: str = "reward"
    file: str | None = None
    made_queries: bool = False
    items: int = 50
    text_candidates: int = 100
    transition_candidates: int = 0
    temperature: float = 1.0
    weight: float = 0.5
    paths: int = 0
    unseen: float = 0.0
    folds: int = 2
    reward: RewardConfig = field(default_factory=RewardConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.teacher not in TEACHERS:
            raise ValueError(f"soft_targets.teacher={self.teacher!r}: allowed are {', '.join(TEACHERS)}")
        if (self.file is not None) != (self.teacher == "file"):
            raise ValueError(
                f"soft_targets.file={self.file!r} with teacher={self.teacher!r}: the teacher `file` needs a file, and no other reads one"
            )
        if self.teacher == "none" and not self.made_queries:
            raise ValueError(
                "soft_targets.teacher='none' leaves no soft targets; set made_queries: true, or leave soft_targets out"
            )
        for name, least in (
            ("items", 1),
            ("text_candidates", 1),
            ("transition_candidates", 0),
            ("paths", 0),
            ("folds", 1),
            ("seed", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"soft_targets.{name}={getattr(self, name)} must be at least {least}")
        if not 0 <= self.weight <= 1:
            raise ValueError(f"soft_targets.weight={self.weight} is invalid; give a share from 0 to 1")
        if not self.temperature > 0:
            raise ValueError(f"soft_targets.temperature={self.temperature} must be above 0")
        if not self.unseen >= 0:
            raise ValueError(f"soft_targets.unseen={self.unseen} must be at least 0")
        if self.unseen and self.teacher != "reward":
            raise ValueError(
                f"soft_targets.unseen={self.unseen} needs teacher: reward; the teacher {self.teacher!r} reads no query, or knows logged "
                "requests alone"
            )


__all__ = ["TEACHERS", "SoftTargetConfig"]
