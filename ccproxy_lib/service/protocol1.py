"""Protocol 1 with one client: requests in, handled in order, responses out.

The same VMs, sessions and limits as protocol 2's stand behind it.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

import gevent

from ccproxy_lib.errors import CommandError, PayloadTooLarge
from ccproxy_lib.host.logs import tags
from ccproxy_lib.service.connection import Connection, Disconnect
from ccproxy_lib.service.descriptor import Descriptor
from ccproxy_lib.service.traces import session_tags
from ccproxy_lib.service.turns import give_way
from ccproxy_lib.service.vm_link import VmLink
from ccproxy_lib.wire import ctl, json, messages, payloads
from ccproxy_lib.wire.messages import MessageParser, Request

# What goes with an I/O descriptor; some byte has to.
DESCRIPTOR_BYTE = b"F"
STREAM_COUNTS = (1, 2)
REQUESTS_IN_A_ROW = 32
VERSION = {"version": 1}

Answer = dict[str, Any] | None

log = logging.getLogger(__name__)


class Protocol1:
    """Speaks protocol 1 with a client."""

    __slots__ = ("_parser", "client")

    def __init__(self, client: Connection) -> None:
        self.client = client
        self._parser = MessageParser(client.proxy.limits.max_payload_bytes)

    @property
    def completed(self) -> int:
        """A number that grows whenever a message is complete."""
        return self._parser.completed

    def feed(self, data: bytes) -> bool:
        """Handle the requests that ``data`` completes; whether it ends in the middle of one."""
        try:
            for payload in self._parser.feed(data):
                self._request(payload)
        except PayloadTooLarge as error:
            self._respond(messages.failure(str(error)))
            raise
        return self._parser.midway

    def _request(self, payload: bytes) -> None:
        if self._parser.completed % REQUESTS_IN_A_ROW == 0:
            give_way()  # this client may have thousands more, and is not the only one
        if self.client.refusal:
            self._respond(messages.failure(self.client.refusal))
            raise Disconnect(f"refused: {self.client.refusal}")
        try:
            json.check_depth(payload, self.client.proxy.limits.max_json_depth)
            self._handle(messages.parse_request(payload))
        except CommandError as error:
            self.client.proxy.counters.refused(error)
            self.client.log_refusal("request refused", reason=error.reason)
            self._respond(messages.failure(str(error)))

    def _handle(self, request: Request) -> None:
        if request.name == "allocateIO":
            self._allocate_io(request)
            return
        handler = HANDLERS.get(request.name)
        if handler is None:
            raise CommandError(f"no payload named '{request.name}'")
        self._respond(messages.success(handler(self.client, request)))

    def _respond(self, payload: bytes) -> None:
        self.client.outbox.send(messages.encode(payload))

    def _allocate_io(self, request: Request) -> None:
        """Answer with the number of a new session, then pass the descriptor of its streams."""
        link = _attached(self.client)
        streams = request.data.get("nstreams")
        if type(streams) is not int or streams not in STREAM_COUNTS:
            raise CommandError(f"allocateIO needs 'nStreams' to be 1 or 2, got {streams!r:.32}")
        ours, theirs = _socket_pair()
        with theirs:
            try:
                descriptor = Descriptor(self.client.proxy, link, ours, streams)
            except BaseException:
                ours.close()
                raise
            gevent.spawn(descriptor.serve)
            fields = session_tags(descriptor.session, client=self.client.id)
            log.info("I/O descriptor opened", extra=fields)
            self._respond(messages.success({"ioBase": descriptor.session.stdio}))
            # In a write of its own: a client that reads the response with a plain read
            # would lose the descriptor, were it to come with it.
            self.client.outbox.finish(None)
            self.client.stream.send_descriptor(DESCRIPTOR_BYTE, theirs.fileno())


def hello(client: Connection, request: Request) -> Answer:
    """Connect to a VM, make it known, and attach the client to it."""
    client.link = client.proxy.register(payloads.register_vm_of(request.data), client.id)
    return VERSION


def attach(client: Connection, request: Request) -> Answer:
    """Attach the client to a registered VM."""
    client.link = client.proxy.find(payloads.vm_id_of(request.data))
    log.info("client attached", extra=tags(vm=client.link.vm.id, client=client.id))
    return VERSION


def hyper(client: Connection, request: Request) -> Answer:
    """Pass a command to the agent as it is; its answer's payload is not for the client."""
    link = _attached(client)
    command = payloads.hyper_of(request.data, request.text)
    code = ctl.COMMANDS.get(command.name)
    if code is None:
        raise CommandError(f"unknown command '{command.name}'")
    link.command(code, command.data.encode())
    return None


def bye(client: Connection, request: Request) -> Answer:
    """Make a VM unknown and close it."""
    vm_id = payloads.vm_id_of(request.data)
    client.proxy.dismiss(vm_id, client.id)
    if client.link is not None and client.link.vm.id == vm_id:
        client.link = None
    return None


HANDLERS: dict[str, Callable[[Connection, Request], Answer]] = {
    "hello": hello,
    "attach": attach,
    "hyper": hyper,
    "bye": bye,
}


def _attached(client: Connection) -> VmLink:
    if client.link is None:
        raise CommandError("client not attached to a vm")
    return client.link


def _socket_pair() -> tuple[socket.socket, socket.socket]:
    try:
        return socket.socketpair()
    except OSError as error:
        raise CommandError(f"cannot make an I/O descriptor: {error.strerror}") from None
