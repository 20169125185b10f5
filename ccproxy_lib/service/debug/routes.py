"""What each path answers, and who may ask."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from ccproxy_lib.errors import CommandError
from ccproxy_lib.host.tcp_listener import is_foreign_name
from ccproxy_lib.service.debug import greenlets, memory, metrics, page, report
from ccproxy_lib.service.debug.profile import Busy, Profiler, parse_clock, parse_seconds
from ccproxy_lib.service.proxy import Proxy

TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"
JSON = "application/json"

# Nothing of it is for other sites, for caches, or for guessing what it is.
HEADERS = [
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", page.policy()),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
]

INDEX = """\
cc-proxy: metrics and debugging

/                           a page for humans, live
/metrics                    for Prometheus
/status                     all VMs and sessions as JSON
    ?containerId=ID         of one VM only
    ?sessions=false         without the sessions
/debug/greenlets            what each greenlet is doing
/debug/memory               what the memory is used for
/debug/profile?seconds=N    where the CPU time goes: collapsed stacks of 1 to 60 s
    &clock=wall             where the time goes, waiting included
"""

Query = dict[str, str]

log = logging.getLogger(__name__)


class Route(NamedTuple):
    """What answers a path, and what kind of content that is."""

    answer: Callable[[Query], Iterable[bytes]]
    kind: str = TEXT


class Refused(Exception):
    """The request is not answered; the text is one sentence for the client."""

    def __init__(self, status: str, text: str, *headers: tuple[str, str]) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


class Application:
    """The WSGI application.  ``only_local_names``: refuse all names of hosts but localhost."""

    def __init__(self, proxy: Proxy, only_local_names: bool) -> None:
        self._proxy = proxy
        self._only_local_names = only_local_names
        self._profiler = Profiler()
        found = metrics.Metrics(proxy)
        index = Route(lambda query: [INDEX.encode()])
        stacks = Route(lambda query: [greenlets.report(greenlets.alive()).encode()])
        used = Route(lambda query: [memory.report(proxy).encode()])
        profile = Route(self._profile)
        self._routes = {
            "/": Route(lambda query: [page.html()], HTML),
            "/metrics": Route(lambda query: [found.scrape()], metrics.KIND),
            "/status": Route(self._status, JSON),
            "/debug": index,
            "/debug/greenlets": stacks,
            "/debug/memory": used,
            "/debug/profile": profile,
            # Where Go's daemons have the like.
            "/debug/pprof": index,
            "/debug/pprof/goroutine": stacks,
            "/debug/pprof/heap": used,
            "/debug/pprof/profile": profile,
        }

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer one request."""
        status, kind = "200 OK", TEXT
        more: tuple[tuple[str, str], ...] = ()
        try:
            route = self._route(environ)
            # A HEAD does no work, as nobody sees what comes of it.
            body = route.answer(_query(environ)) if environ["REQUEST_METHOD"] == "GET" else []
            kind = route.kind
        except Refused as refused:
            status, more = refused.status, refused.headers
            body = [f"{refused}\n".encode()]
        except Exception:
            log.exception("HTTP request failed")
            status = "500 Internal Server Error"
            body = [b"This is a bug of cc-proxy; its log says more.\n"]
        start_response(status, [("Content-Type", kind), *HEADERS, *more])
        return body

    def _route(self, environ: dict[str, Any]) -> Route:
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            text = "Only GET and HEAD are answered."
            raise Refused("405 Method Not Allowed", text, ("Allow", "GET, HEAD"))
        if self._only_local_names and is_foreign_name(environ.get("HTTP_HOST", "")):
            text = "Only requests for localhost or for an address are answered."
            raise Refused("421 Misdirected Request", text)
        if _is_from_elsewhere(environ):
            raise Refused("403 Forbidden", "Other sites' pages are not answered.")
        path = environ["PATH_INFO"].rstrip("/") or "/"
        if path not in self._routes:
            raise Refused("404 Not Found", "There is no such page: /debug/ lists those there are.")
        return self._routes[path]

    def _status(self, query: Query) -> Iterable[bytes]:
        sessions = query.get("sessions", "true").lower() not in ("false", "0")
        try:
            return report.pieces(self._proxy, query.get("containerId", ""), sessions)
        except CommandError as error:
            raise Refused("404 Not Found", str(error)) from None

    def _profile(self, query: Query) -> Iterable[bytes]:
        try:
            seconds = parse_seconds(query.get("seconds", ""))
            clock = parse_clock(query.get("clock", ""))
            return [self._profiler.run(seconds, clock).encode()]
        except ValueError as error:
            raise Refused("400 Bad Request", str(error)) from None
        except Busy as busy:
            raise Refused("409 Conflict", str(busy)) from None


def _query(environ: dict[str, Any]) -> Query:
    return {name: values[-1] for name, values in parse_qs(environ["QUERY_STRING"]).items()}


def _is_from_elsewhere(environ: dict[str, Any]) -> bool:
    """Whether a browser asks on behalf of another site's page, and not to show the answer."""
    site = environ.get("HTTP_SEC_FETCH_SITE", "none")
    return site not in ("same-origin", "none") and environ.get("HTTP_SEC_FETCH_MODE") != "navigate"
