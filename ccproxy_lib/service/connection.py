"""One client: the greenlet that reads what it sends, and its end, however that comes."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any
from typing import Protocol as Protocol_

import gevent
from gevent.event import Event as Happening

from ccproxy_lib.errors import ProtocolError
from ccproxy_lib.host.hangup import hung_up
from ccproxy_lib.host.logs import tags
from ccproxy_lib.host.peer import Peer
from ccproxy_lib.service.outbox import Outbox
from ccproxy_lib.service.proxy import Proxy
from ccproxy_lib.service.stream import Stream
from ccproxy_lib.service.traces import free, session_tags
from ccproxy_lib.service.waiting import wait_until_over
from ccproxy_lib.state.rate import Rate
from ccproxy_lib.wire.generation import Generation, detect

if TYPE_CHECKING:
    from ccproxy_lib.service.shim import Shim
    from ccproxy_lib.service.vm_link import VmLink

READ_BYTES = 65536
ENDED_MIDWAY = "the connection ended in the middle of a message"
# How long a client that has done may take to read its last answers.
FINISH_TIMEOUT_S = 5.0
# How long a client that is refused may take to send the command to refuse.
REFUSE_TIMEOUT_S = 5.0
# How many refusals of one client are logged at once, and a second.
REFUSALS_BURST = 100
REFUSALS_PER_S = 10

log = logging.getLogger(__name__)


class Disconnect(Exception):
    """The client is let go, with everything as it should be; ``reason`` is for the log."""


class Protocol(Protocol_):
    """What a connection needs of the protocol that its client speaks."""

    @property
    def completed(self) -> int:
        """A number that grows whenever a message that came in parts is complete."""
        ...

    def feed(self, data: bytes) -> bool:
        """Handle what ``data`` completes; whether it ends in the middle of a message.

        Raises ProtocolError and Disconnect.
        """
        ...


Protocols = Mapping[Generation, Callable[["Connection"], Protocol]]


class Connection:
    """One client connection.

    ``link`` is the VM that a runtime has registered or attached to; ``shim`` is
    set once the connection has claimed a session.  ``refusal``, if any, is the
    answer to its first command, and then it is let go.
    """

    __slots__ = (
        "_finished",
        "_protocol",
        "_protocols",
        "_served",
        "_refusals",
        "_slow_message",
        "_slow_left_s",
        "id",
        "link",
        "outbox",
        "peer",
        "proxy",
        "refusal",
        "shim",
        "stream",
    )

    def __init__(
        self,
        proxy: Proxy,
        protocols: Protocols,
        client: socket.socket,
        client_id: int,
        peer: Peer | None = None,
        refusal: str = "",
    ) -> None:
        self.proxy = proxy
        self._protocols = protocols
        self.peer = peer
        self.stream = Stream(client)
        self.id = client_id
        self.link: VmLink | None = None
        self.shim: Shim | None = None
        # Made only for those who wait for it, as hardly anybody ever does.
        self._finished: Happening | None = None
        self._served = False
        self.outbox = Outbox(self.stream, proxy.limits.max_pending_bytes, self._poke)
        self.refusal = refusal
        self._protocol: Protocol | None = None
        self._refusals: Rate | None = None
        self._slow_message = -1
        self._slow_left_s = 0.0

    @property
    def vm_id(self) -> str:
        """The VM that the client has to do with, "" if there is none yet."""
        if self.shim is not None:
            return self.shim.session.vm.id
        return "" if self.link is None else self.link.vm.id

    def tags(self, **more: Any) -> dict[str, dict[str, Any]]:
        """Return the ``extra`` of a log call about this client."""
        return tags(client=self.id, **({"vm": self.vm_id} if self.vm_id else {}), **more)

    def log_refusal(self, what: str, **fields: Any) -> None:
        """Say why a command of this client came to nothing; of a flood of them not each."""
        now_s = time.monotonic()
        if self._refusals is None:
            self._refusals = Rate(REFUSALS_BURST, REFUSALS_PER_S, now_s)
        if self._refusals.take(now_s):
            if skipped := self._refusals.take_refused():
                fields["skipped"] = skipped
            log.info(what, extra=self.tags(**fields))

    def serve(self) -> None:
        """Serve the client until it has gone or broken the protocol."""
        log.info("client connected", extra=tags(client=self.id, **_peer_fields(self.peer)))
        reason = "closed by the client"
        all_read = False
        try:
            with gevent.Timeout(REFUSE_TIMEOUT_S, TimeoutError) if self.refusal else nullcontext():
                self._read()
            self._serve_half_closed()
            all_read = True
        except Disconnect as parting:
            reason = str(parting)
        except ProtocolError as error:
            reason = f"protocol error: {error}"
            self.proxy.counters.refusals["protocol"] += 1
            log.warning("client broke the protocol", extra=tags(client=self.id, reason=error))
        except OSError as error:
            reason = f"connection lost: {error.strerror or error}"
        finally:
            self._leave(all_read)
            log.info("client gone", extra=tags(client=self.id, reason=reason))

    # ---- reading

    def _read(self) -> None:
        data = self.stream.receive(READ_BYTES)
        if not data:
            return
        while (generation := detect(data)) is None:
            more = self._receive_rest(READ_BYTES)
            if not more:
                raise ProtocolError(ENDED_MIDWAY)
            data += more
        self._protocol = protocol = self._protocols[generation](self)
        receive = self.stream.receive
        while data:
            midway = protocol.feed(data)
            data = self._receive_rest(READ_BYTES) if midway else receive(READ_BYTES)
        if midway:
            raise ProtocolError(ENDED_MIDWAY)

    def _receive_rest(self, limit_bytes: int) -> bytes:
        """Receive more of a message that has begun, which may not take for ever.

        What counts is the time that is spent waiting for this one, so a client
        whose input waits for its process is not blamed for that.
        """
        completed = self._protocol.completed if self._protocol else 0
        if completed != self._slow_message:
            self._slow_message = completed
            self._slow_left_s = self.proxy.limits.frame_timeout_s
        began_s = time.monotonic()
        try:
            return self.stream.receive_within(limit_bytes, max(self._slow_left_s, 0.0))
        except TimeoutError:
            timeout_s = self.proxy.limits.frame_timeout_s
            self.proxy.counters.deadlines["frame-timeout"] += 1
            raise ProtocolError(f"half a message, and no more of it for {timeout_s:g} s") from None
        finally:
            self._slow_left_s -= time.monotonic() - began_s

    # ---- coming to an end

    def become_shim(self, shim: Shim) -> None:
        """Claim a session; CommandError if it is claimed already."""
        shim.session.claim()
        self.shim = shim
        shim.session.sink = self.outbox
        self.proxy.holders[shim.session] = self

    def disconnect(self) -> None:
        """Free the shim's token and session, and end the connection."""
        if self.shim is not None:
            session = self.shim.session
            self._let_go()
            self.proxy.events.tell_of("shim-disconnected", session)
            log.info("shim disconnected", extra=session_tags(session, client=self.id))
            free(self.proxy.registry, session, "its shim has disconnected")
        raise Disconnect("shim disconnected")

    def wait_until_finished(self, timeout_s: float) -> None:
        """Wait until all that it sent is handled and nobody serves it, but not for ever."""
        if not self._served:
            self._finished = self._finished or Happening()
            self._finished.wait(timeout_s)

    def hang_up(self) -> None:
        """Take no more from the client; what it is due still goes out."""
        with suppress(OSError):
            self.stream.shutdown(socket.SHUT_RD)

    def _serve_half_closed(self) -> None:
        """A shim that has only closed its sending side still gets what it is due."""
        if self.shim is not None:
            wait_until_over(self.shim.session, self.stream)
            self.outbox.finish(None)

    def _leave(self, all_read: bool) -> None:
        """Come to an end; ``all_read`` tells that the client has read all that it was sent."""
        if self.outbox.sending and not hung_up(self.stream):
            self.outbox.finish(FINISH_TIMEOUT_S)
        if self.shim is not None:
            session = self.shim.session
            self._let_go()
            self.proxy.shim_lost(session, self.id, all_read)
        self.proxy.events.unsubscribe(self.outbox)
        if self.outbox.cut_off:
            self.proxy.counters.drops["answers"] += 1
        self.outbox.close()
        self.stream.close()
        self._served = True
        if self._finished is not None:
            self._finished.set()

    def _let_go(self) -> None:
        self.outbox.release()
        if self.shim is not None:
            self.shim.session.sink = None
            del self.proxy.holders[self.shim.session]
            self.shim = None

    def _poke(self) -> None:
        if self.shim is not None:
            self.shim.session.poke()


def _peer_fields(peer: Peer | None) -> dict[str, int]:
    return {} if peer is None else {"pid": peer.pid, "uid": peer.uid, "gid": peer.gid}
