"""Errors as `application/problem+json` (RFC 9457)."""

import logging
from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.responses import Response

from sdtrt.errors import BundleError, FormatError, LimitError
from sdtrt.process.text import json_text, without_addresses

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = "1"  # seconds
CLIENT_GONE = 499  # nginx's status for a client that has disconnected; only logs and metrics see it

log = logging.getLogger("sdtrt.serve")


class ProblemError(Exception):
    """A request that is refused.

    Arguments:
        status: the HTTP status.
        detail: the reason, in one line.
        headers: further headers of the response (default none).
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, detail, headers)  # all arguments, so that the error can be pickled
        self.status, self.detail, self.headers = status, detail, dict(headers or {})

    def __str__(self) -> str:
        return self.detail

    def response(self) -> Response:
        title = HTTPStatus(self.status).phrase if self.status != CLIENT_GONE else "Client Closed Request"
        body = {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail}
        return Response(json_text(body), self.status, self.headers, MEDIA_TYPE)


def busy() -> ProblemError:
    return ProblemError(503, "all workers are busy; try again later", {"Retry-After": RETRY_AFTER})


def to_problem(error: Exception) -> ProblemError:
    """Return the problem that the sender of a request sees; an error that the request did not cause is logged."""
    match error:
        case ProblemError():
            return error
        case HTTPException():
            return ProblemError(error.status_code, error.detail, error.headers)
        case LimitError():
            return ProblemError(413, str(error))
        case FormatError() | BundleError() | ValueError():
            return ProblemError(422, without_addresses(str(error)))
        case _:
            log.error("a request failed", exc_info=error)
            return ProblemError(500, "internal error; the log of the service has the details")
