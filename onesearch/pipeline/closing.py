"""The last lines of a finished run: the places of its parts, the commands to type next, and a search whose hits a person can judge."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from onesearch.data.made_queries import facets_of
from onesearch.data.market import Market
from onesearch.data.requests import Request, build_requests
from onesearch.evaluation.reports import Report
from onesearch.files import RunFolder
from onesearch.modeling_onesearch.hits_onesearch import Hit
from onesearch.serving.searcher import Searcher
from onesearch.tokenization_sid.sids.plots import PAGE_NAMES

HITS = 5
"""Number of hits of the example."""


def closing(run: RunFolder, market: Market) -> str:
    """The last lines of a run with a checkpoint."""
    request = example_request(market)
    return "\n".join([*_places(run), "", *_next(run, request.query), "", *_example(run, market, request)])


def places(run: RunFolder, market: Market) -> str:
    """Where the parts of a run with a checkpoint are, and what to type next."""
    return "\n".join([*_places(run), "", *_next(run, example_request(market).query)])


def example_request(market: Market) -> Request:
    """A request whose hits a person can judge.

    It is the last test request with the query that is asked most often in the test split, of those of a user with a history if there are
    any. For a catalogue without requests it has a query of an item's brand and category, or of the first words of its title.
    """
    requests = build_requests(market, "test") or build_requests(market, "train")
    if not requests:
        return Request("", "", _catalogue_query(market))
    known = [request for request in requests if request.history and (request.purchased or request.clicked)] or requests
    asked = Counter(request.query for request in known)
    most = max(asked.values())
    return next(request for request in reversed(known) if asked[request.query] == most)


def figures(report: Report) -> str:
    """A table of HR@10 and MRR@10 of items, one row per order and baseline, the served order first; then the notes."""
    kinds = [kind for kind, counts in report.targets.items() if counts["requests"]]
    columns = [(kind, metric) for kind in kinds for metric in ("HR@10", "MRR@10")]
    names = sorted(report.retrievers, key=lambda name: name != report.reference)
    rows = [["", *(f"{kind}s {metric}" for kind, metric in columns)]]
    for name in names:
        cells = [report.retrievers[name]["targets"].get(kind, {}).get("item", {}).get(metric) for kind, metric in columns]
        label = f"{name} (served)" if name == report.reference else name
        rows.append([label, *("–" if cell is None else "{value:.3f} [{low:.3f}, {high:.3f}]".format(**cell) for cell in cells)])
    widths = [max(len(row[place]) for row in rows) for place in range(len(columns) + 1)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    counts = ", ".join(f"{report.targets[kind]['requests']:,} with {kind}s" for kind in kinds)
    head = f"{report.requests:,} test searches, {counts}; 95 % intervals over searches"
    return "\n".join([head, *lines, *(f"* {note}" for note in report.notes)])


def hit_lines(hits: Sequence[Hit], notes: dict[str, str] | None = None) -> Iterator[str]:
    """One line per hit: rank, title, brand and price, and the note on its item."""
    for rank, hit in enumerate(hits, start=1):
        price = None if hit.price is None else f"{hit.price:,.2f}"
        facts = ", ".join(part for part in (hit.title or hit.item_id, hit.brand, price) if part)
        note = (notes or {}).get(hit.item_id)
        yield f"{rank:2}. {facts}{f'  ← {note}' if note else ''}"


def _places(run: RunFolder) -> Iterator[str]:
    """Where the parts are that people open."""
    paths = {
        "checkpoint": run.checkpoint,
        "card": run.checkpoint / "README.md",
        "picture of the codes": run.sids / PAGE_NAMES[0],
        "figures": run.evaluation / "metrics.json",
        "recipe": run.root / "recipe.yaml",
    }
    width = max(map(len, paths))
    for name, path in paths.items():
        if path.exists():
            yield f"{name:<{width}}  {path}"


def _next(run: RunFolder, query: str) -> Iterator[str]:
    """Commands that go on from here."""
    yield "next:"
    yield f'  onesearch search {run.root} "{query}"'
    yield f"  onesearch evaluate {run.root}"
    yield f"  onesearch sids inspect --run {run.root} ITEM"


def _example(run: RunFolder, market: Market, request: Request) -> Iterator[str]:
    """A search of the request's user, with the items that the user clicked or bought marked."""
    searcher = Searcher.from_pretrained(run.checkpoint)
    hits = searcher.search(request.query, request.history, HITS, context=request.context if request.history else None)
    titles = dict(zip(market.items.data.column("item_id").to_pylist(), market.items.data.column("title").to_pylist()))
    after = f", of a user whose last item was {titles[request.history[-1]]}" if request.history else ""
    yield f'search: "{request.query}"{after}'
    notes = {**dict.fromkeys(request.clicked, "was clicked"), **dict.fromkeys(request.purchased, "was bought")}
    yield from hit_lines(hits, notes)


def _catalogue_query(market: Market) -> str:
    """Brand and category of the item in the middle of the table, or the first words of its title."""
    row = len(market.items) // 2
    facets = facets_of(market)[row][:2]
    title = market.items.data.column("title")[row].as_py() or ""
    return " ".join(reversed(facets)) or " ".join(title.split()[:3])


__all__ = ["closing", "example_request", "figures", "hit_lines", "places"]
