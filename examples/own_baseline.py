"""Measure a ranking of your own beside the model: same requests, same metrics, same intervals.

Run `make demo` first, then: python examples/own_baseline.py
"""

from collections import Counter
from collections.abc import Sequence

from onesearch import Market, Request, Searcher, evaluate
from onesearch.data.requests import build_requests
from onesearch.evaluation.retrievers import Ranking


class BoughtAfterQuery:
    """Ranks the items that were bought most often after the same query in the training split."""

    name = "bought-after-query"

    def __init__(self, market: Market):
        self.counts: dict[str, Counter[str]] = {}
        for request in build_requests(market, "train"):
            self.counts.setdefault(request.query, Counter()).update(request.purchased)

    def retrieve(self, requests: Sequence[Request], top_k: int) -> list[Ranking]:
        """One ranking per request; empty for a query that nobody asked."""
        rankings = []
        for request in requests:
            best = self.counts.get(request.query, Counter()).most_common(top_k)
            rankings.append(Ranking(tuple(item for item, _ in best), tuple(float(count) for _, count in best)))
        return rankings


market = Market.load("runs/demo/market")
searcher = Searcher.from_pretrained("runs/demo/checkpoint")
requests = build_requests(market, "test")[:200]
print(evaluate([searcher, BoughtAfterQuery(market)], requests, reference=searcher.name, progress=False).to_table())
