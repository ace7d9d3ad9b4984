"""Fields of a configuration for the text vector of the query in the prompt.

Annotations are evaluated here (no `from __future__`): `strict` does not check fields whose type is a string.
Travels to the Hub with the weights: imports nothing of this package.
"""

from dataclasses import dataclass

from .history_fields_onesearch import PlaceFields

MAX_QUERY_VECTOR = 2**16
"""Largest width of a query's vector: a damaged or hostile configuration is refused at once."""


@dataclass(init=False, repr=False, eq=False)  # fields only: the rest is the parent configuration's
class QueryVectorFields(PlaceFields):
    """Fields of the query's text vector in the prompt. Our addition.

    Args:
        query_vector_size (`int`, defaults to 0):
            Width of the queries' text vectors. 0 makes a model that reads none.
        query_vector_token_id (`int`, *optional*):
            Vocabulary id of the placeholder, which the projected vector replaces.
    """

    query_vector_size: int = 0
    query_vector_token_id: int | None = None

    def _check_query_vector(self) -> None:
        """Raise ValueError if the fields do not fit each other or the vocabulary."""
        size = self.query_vector_size
        if not 0 <= size <= MAX_QUERY_VECTOR:
            raise ValueError(f"query_vector_size={size}: allowed are 0..{MAX_QUERY_VECTOR}")
        if size:
            self._check_place(
                "query_vector_token_id", self.query_vector_token_id, f"the query's vector (query_vector_size={size})"
            )


__all__ = ["QueryVectorFields"]
