"""A thread that asks for the status, so that keys and signals never wait for the daemon."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ccproxy_lib.client import Client
from ccproxy_lib.errors import ProxyError
from ccproxy_lib.front.views.answer import Members


class Poller:
    """Asks each ``interval_s``, and calls ``nudge`` when there is something to take."""

    def __init__(self, client: Client, interval_s: float, nudge: Callable[[], None]) -> None:
        self._client = client
        self._interval_s = interval_s
        self._nudge = nudge
        self._stop = threading.Event()
        self._answer: Members | None = None
        self._error: ProxyError | None = None
        self._heard_s = time.monotonic()
        # It may hang in a call, which must not keep the program from ending.
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Poller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    @property
    def silent_s(self) -> float:
        """How long ago the last answer came."""
        return time.monotonic() - self._heard_s

    def take(self) -> Members | None:
        """Return an answer that has come since the last call; raises ProxyError after the last."""
        if self._error is not None:
            raise self._error
        answer, self._answer = self._answer, None
        return answer

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            try:
                self._answer = self._client.status()
            except ProxyError as error:
                self._error = error
            self._heard_s = time.monotonic()
            self._nudge()
            if self._error:
                return
