"""The bodies of requests and answers, with the examples of the API page."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MOST_ITEMS = 1000
"""Largest number of items of a history, of a list of excluded items, or of one change; our choice."""


def _filled(text: str) -> str:
    if not text.strip():
        raise ValueError("the text is empty; give words to search for")
    return text


Words = Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_filled)]
ItemId = Annotated[str, Field(min_length=1, max_length=512)]
ShortText = Annotated[str, Field(max_length=2000)]
Items = Annotated[list[ItemId], Field(max_length=MOST_ITEMS)]


class Body(BaseModel):
    """A body whose unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class User(Body):
    """What is known of the user."""

    history: Items = Field([], description="Items that the user clicked or bought, oldest first.")
    purchased: Items = Field([], description="Items that the user bought, oldest first.")
    queries: list[ShortText] = Field([], max_length=100, description="Earlier queries, oldest first.")
    profile: list[ShortText] = Field([], max_length=16, description="Words such as gender and age bucket.")
    unknown_items: Literal["refuse", "skip"] = Field(
        "refuse",
        description="Items of history and purchases that the catalogue does not have: refuse the request, or leave them out "
        "and name them in the answer.",
    )


class Search(User):
    """A search."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"query": "red shoe", "top_k": 5}, {"query": "coat", "explain": True}]}
    )

    query: Words = Field(description="Text to search for.")
    top_k: int = Field(10, ge=1, le=200, description="Largest number of hits.")
    ranking: Literal["served", "beam", "text"] = Field(
        "served",
        description="served: as the checkpoint was measured; beam: by the generator alone, without the reward model; text: by BM25.",
    )
    categories: list[ShortText] | None = Field(None, max_length=100, description="Only items with one of these on their path.")
    exclude: Items = Field([], description="Items that must not be found.")
    exclude_history: bool | None = Field(None, description="Leave the items of the history out of the hits.")
    num_beams: int | None = Field(None, ge=1, description="Semantic IDs kept at each level; default: the checkpoint's.")
    explain: bool = Field(False, description="Also give the log-probability of each code and the towers' probabilities.")


class Explain(Search):
    """A search and one item that is to be explained."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"query": "red shoe", "item_id": "item-0000012"}]}
    )

    item_id: ItemId = Field(description="The item.")


class FoundItem(BaseModel):
    """A hit."""

    rank: int
    item_id: str
    sid: list[int] = Field(description="Codes of the Semantic ID.")
    score: float = Field(description="Log-probability; with a reward model its score; for ranking text the BM25 score.")
    level_scores: list[float] | None = Field(description="Log-probability of each code.")
    towers: list[float] | None = Field(description="Probability of a click, of a purchase after a click, and of both.")
    title: str
    brand: str | None
    price: float | None
    categories: list[str]
    image: str | None = Field(description="Address of a picture.")
    url: str | None = Field(description="Address of the item's own page.")


class Found(BaseModel):
    """The hits of a search, best first."""

    hits: list[FoundItem]
    skipped: list[str] = Field(description="Unknown items that were left out of the history.")
    seconds: float = Field(description="Time of the search in the server.")
    revision: int = Field(description="Number of changes of the catalogue since its index was built.")


class NewItem(Body):
    """An item to add."""

    item_id: ItemId
    title: Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(_filled)]
    description: Annotated[str, Field(max_length=20_000)] | None = None
    brand: ShortText | None = None
    seller: ShortText | None = None
    categories: list[ShortText] = Field([], max_length=16, description="Path from coarse to fine.")
    tags: list[ShortText] = Field([], max_length=100)
    price: float | None = None
    attributes: dict[str, list[ShortText]] = Field({}, description="Attribute type to values.")
    image: ShortText | None = None
    url: ShortText | None = None
    codes: list[Annotated[int, Field(ge=0, lt=1 << 31)]] | None = Field(
        None, max_length=16, description="Codes of the item; by default the run's frozen encoder and codebooks make them."
    )


class NewItems(Body):
    """Items to add."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"items": [{"item_id": "new-1", "title": "red running shoe", "categories": ["Shoes"]}]}]
        },
    )

    items: list[NewItem] = Field(min_length=1, max_length=MOST_ITEMS)
    known: Literal["raise", "skip"] = Field(
        "raise", description="Items that the catalogue has: refuse them, or leave them out."
    )


class Changed(BaseModel):
    """The catalogue after a change."""

    items: int
    revision: int


class Session(Body):
    """What a user did with the hits of a query."""

    user_id: ItemId
    query: ShortText = ""
    clicked: Items = []
    purchased: Items = []
    impressed: Items = Field([], description="Items that were shown.")
    time: int | None = Field(
        None, ge=-(1 << 62), lt=1 << 62, description="Whole number that sorts; default: seconds since 1970."
    )
    session_id: ItemId | None = Field(None, description="Default: a new random id.")


class Events(Body):
    """Sessions to record."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"sessions": [{"user_id": "u1", "query": "red shoe", "clicked": ["item-0000012"], "purchased": []}]}]
        },
    )

    sessions: list[Session] = Field(min_length=1, max_length=MOST_ITEMS)


class Recorded(BaseModel):
    """The number of sessions that are on the disk now."""

    recorded: int


class Health(BaseModel):
    """State of the server."""

    status: Literal["ok"]
    version: str
    items: int
    revision: int
    waiting: int = Field(description="Requests in the queue.")
    running: int = Field(description="Requests that the model searches now.")


class Error(BaseModel):
    """Why a request was refused."""

    error: dict[str, Any]


__all__ = [
    "Changed",
    "Error",
    "Events",
    "Explain",
    "Found",
    "Health",
    "NewItem",
    "NewItems",
    "Recorded",
    "Search",
    "Session",
    "User",
]
