"""The daemon: accepting clients, and coming to an orderly end."""

from __future__ import annotations

import gc
import logging
import signal
import socket
import time
from collections.abc import Callable, Iterable
from typing import Protocol

import gevent
from gevent.event import Event
from gevent.pool import Pool

from ccproxy_lib.host.listener import Listener
from ccproxy_lib.host.logs import tags
from ccproxy_lib.service import log_pump
from ccproxy_lib.service.accepting import AcceptingServer
from ccproxy_lib.service.clients import Clients
from ccproxy_lib.service.connection import Protocols
from ccproxy_lib.service.ksm import KsmTuner
from ccproxy_lib.service.pod import PodProxy
from ccproxy_lib.service.protocol1 import Protocol1
from ccproxy_lib.service.protocol2 import Protocol2
from ccproxy_lib.service.proxy import Proxy
from ccproxy_lib.state.limits import Limits
from ccproxy_lib.wire.generation import Generation

# Larger than the default, so that a burst of output leaves in one go; the kernel
# caps it.
CLIENT_SEND_BUFFER_BYTES = 1 << 20
# How many clients over the limit may be told so at once.
REFUSED_CLIENTS = 64
# How often to look for what nobody has come for: so often within its time, but
# neither more nor less often than this.
COLLECTS_PER_TTL = 4
MIN_COLLECT_EVERY_S = 0.02
MAX_COLLECT_EVERY_S = 30.0

PROTOCOLS: Protocols = {
    Generation.V1: Protocol1,
    Generation.V2: Protocol2,
}

# What ends the daemon in order.  SIGHUP does not where nohup(1) has had it ignored.
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

log = logging.getLogger(__name__)


class Report(Protocol):
    """To somebody outside who wants to know how the daemon is; nothing of it may wait."""

    def serving(self, status: Callable[[], str]) -> None:
        """The socket answers; ``status`` returns one line that says what is going on."""

    def stopping(self) -> None:
        """The daemon is about to end."""


def hold_signals() -> None:
    """Let no signal end the daemon in its own way, until :meth:`Daemon.run` looks after them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)


class Daemon:
    """One proxy on one socket.

    In pod mode it serves one VM and ends when that is unregistered and its last
    session has drained.  Without ``ksm`` it leaves KSM alone.  ``reports`` are
    told how it is.
    """

    def __init__(
        self,
        listener: Listener,
        limits: Limits,
        pod: bool = False,
        ksm: KsmTuner | None = None,
        reports: Iterable[Report] = (),
    ) -> None:
        self._listener = listener
        self._reports = tuple(reports)
        if pod:
            limits = limits._replace(max_vms=1)
        self._limits = limits
        self._stopping = Event()
        self.proxy = (PodProxy if pod else Proxy)(listener.uri, limits)
        if isinstance(self.proxy, PodProxy):
            self.proxy.on_end = self._end_of_pod
        self._clients = Clients(self.proxy, PROTOCOLS, lambda: listener.gid)
        self._ksm = ksm
        if ksm is not None:
            self.proxy.on_registered = ksm.vm_registered
        self._server = AcceptingServer(
            listener.socket, self._serve, spawn=Pool(limits.max_clients + REFUSED_CLIENTS)
        )

    def run(self) -> None:
        """Serve until SIGTERM, SIGINT or SIGHUP, or the end of the pod; then stop in order."""
        _settle()
        log_pump.start(self.proxy.counters)
        for number in ENDING:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                gevent.signal_handler(number, self._stopping.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        gevent.signal_handler(signal.SIGUSR1, log_greenlets)
        if self._ksm is not None:
            self._ksm.start()
        self._server.start()
        gevent.spawn(self._collect_garbage)
        self.proxy.hub_lag.start()
        gevent.spawn(self._report)
        log.info("listening", extra=tags(path=self._listener.path))
        self._stopping.wait()
        self._stop()

    def _report(self) -> None:
        """Tell that we serve; a greenlet, so that it is the hub that serves already."""
        for report in self._reports:
            report.serving(self._status)

    def _status(self) -> str:
        vms, clients = len(self.proxy.links), len(self.proxy.clients)
        return f"{vms} VM{'s'[: vms != 1]}, {clients} client{'s'[: clients != 1]}"

    def _serve(self, client: socket.socket, address: object) -> None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CLIENT_SEND_BUFFER_BYTES)
        self._clients.serve(client)

    def _end_of_pod(self) -> None:
        self._clients.drain()
        self._stopping.set()

    def _collect_garbage(self) -> None:
        while True:
            gevent.sleep(collect_every_s(self._limits))
            self.proxy.collect_garbage()

    def _stop(self) -> None:
        """Accept no more, let the answers in flight go out, and cut off what is stuck."""
        log.info("stopping")
        for report in self._reports:
            report.stopping()
        if self._ksm is not None:
            self._ksm.stop()  # first, in case that we are not given the time for the rest
        deadline_s = time.monotonic() + self._limits.shutdown_timeout_s
        self._server.stop_accepting()
        self._listener.close()
        for link in tuple(self.proxy.links.values()):
            link.close("the proxy is stopping")
        self._clients.hang_up()
        self._server.stop(timeout=max(0.0, deadline_s - time.monotonic()))
        log.info("stopped")


def collect_every_s(limits: Limits) -> float:
    """Return how many seconds lie between two looks for what nobody has come for."""
    wanted_s = min(limits.token_ttl_s, limits.orphan_ttl_s) / COLLECTS_PER_TTL
    return min(MAX_COLLECT_EVERY_S, max(MIN_COLLECT_EVERY_S, wanted_s))


def _settle() -> None:
    """Collect garbage again, but never look at what is loaded now and stays for good.

    Before there is any greenlet: those are found among what the collector looks at.
    """
    gc.freeze()
    gc.enable()


def log_greenlets() -> None:
    """Log how many greenlets there are, and what they are doing, those at one place together."""
    from ccproxy_lib.service.debug.greenlets import alive, report  # seldom needed

    found = alive()
    text = report(found)
    # In one go, so that no other line comes between.
    log.warning("greenlets", extra=tags(count=len(found)))
    for line in filter(None, text.splitlines()):
        log.warning("%s", line)
