"""Examples of requests that nobody made, whose only target is the teacher's best item."""

from __future__ import annotations

import numpy as np
from datasets import Dataset, concatenate_datasets

from ..dpo.data.beam_lists import Requests, prompts_of
from ..sft.data.examples import CHUNK, EncodedExamples, ExampleBuilder
from .lists import TeacherLists


def unseen_examples(builder: ExampleBuilder, lists: TeacherLists) -> Dataset | None:
    """Examples of the lists of requests that nobody made; None if there are none. Their cross-entropy
    does not count; the divergence from the teacher is taken along the path of this item.

    Args:
        builder: makes the prompts and targets.
        lists: a teacher's lists.
    """
    numbers = np.flatnonzero(~lists.observed & (lists.items.lengths > 0))
    tables = []
    for start in range(0, len(numbers), CHUNK):
        rows = numbers[start : start + CHUNK]
        sessions, views = lists.sessions[rows], builder.views
        prompts, _ = prompts_of(views, builder.tokenizer, Requests(sessions, lists.asked[rows]))
        history = views.history_events(sessions) if builder.tokenizer.prompt.has_vectors else None
        best = lists.items.values[lists.items.offsets[:-1][rows]]
        labels = builder.fields.sid_labels(views.item_sids[best])
        vectors = views.vectors_of(lists.asked[rows])
        examples = EncodedExamples(prompts, prompts, labels, views.long_spans(sessions), rows, history, vectors)
        tables.append(Dataset(builder.table(examples)))
    return concatenate_datasets(tables) if tables else None


__all__ = ["unseen_examples"]
