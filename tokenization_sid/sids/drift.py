"""How new items sit among the published ones: shared SIDs, and whether they still look like the items that trained the codebooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from .prefixes import prefix_ids


@dataclass(frozen=True)
class DriftConfig:
    """Thresholds above which new items no longer look like those that trained the codebooks.

    All values are our choice: the paper reports only that the codebook utilisation hardly changed within a month (−0.43 % for RQ-OPQ).

    Args:
        percentile: percentile of the training items' distance to the mean of the items of their level-0 code. New items beyond it are
            far; at 99, 1 % of them are far by chance.
        far_share: share of far items above which a warning is given.
        utilisation_change: relative change of the number of level-0 codes in use, compared with an equal number of published items, below
            which a warning is given.
        divergence: Kullback–Leibler divergence (nats) of the new items' use of level-0 codes from the published use, beyond its value by
            chance, above which a warning is given.
        min_items: number of new items below which no warning is given, because they say too little.

    Raises:
        ValueError: the percentile is not from 0 to 100.
    """

    percentile: int = 99
    far_share: float = 0.05
    utilisation_change: float = -0.1
    divergence: float = 0.1
    min_items: int = 50

    def __post_init__(self) -> None:
        if not 0 <= self.percentile <= 100:
            raise ValueError(f"percentile={self.percentile} is invalid; give a whole number from 0 to 100")


@dataclass(frozen=True)
class Collisions:
    """How new items share SIDs.

    Args:
        items: number of new items.
        with_published: number of new items with the SID of a published item.
        among_new: number of new items with the SID of another new one.
        distinct_sids: number of distinct SIDs of the new items.
        new_sids: number of these that no published item has.
        largest_bucket: most items, published and new, with one SID of a new item.
    """

    items: int
    with_published: int
    among_new: int
    distinct_sids: int
    new_sids: int
    largest_bucket: int


@dataclass(frozen=True)
class Drift:
    """How new items differ from the published ones; see `DriftConfig` for the thresholds.

    Args:
        far_share: share of new items beyond the percentile.
        used: number of level-0 codes that the new items use.
        expected: number of level-0 codes that an equal number of published items would use.
        utilisation_change: used / expected − 1.
        utilisation_before: share of level-0 codes in use without the new items.
        utilisation_after: share of level-0 codes in use with the new items.
        divergence: Kullback–Leibler divergence of the new items' use of level-0 codes from the published use, in nats.
        by_chance: mean divergence of an equal number of items that are drawn from the published use.
        without_known_words: number of new items whose text has no word that the encoder knows; their codes mean nothing.
        warnings: one sentence for each number beyond its threshold.
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
    """Count how new items share SIDs with published ones and among themselves.

    Args:
        published: (published items, levels) codes.
        new: (new items, levels) codes, at least one.
        codebook_sizes: codebook size of each level.
    """
    ids = prefix_ids(np.concatenate([published, new]), codebook_sizes)[-1]
    size = int(ids.max()) + 1
    old = np.bincount(ids[: len(published)], minlength=size)
    own = ids[len(published) :]
    added = np.bincount(own, minlength=size)
    return Collisions(
        items=len(new),
        with_published=int((old[own] > 0).sum()),
        among_new=int((added[own] > 1).sum()),
        distinct_sids=int((added > 0).sum()),
        new_sids=int(((added > 0) & (old == 0)).sum()),
        largest_bucket=int((old + added)[own].max()),
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
    """Measure how new items differ from the published ones.

    Args:
        published: (published items, levels) codes.
        new: (new items, levels) codes, at least one.
        distances: (new items,) distance of each vector to the centroid of its level-0 code.
        percentiles: (101,) percentiles of the training items' distances.
        codebook_sizes: codebook size of each level.
        config: thresholds of the warnings.
        unknown: number of new items without a known word.
    """
    before, added = (np.bincount(codes[:, 0], minlength=codebook_sizes[0]) for codes in (published, new))
    share = before / before.sum()
    used, expected = int((added > 0).sum()), float((1 - (1 - share) ** len(new)).sum())
    divergence = _divergence(before, added)
    drift = Drift(
        far_share=float((distances > percentiles[config.percentile]).mean()),
        used=used,
        expected=expected,
        utilisation_change=used / expected - 1,
        utilisation_before=float((before > 0).mean()),
        utilisation_after=float(((before + added) > 0).mean()),
        divergence=divergence.measured,
        by_chance=divergence.by_chance,
        without_known_words=unknown,
        warnings=(),
    )
    warnings = list(_beyond(drift, config)) if len(new) >= config.min_items else []
    if unknown:
        warnings.append(f"{unknown} new items have no word that the encoder knows: their codes mean nothing")
    return replace(drift, warnings=tuple(warnings))


def _beyond(found: Drift, config: DriftConfig) -> Iterator[str]:
    """One sentence for each number beyond its threshold."""
    if found.far_share > config.far_share:
        yield (
            f"{found.far_share:.1%} of the new items are farther from their centroid than the {config.percentile}th percentile of the "
            f"training items (limit {config.far_share:.1%}): consider new codebooks"
        )
    if found.utilisation_change < config.utilisation_change:
        yield (
            f"the new items use {found.used} level-0 codes, as many published ones would use {found.expected:.0f} "
            f"({found.utilisation_change:+.1%}, limit {config.utilisation_change:+.1%})"
        )
    if found.divergence - found.by_chance > config.divergence:
        yield (
            f"the use of level-0 codes diverges from the published one by {found.divergence:.3f} nats, {found.by_chance:.3f} by chance "
            f"(limit {config.divergence} more)"
        )


class _Divergence(NamedTuple):
    """Kullback–Leibler divergence in nats, and its mean for items that are drawn from the published use."""

    measured: float
    by_chance: float


def _divergence(before: np.ndarray, added: np.ndarray, draws: int = 100) -> _Divergence:
    """Divergence of the use of codes by new items from the published use, (codes,) numbers of items each.

    Half an item is added to each published code, so that no share is 0.
    """
    reference = (before + 0.5) / (before + 0.5).sum()
    drawn = np.random.default_rng(0).multinomial(int(added.sum()), reference, size=draws)
    shares = np.concatenate([added[None], drawn]) / added.sum()
    logs = np.log(np.where(shares > 0, shares / reference, 1.0))
    divergences = (shares * logs).sum(axis=1)
    return _Divergence(float(divergences[0]), float(divergences[1:].mean()))


__all__ = ["Collisions", "Drift", "DriftConfig", "count_collisions", "measure_drift"]
