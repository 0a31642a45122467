"""Metrics for Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.responses import Response

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)  # bounds of the histogram's buckets


class Metrics:
    """The metrics of one application.

    Arguments:
        slots_taken: a function that returns the number of worker slots in use.
    """

    def __init__(self, slots_taken: Callable[[], int]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "sdtrt_requests", "Requests by operation and status", ["operation", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "sdtrt_request_seconds", "Time to answer", ["operation"], buckets=SECONDS, registry=self._registry
        )
        self._sent = Counter("sdtrt_sent_bytes", "Bytes of response bodies", ["operation"], registry=self._registry)
        taken = Gauge("sdtrt_places_taken", "Requests that are computed or wait for a worker", registry=self._registry)
        taken.set_function(slots_taken)

    def count(self, operation: str, response: Response, seconds: float) -> None:
        self._requests.labels(operation, str(response.status_code)).inc()
        self._seconds.labels(operation).observe(seconds)
        self._sent.labels(operation).inc(len(response.body))

    def response(self) -> Response:
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)
