"""Fields of a configuration for histories whose items are vectors in the prompt, and the columns of their tensor.

Annotations are evaluated here (no `from __future__`): `strict` does not check fields whose type is a string.
Travels to the Hub with the weights: imports nothing of this package.
"""

from dataclasses import dataclass

EVENT_KINDS = ("clicked", "carted", "purchased")
"""Kinds of events in a history, by number."""

GAP_BUCKETS = 24
"""Number of buckets of the time between an event and the request. Bucket b > 0 holds gaps from 2 ** (b - 1) to below 2 ** b units of time,
the last one all longer gaps too; bucket 0 holds events of unknown time. Our choice."""

NO_ITEM = -1
"""Code, facet and kind of an event that stand for "none" in `history_items`."""

FIRST_FACET = 3
"""Columns of `history_items` between the codes and the facets: kind of the event, bucket of its gap, number of the item's own embedding."""

HISTORY_LIMITS = {
    "history_places": 2**16,
    "history_vector_size": 2**16,
    "history_facets": 2**24,
    "history_ids": 2**28,
}
"""Largest values of the sizes: a damaged or hostile configuration is refused at once."""


class PlaceFields:
    """What fields of placeholders share. Types of the fields that the check reads; a configuration has them from its other parents."""

    vocab_size: int
    pad_token_id: int | None
    sid_codebook_sizes: list[int] | tuple[int, ...]
    sid_offset: int

    def _check_place(self, name: str, token: int | None, wanted_by: str) -> None:
        """Refuse a placeholder that is outside the vocabulary, a token of a SID, or padding."""
        sids = range(self.sid_offset, self.sid_offset + sum(self.sid_codebook_sizes))
        if token is None or not 0 <= token < self.vocab_size or token in sids or token == self.pad_token_id:
            raise ValueError(
                f"{name}={token}: {wanted_by} needs a placeholder in the vocabulary of {self.vocab_size} that is neither a SID "
                f"({sids.start}..{sids.stop - 1}) nor padding ({self.pad_token_id})"
            )


@dataclass(init=False, repr=False, eq=False)  # fields only: the rest is the parent configuration's
class HistoryFields(PlaceFields):
    """Fields of histories as vectors: each item of a history takes one place of the prompt. Our addition; the paper writes SIDs.

    Args:
        history_places (`int`, defaults to 0):
            Largest number of items of a history. 0 makes a model whose prompts hold the items' SIDs as tokens.
        history_token_id (`int`, *optional*):
            Vocabulary id of the placeholder of an item. The items' vectors replace its copies in a prompt, oldest item first.
        history_vector_size (`int`, defaults to 0):
            Width of the items' text vectors; 0 reads none.
        history_facets (`int`, defaults to 0):
            Number of facets (brands, colours, price bands, …); 0 reads none.
        history_ids (`int`, defaults to 0):
            Number of items with an embedding of their own; 0 gives none to any item.
        history_summaries (`list[int]`, defaults to `[]`):
            First facet and the one after the last of each kind whose mean over the history takes a place of its own, one pair after the
            other. `[0, 40, 52, 60]` makes two such places, for facets 0..39 and 52..59.
        history_summary_token_id (`int`, *optional*):
            Vocabulary id of the placeholder of these means.
    """

    history_places: int = 0
    history_token_id: int | None = None
    history_vector_size: int = 0
    history_facets: int = 0
    history_ids: int = 0
    history_summaries: list[int] | tuple[int, ...] = ()
    history_summary_token_id: int | None = None

    @property
    def summary_ranges(self) -> list[tuple[int, int]]:
        """First facet and the one after the last of each summary place."""
        return list(zip(self.history_summaries[::2], self.history_summaries[1::2]))

    def _check_history(self) -> None:
        """Raise ValueError if the fields do not fit each other or the vocabulary."""
        self.history_summaries = [int(number) for number in self.history_summaries]
        for name, largest in HISTORY_LIMITS.items():
            size = vars(self).get(name, 0)
            if not 0 <= size <= largest:
                raise ValueError(f"{name}={size}: allowed are 0..{largest}")
        if not self.history_places:
            return
        wanted_by = f"a history as vectors (history_places={self.history_places})"
        self._check_place("history_token_id", self.history_token_id, wanted_by)
        ends = self.history_summaries
        if len(ends) % 2 or any(not 0 <= first < end <= self.history_facets for first, end in self.summary_ranges):
            raise ValueError(
                f"history_summaries={ends}: pairs of a first facet and an end within 0..{self.history_facets} are needed"
            )
        if ends:
            self._check_place("history_summary_token_id", self.history_summary_token_id, wanted_by)


__all__ = ["EVENT_KINDS", "FIRST_FACET", "GAP_BUCKETS", "NO_ITEM", "HistoryFields", "PlaceFields"]
