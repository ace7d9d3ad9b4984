"""How new items sit among the published ones: shared SIDs, and whether they still look like what the codebooks were trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .diagnostics import prefix_ids


@dataclass(frozen=True)
class DriftConfig:
    """When new items no longer look like those the codebooks were trained on. All values are ours: the paper reports only that
    utilisation hardly changed within a month (−0.43 % for RQ-OPQ).

    Args:
        percentile: of the training items' distance to the mean of the items of their level-0 code; new items beyond it are far
            (1 % are by chance at 99).
        far_share: warn above this share of far items.
        utilisation_change: warn if the new items use so much fewer level-0 codes than as many published ones would, relatively.
        divergence: warn if the Kullback–Leibler divergence (nats) of the new items' level-0 use from the published one exceeds what
            as many items drawn from the published use show by chance by so much.
        min_items: fewer new items raise no warning: too little to tell.
    """

    percentile: int = 99
    far_share: float = 0.05
    utilisation_change: float = -0.1
    divergence: float = 0.1
    min_items: int = 50

    def __post_init__(self):
        if not 0 <= self.percentile <= 100:
            raise ValueError(f"percentile={self.percentile} must be from 0 to 100")


@dataclass(frozen=True)
class Collisions:
    """How new items share SIDs.

    Args:
        items: new items; with_published: of these, how many have the SID of a published item; among_new: the SID of another new one.
        distinct_sids: SIDs of the new items; new_sids: of these, how many no published item has.
        largest_bucket: most items, published and new, in a SID of a new item.
    """

    items: int
    with_published: int
    among_new: int
    distinct_sids: int
    new_sids: int
    largest_bucket: int


@dataclass(frozen=True)
class Drift:
    """How new items differ from the published ones; `DriftConfig` says what each number means.

    Args:
        far_share: share of new items beyond the percentile.
        used, expected: level-0 codes that the new items use, and that as many published items would.
        utilisation_change: used / expected − 1.
        utilisation_before, utilisation_after: share of level-0 codes in use without and with the new items.
        divergence, by_chance: Kullback–Leibler divergence of level-0 use, and its mean for items drawn from the published use.
        without_known_words: new items whose text the encoder does not know; their codes mean nothing.
        warnings: what is beyond its threshold.
    """

    far_share: float
    used: int
    expected: float
    utilisation_change: float
    utilisation_before: float
    utilisation_after: float
    divergence: float
    by_chance: float
    without_known_words: int
    warnings: tuple[str, ...]


def count_collisions(published: np.ndarray, new: np.ndarray, codebook_sizes: Sequence[int]) -> Collisions:
    """Collisions of new items with published ones and among themselves: (items, levels) codes each."""
    ids = prefix_ids(np.concatenate([published, new]), codebook_sizes)[-1]
    size = int(ids.max()) + 1
    old = np.bincount(ids[: len(published)], minlength=size)
    mine = ids[len(published) :]
    added = np.bincount(mine, minlength=size)
    return Collisions(
        items=len(new),
        with_published=int((old[mine] > 0).sum()),
        among_new=int((added[mine] > 1).sum()),
        distinct_sids=int((added > 0).sum()),
        new_sids=int(((added > 0) & (old == 0)).sum()),
        largest_bucket=int((old + added)[mine].max()),
    )


def measure_drift(
    published: np.ndarray,
    new: np.ndarray,
    distances: np.ndarray,
    percentiles: np.ndarray,
    codebook_sizes: Sequence[int],
    config: DriftConfig,
    unknown: int = 0,
) -> Drift:
    """Drift of new items.

    Args:
        published, new: (items, levels) codes.
        distances: (new items,) to the centroid of their level-0 code; percentiles: (101,) of the training items' distances.
        unknown: new items without a known word.
    """
    before, added = (np.bincount(codes[:, 0], minlength=codebook_sizes[0]) for codes in (published, new))
    share = before / before.sum()
    used, expected = int((added > 0).sum()), float((1 - (1 - share) ** len(new)).sum())
    divergence, by_chance = _divergence(before, added)
    far = float((distances > percentiles[config.percentile]).mean())
    change = used / expected - 1
    found = []
    if len(new) >= config.min_items:
        if far > config.far_share:
            found.append(
                f"{far:.1%} of the new items are farther from their centroid than the {config.percentile}th percentile of the "
                f"training items (limit {config.far_share:.1%}): consider new codebooks"
            )
        if change < config.utilisation_change:
            found.append(
                f"the new items use {used} level-0 codes, as many published ones would use {expected:.0f} "
                f"({change:+.1%}, limit {config.utilisation_change:+.1%})"
            )
        if divergence - by_chance > config.divergence:
            found.append(
                f"level-0 use diverges from the published one by {divergence:.3f} nats, {by_chance:.3f} by chance "
                f"(limit {config.divergence} more)"
            )
    if unknown:
        found.append(f"{unknown} new items have no word that the encoder knows: their codes mean nothing")
    after = float(((before + added) > 0).mean())
    return Drift(far, used, expected, change, float((before > 0).mean()), after, divergence, by_chance, unknown, tuple(found))


def _divergence(before: np.ndarray, added: np.ndarray, draws: int = 100) -> tuple[float, float]:
    """Divergence of two level-0 usages, and its mean when as many items are drawn from the first; half an item is added to each code."""
    reference = (before + 0.5) / (before + 0.5).sum()
    drawn = np.random.default_rng(0).multinomial(int(added.sum()), reference, size=draws)
    shares = np.concatenate([added[None], drawn]) / added.sum()
    logs = np.log(np.where(shares > 0, shares / reference, 1.0))
    divergences = (shares * logs).sum(axis=1)
    return float(divergences[0]), float(divergences[1:].mean())


__all__ = ["Collisions", "Drift", "DriftConfig", "count_collisions", "measure_drift"]
