"""One client: the greenlet that reads its frames, handles and answers them in order."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from gevent.event import Event as Happening

from ccproxy_lib.errors import CommandError, PayloadError, PayloadTooLarge, ProtocolError
from ccproxy_lib.host.hangup import hung_up
from ccproxy_lib.host.logs import tags
from ccproxy_lib.service.outbox import Outbox
from ccproxy_lib.service.waiting import wait_until
from ccproxy_lib.state.session import OVER, Event
from ccproxy_lib.wire import frames, payloads
from ccproxy_lib.wire.frames import Command, Frame, FrameParser, Stream, Type

if TYPE_CHECKING:
    from ccproxy_lib.service.proxy import Proxy
    from ccproxy_lib.service.shim import Shim
    from ccproxy_lib.service.vm_link import VmLink

READ_BYTES = 65536
# How long a client that has done may take to read its last answers.
FINISH_TIMEOUT_S = 5.0

log = logging.getLogger(__name__)

_LOG_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
}


class Disconnect(Exception):
    """The client has asked to be let go; a control flow of this module, not an error."""


class Connection:
    """One client connection.

    ``link`` is the VM that a runtime has registered or attached to; ``shim`` is
    set once the connection has claimed a session.  ``finished`` is set when all
    that it sent has been handled and nobody serves it any more.
    """

    __slots__ = ("_parser", "finished", "id", "link", "outbox", "proxy", "shim", "socket")

    def __init__(self, proxy: Proxy, client: socket.socket, client_id: int) -> None:
        self.proxy = proxy
        self.socket = client
        self.id = client_id
        self.link: VmLink | None = None
        self.shim: Shim | None = None
        self.finished = Happening()
        self.outbox = Outbox(client, self._poke)
        self._parser = FrameParser(proxy.limits.max_payload_bytes)

    def serve(self) -> None:
        """Serve the client until it has gone or broken the protocol."""
        log.info("client connected", extra=tags(client=self.id))
        reason = "closed by the client"
        all_read = False
        try:
            self._read()
            self._serve_half_closed()
            all_read = True
        except Disconnect:
            reason = "shim disconnected"
        except ProtocolError as error:
            reason = f"protocol error: {error}"
            log.warning("client broke the protocol", extra=tags(client=self.id, reason=error))
        except OSError as error:
            reason = f"connection lost: {error.strerror}"
        finally:
            self._leave(all_read)
            log.info("client gone", extra=tags(client=self.id, reason=reason))

    # ---- reading

    def _read(self) -> None:
        receive = self.socket.recv
        feed = self._parser.feed
        handle = self._handle
        while data := receive(READ_BYTES):
            try:
                for frame in feed(data):
                    handle(frame)
            except PayloadTooLarge as error:
                if error.type == Type.COMMAND:
                    self.answer_error(error.opcode, str(error))
                raise
        if self._parser.midway:
            raise ProtocolError("the connection ended in the middle of a frame")

    def _handle(self, frame: Frame) -> None:
        if frame.type == Type.STREAM and frame.opcode == Stream.STDIN:
            if self.shim is None:
                raise ProtocolError("stdin from a client that isn't a shim")
            self.shim.stdin(frame.payload)
        elif frame.type == Type.COMMAND:
            self._command(frame.opcode, frame.payload)
        elif frame.type == Type.STREAM and frame.opcode == Stream.LOG:
            self._log(frame.payload)
        else:
            raise ProtocolError(f"unknown frame of type {frame.type} with opcode {frame.opcode}")

    def _command(self, opcode: int, payload: bytes | memoryview) -> None:
        handler = self.proxy.commands.get(opcode)
        if handler is None:
            self.answer_error(opcode, f"unknown command opcode {opcode}")
            raise ProtocolError(f"unknown command opcode {opcode}")
        try:
            result = handler(self, payload)
        except CommandError as error:
            log.info(
                "command refused",
                extra=tags(client=self.id, command=Command(opcode).name, code=type(error).__name__),
            )
            self.answer_error(opcode, str(error))
        else:
            if result is not None:
                self.answer(opcode, result)

    def _log(self, payload: bytes | memoryview) -> None:
        try:
            entry = payloads.parse_log_entry(payload)
        except PayloadError as error:
            raise ProtocolError(f"invalid log entry: {error}") from None
        fields = tags(client=self.id, source=entry.source, container=entry.container_id)
        log.log(_LOG_LEVELS[entry.level], "%s", entry.message, extra=fields)

    # ---- answering

    def answer(self, opcode: int, payload: bytes = b"") -> None:
        """Answer a command with success."""
        self.outbox.send(frames.encode(Type.RESPONSE, opcode, payload))

    def answer_error(self, opcode: int, message: str) -> None:
        """Answer a command with the reason why it failed."""
        payload = payloads.error_response(message)
        self.outbox.send(frames.encode(Type.RESPONSE, opcode, payload, error=True))

    def answerer(self, opcode: int) -> Callable[[str], None]:
        """Return a function that answers a command later: with "" or an error's text."""

        def answer(message: str) -> None:
            if message:
                self.answer_error(opcode, message)
            else:
                self.answer(opcode)

        return answer

    # ---- coming to an end

    def become_shim(self, shim: Shim) -> None:
        """Claim a session; CommandError if it is claimed already."""
        shim.session.apply(Event.CLAIM)
        self.shim = shim
        shim.session.sink = self.outbox

    def disconnect(self) -> None:
        """Free the shim's token and session, and end the connection."""
        if self.shim is not None:
            session = self.shim.session
            self._let_go()
            self.proxy.registry.free(session)
        raise Disconnect

    def hang_up(self) -> None:
        """Take no more from the client; what it is due still goes out."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RD)

    def _serve_half_closed(self) -> None:
        """A shim that has only closed its sending side still gets what it is due."""
        if self.shim is None or hung_up(self.socket):
            return
        session = self.shim.session
        wait_until(session, lambda: session.state in OVER or self.outbox.broken, None)
        self.outbox.finish(None)

    def _leave(self, all_read: bool) -> None:
        """Come to an end; ``all_read`` tells that the client has read all that it was sent."""
        if not hung_up(self.socket):
            self.outbox.finish(FINISH_TIMEOUT_S)
        if self.shim is not None:
            session = self.shim.session
            self._let_go()
            self.proxy.shim_lost(session, all_read)
        self.finished.set()

    def _let_go(self) -> None:
        self.outbox.release()
        if self.shim is not None:
            self.shim.session.sink = None
            self.shim = None

    def _poke(self) -> None:
        if self.shim is not None:
            self.shim.session.poke()
