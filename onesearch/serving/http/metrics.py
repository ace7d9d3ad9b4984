"""The server's measurements, in the text format of Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Bounds of the histograms of times."""

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Bounds of the histogram of batch sizes."""


class ServerMetrics:
    """Counters of one server; each server of a process has its own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        labels = ("endpoint", "status")
        self.requests = Counter("onesearch_requests", "Answered requests.", labels, registry=registry)
        self.seconds = Histogram(
            "onesearch_request_seconds", "Time from a request to its answer.", ("endpoint",), buckets=SECONDS, registry=registry
        )
        self.refused = Counter(
            "onesearch_refused", "Requests that got the status 503, by reason.", ("reason",), registry=registry
        )
        self.queue = Gauge("onesearch_queue_length", "Requests that wait for the model.", registry=registry)
        self.batch_size = Histogram(
            "onesearch_batch_size", "Requests that were searched together.", buckets=SIZES, registry=registry
        )
        self.batch_seconds = Histogram(
            "onesearch_batch_seconds", "Time of the model for a batch.", buckets=SECONDS, registry=registry
        )
        self.items = Gauge("onesearch_catalogue_items", "Items in the catalogue.", registry=registry)
        self.updates = Counter(
            "onesearch_catalogue_updates", "Changes of the catalogue that became visible.", registry=registry
        )
        self.update_errors = Counter(
            "onesearch_catalogue_update_errors",
            "Looks for a changed catalogue that failed; the old one serves on.",
            registry=registry,
        )
        self.events = Counter("onesearch_events", "Sessions that were written to the event log.", registry=registry)

    def text(self) -> bytes:
        """Return all measurements in the text format of Prometheus."""
        return generate_latest(self.registry)


__all__ = ["ServerMetrics"]
