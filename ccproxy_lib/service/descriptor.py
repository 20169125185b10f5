"""An I/O descriptor of protocol 1: one process's streams on a socket pair.

Both sides speak the agent's I/O messages on it.  It outlives the connection that
asked for it, and ends when the client closes it, when the exit status has been
taken, or with its VM.
"""

from __future__ import annotations

import contextlib
import logging
import socket

import gevent

from ccproxy_lib.errors import ProtocolError
from ccproxy_lib.service.outbox import Outbox
from ccproxy_lib.service.proxy import Proxy
from ccproxy_lib.service.stream import Stream
from ccproxy_lib.service.traces import free, session_tags
from ccproxy_lib.service.vm_link import VmLink
from ccproxy_lib.service.waiting import wait_until, wait_until_over
from ccproxy_lib.state.session import OVER
from ccproxy_lib.wire.tty import TtyParser

READ_BYTES = 65536

log = logging.getLogger(__name__)


class Descriptor:
    """Our end of one I/O descriptor; raises CommandError if its VM has too many sessions."""

    def __init__(self, proxy: Proxy, link: VmLink, ours: socket.socket, streams: int) -> None:
        self._proxy = proxy
        self._link = link
        self._stream = Stream(ours)
        self.session = proxy.registry.allocate_descriptor(link.vm, streams, proxy.new_packet_output)
        self._outbox = Outbox(self._stream, proxy.limits.max_pending_bytes, self.session.poke)
        self._outbox.adopt(self.session.output)
        self.session.sink = self._outbox

    def serve(self) -> None:
        """Carry streams both ways until the end; a greenlet of its own."""
        closer = gevent.spawn(self._close_when_over)
        reason = "closed by the client"
        try:
            self._read()
        except ProtocolError as error:
            reason = f"protocol error: {error}"
            fields = session_tags(self.session, reason=error)
            log.warning("client broke the I/O protocol", extra=fields)
        except OSError as error:
            reason = f"lost: {error.strerror}"
        finally:
            closer.kill()
            self._outbox.release()
            self._outbox.close()
            self.session.sink = None
            self._stream.close()
            fields = session_tags(self.session, reason=reason)
            log.info("I/O descriptor closed", extra=fields)
            free(self._proxy.registry, self.session, "its descriptor is closed")
            self._link.leave_when_idle()

    def _read(self) -> None:
        parser = TtyParser(self._proxy.limits.max_payload_bytes)
        while data := self._stream.receive(READ_BYTES):
            for seq, piece, length in parser.feed(memoryview(data)):
                if seq != self.session.stdio:
                    raise ProtocolError(f"input for {seq} on the descriptor of another number")
                self._write(piece, length)
        wait_until_over(self.session, self._stream)
        self._outbox.finish(None)

    def _write(self, piece: memoryview, length: int) -> None:
        target = self.session.input
        if target is None:
            return
        if length:
            self._link.io.write(target, piece, self._stream)
        else:
            self._link.io.write_eof(target)

    def _close_when_over(self) -> None:
        """End the reading once the exit status is on its way; a greenlet of its own."""
        session = self.session
        wait_until(session, lambda: session.state in OVER or self._outbox.broken, None)
        self._outbox.finish(None)
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)
