"""The jobs of the batcher: searches that run together, and the scores of single items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from onesearch.data.requests import UserContext
from onesearch.modeling_onesearch.filters_onesearch import ItemFilter
from onesearch.modeling_onesearch.hits_onesearch import Hit
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig

from ..searcher import Searcher


@dataclass(frozen=True)
class SearchJob:
    """One search of one user.

    Args:
        query: text to search for.
        history: ids of items, oldest first.
        context: what else is known of the user.
        config: search settings.
        top_k: largest number of hits.
        explain: put the probabilities of codes and towers into the hits.
        exclude: ids of items that must not be found.
        categories: only items with one of these on their path may be found; None for all.
        items: score these items alone instead of searching.
    """

    query: str
    history: tuple[str, ...]
    context: UserContext
    config: SearchConfig
    top_k: int
    explain: bool = False
    exclude: tuple[str, ...] = ()
    categories: tuple[str, ...] | None = None
    items: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[object, ...]:
        """Jobs with equal keys can be searched together."""
        return (self.config, self.explain, bool(self.items))


def run_jobs(searcher: Searcher, jobs: Sequence[SearchJob]) -> list[list[Hit] | Exception]:
    """Run jobs with equal keys together.

    A job that cannot be searched, such as one with an unknown category, gets its own error and harms no other one.

    Returns:
        The hits of each job, or its error.
    """
    if jobs[0].items:
        return [_one(searcher, job) for job in jobs]
    answers: list[list[Hit] | Exception | None] = [None] * len(jobs)
    filters: list[ItemFilter | None] = []
    for place, job in enumerate(jobs):
        item_filter = None
        if job.exclude or job.categories is not None:
            try:
                item_filter = searcher.index.filter(None, job.exclude, job.categories)
            except (KeyError, ValueError, TypeError) as error:
                answers[place] = error
        filters.append(item_filter)
    good = [place for place, answer in enumerate(answers) if answer is None]
    if good:
        found = _together(searcher, [jobs[place] for place in good], [filters[place] for place in good])
        for place, answer in zip(good, found):
            answers[place] = answer
    return [answer for answer in answers if answer is not None]


def _together(
    searcher: Searcher, jobs: Sequence[SearchJob], filters: Sequence[ItemFilter | None]
) -> list[list[Hit] | Exception]:
    """Hits of jobs in one batch. If it fails, for example because an item of a history was removed meanwhile, each runs alone."""
    settings = asdict(jobs[0].config)
    try:
        found = searcher.search_batch(
            [job.query for job in jobs],
            [job.history for job in jobs],
            max(job.top_k for job in jobs),
            contexts=[job.context for job in jobs],
            item_filter=filters,
            explain=jobs[0].explain,
            **settings,
        )
    except Exception as error:  # noqa: BLE001 - it is the answer of the job that caused it
        if len(jobs) == 1:
            return [error]
        alone = [_together(searcher, [job], [item_filter]) for job, item_filter in zip(jobs, filters)]
        return [answers[0] for answers in alone]
    return [hits[: job.top_k] for job, hits in zip(jobs, found)]


def _one(searcher: Searcher, job: SearchJob) -> list[Hit] | Exception:
    try:
        return searcher.score(job.query, job.items, job.history, context=job.context)
    except Exception as error:  # noqa: BLE001 - it is the answer of this job
        return error


__all__ = ["SearchJob", "run_jobs"]
