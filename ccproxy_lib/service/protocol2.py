"""Protocol 2 with one client: frames in, handled in order, answers out."""

from __future__ import annotations

from functools import partial

from ccproxy_lib.errors import CommandError, PayloadTooLarge, ProtocolError
from ccproxy_lib.service.answers import answer, answer_error, log_refusal
from ccproxy_lib.service.commands import HANDLERS
from ccproxy_lib.service.connection import Connection, Disconnect
from ccproxy_lib.service.log_entries import LogEntries
from ccproxy_lib.service.turns import give_way
from ccproxy_lib.wire import json
from ccproxy_lib.wire.frames import Frame, FrameParser, Stream, Type

COMMANDS_IN_A_ROW = 32
# Plain numbers: looking a member up in its enum costs, and each frame is compared.
COMMAND = int(Type.COMMAND)
STREAM = int(Type.STREAM)


class Protocol2:
    """Speaks protocol 2 with a client."""

    __slots__ = ("_commands", "_entries", "_parser", "client")

    def __init__(self, client: Connection) -> None:
        self.client = client
        self._commands = 0
        self._entries: LogEntries | None = None
        self._parser = FrameParser(client.proxy.limits.max_payload_bytes)

    @property
    def completed(self) -> int:
        """A number that grows whenever a frame that came in parts is complete."""
        return self._parser.completed

    def feed(self, data: bytes) -> bool:
        """Handle the frames that ``data`` completes; whether it ends in the middle of one."""
        sole = self._parser.sole_command(data)
        if sole is not None:
            self._command(*sole)
            return False
        try:
            for frame in self._parser.feed(data):
                self._handle(frame)
        except PayloadTooLarge as error:
            if error.type == Type.COMMAND:
                answer_error(self.client, error.opcode, str(error))
            raise
        return self._parser.midway

    def _pass_on(self, data: bytes) -> bool:
        """Pass on what is nothing but a frame of stdin, unless that needs waiting."""
        stdin = self._parser.sole_stdin(data)
        shim = self.client.shim
        return stdin is not None and shim is not None and shim.pass_on(stdin)

    def _stdin(self, data: bytes | memoryview) -> None:
        if self.client.shim is None:
            raise ProtocolError("stdin from a client that isn't a shim")
        self.client.shim.stdin(data)
        # Where there is some there will be more.
        self.client.stream.shortcut = self._pass_on

    def _handle(self, frame: Frame) -> None:
        type, opcode, payload, _ = frame
        if type == COMMAND:
            self._command(opcode, payload)
        elif type == STREAM and opcode == Stream.STDIN:
            self._stdin(payload)
        elif type == STREAM and opcode == Stream.LOG:
            self._log(payload)
        else:
            raise ProtocolError(f"unknown frame of type {type} with opcode {opcode}")

    def _command(self, opcode: int, payload: bytes | memoryview) -> None:
        self._commands += 1
        if self._commands % COMMANDS_IN_A_ROW == 0:
            give_way()  # this client may have thousands more, and is not the only one
        handler = HANDLERS.get(opcode)
        if handler is None:
            answer_error(self.client, opcode, f"unknown command opcode {opcode}")
            raise ProtocolError(f"unknown command opcode {opcode}")
        if self.client.refusal:
            answer_error(self.client, opcode, self.client.refusal)
            raise Disconnect(f"refused: {self.client.refusal}")
        try:
            json.check_depth(payload, self.client.proxy.limits.max_json_depth)
            result = handler(self.client, payload)
        except CommandError as error:
            self.client.proxy.counters.refused(error)
            log_refusal(self.client, opcode, error.reason)
            self._refuse(opcode, str(error))
        else:
            if result is not None:
                answer(self.client, opcode, result)

    def _refuse(self, opcode: int, message: str) -> None:
        if self.client.shim is None:
            answer_error(self.client, opcode, message)
        else:
            self.client.shim.refuse(message, partial(answer_error, self.client, opcode))

    def _log(self, payload: bytes | memoryview) -> None:
        if self._entries is None:
            self._entries = LogEntries(self.client)
        self._entries.take(payload)
