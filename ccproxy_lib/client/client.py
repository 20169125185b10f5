"""What a runtime and an operator can ask the proxy for."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ccproxy_lib.client import events
from ccproxy_lib.client.address import DEFAULT_PATH
from ccproxy_lib.client.connection import DEFAULT_TIMEOUT_S, Attend, Connection
from ccproxy_lib.client.deadline import Deadline
from ccproxy_lib.client.decoding import decode
from ccproxy_lib.client.events import Event, EventsDropped, ProxyGone
from ccproxy_lib.client.secret import hidden
from ccproxy_lib.errors import ProxyError, ProxyLost
from ccproxy_lib.wire.frames import Command, Frame, Notification, Stream, Type

UNKNOWN = "unknown containerID"
# Events that wait here while nobody takes them; the proxy keeps some, too.
MAX_EVENTS = 10_000


class Client(Connection):
    """A connection for a runtime's and an operator's calls, for any number of threads.

    ``address`` is a path or a ``unix://`` URI.  Each call raises ProxyError with
    the proxy's text if it is refused, ProxyTimeout if it takes over ``timeout_s``
    seconds (the client's own unless the call is given one) and ProxyLost if the
    connection ends.  ``attend`` is as for any Connection.
    """

    def __init__(
        self,
        address: str = DEFAULT_PATH,
        timeout_s: float | None = DEFAULT_TIMEOUT_S,
        *,
        attend: Attend | None = None,
    ) -> None:
        self._events: deque[Event] = deque()
        self._dropped = 0
        super().__init__(address, timeout_s, take=self._keep_event, attend=attend)

    # ---- VMs

    def register_vm(
        self,
        vm_id: str,
        ctl_path: str,
        io_path: str,
        streams: int = 0,
        *,
        console: str | None = None,
        timeout_s: float | None = None,
    ) -> list[str]:
        """Register a VM by the paths of its agent's sockets, and attach to it.

        Returns ``streams`` tokens, each good for one process.  ``console`` is the
        path of a socket with the VM's console.
        """
        members = {"containerId": vm_id, "ctlSerial": ctl_path, "ioSerial": io_path}
        return self._tokens(Command.REGISTER_VM, members | {"console": console}, streams, timeout_s)

    def attach_vm(
        self, vm_id: str, streams: int = 0, *, timeout_s: float | None = None
    ) -> list[str]:
        """Attach to a registered VM; return ``streams`` tokens."""
        return self._tokens(Command.ATTACH_VM, {"containerId": vm_id}, streams, timeout_s)

    def unregister_vm(self, vm_id: str, *, timeout_s: float | None = None) -> None:
        """Unregister a VM; its running processes go on."""
        self._ask(Command.UNREGISTER_VM, {"containerId": vm_id}, timeout_s)

    @contextmanager
    def registered(
        self, vm_id: str, ctl_path: str, io_path: str, streams: int = 0
    ) -> Iterator[list[str]]:
        """Register a VM for a while; the context's value are its tokens."""
        tokens = self.register_vm(vm_id, ctl_path, io_path, streams)
        try:
            yield tokens
        finally:
            try:
                self.unregister_vm(vm_id)
            except ProxyError as error:
                if UNKNOWN not in str(error):  # it has gone by itself
                    raise

    # ---- the agent

    def hyper(
        self, name: str, data: object = None, *tokens: str, timeout_s: float | None = None
    ) -> bytes:
        """Send a command to the agent of the attached VM; return its answer, often empty.

        ``data`` is turned into JSON, and bytes are JSON already: they reach the
        agent as they are.  A command that starts a process takes one token, or none
        if nobody wants its output.
        """
        members = {"hyperName": name, "tokens": list(tokens) or None}
        payload = _json(members)
        if data is not None:
            raw = data if isinstance(data, bytes) else json.dumps(data).encode()
            payload = b'%s,"data":%s}' % (payload[:-1], raw)
        with hidden(*tokens):
            return self.call(Command.HYPER, payload, timeout_s)

    def ping(self, *, timeout_s: float | None = None) -> float:
        """Ask the agent of the attached VM for a sign of life; return how many seconds it took."""
        begin_s = time.monotonic()
        self.hyper("ping", timeout_s=timeout_s)
        return time.monotonic() - begin_s

    # ---- the daemon

    def log(
        self, level: str, message: str, *, source: str = "runtime", container_id: str | None = None
    ) -> None:
        """Put a line into the daemon's log; there is no answer.

        ``level`` is debug, info, warn or error, ``source`` runtime or shim; the
        proxy closes the connection if it is anything else.
        """
        members = {
            "source": source,
            "level": level,
            "msg": message,
            "containerId": container_id,
        }
        self.send(Type.STREAM, Stream.LOG, _json(members), self.deadline(None))

    def status(
        self, vm_id: str | None = None, *, sessions: bool = True, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Return what the daemon says of itself and its VMs, or of one VM (docs/PROTOCOL.md).

        Times are in seconds, sizes in bytes.  Without ``sessions`` the VMs have
        only the sums of theirs.
        """
        members = {"containerId": vm_id, "sessions": None if sessions else False}
        answer = self._ask(Command.STATUS, members, timeout_s)
        try:
            return dict(decode(answer))
        except (ValueError, TypeError):
            raise ProxyError("the proxy sent a status that is no JSON object") from None

    def log_control(
        self, level: str, container_id: str | None = None, *, timeout_s: float | None = None
    ) -> None:
        """Set the daemon's log level, or raise it for one VM or container alone.

        ``level`` is debug, info, warn, error, fatal or panic; for a VM or container it
        may also be "default", which takes that back.
        """
        self._ask(Command.LOG_CONTROL, {"level": level, "containerId": container_id}, timeout_s)

    # ---- events

    def events(
        self, vm_id: str | None = None, *, timeout_s: float | None = None
    ) -> Iterator[Event]:
        """Subscribe to events, of one VM or of all, and return an iterator over them.

        What happens from now on is in it, also what comes while other calls wait
        for their answers.  It ends when the client is closed, raises ProxyLost at
        any other end of the connection, and ProxyTimeout if nothing happens for
        ``timeout_s`` seconds; it may then be asked again.  Subscribing anew
        changes which VM the events are of.
        """
        self._ask(Command.SUBSCRIBE, {"containerId": vm_id}, None)
        return _Events(self, timeout_s)

    def watch(
        self, callback: Callable[[Event], None], vm_id: str | None = None
    ) -> threading.Thread:
        """Subscribe, and call ``callback`` with each event in a thread of its own.

        The last one is a ProxyGone, unless the client is closed.  What it raises
        ends the thread.  Returns the thread, which is running.
        """

        def follow() -> None:
            try:
                for event in stream:
                    callback(event)
            except ProxyLost as error:
                callback(ProxyGone(time.time(), "", str(error)))

        stream = self.events(vm_id)
        thread = threading.Thread(target=follow, name="ccproxy events", daemon=True)
        thread.start()
        return thread

    def next_event(self, deadline: Deadline) -> Event:
        """Return the next event, waiting for it; ProxyTimeout and ProxyLost if none comes."""
        event = self.wait(self._take_event, deadline)
        assert event is not None
        return event

    def _take_event(self) -> Event | None:
        if self._events:
            return self._events.popleft()
        if self._dropped:
            count, self._dropped = self._dropped, 0
            return EventsDropped(time.time(), "", count)
        return None

    def _keep_event(self, frame: Frame) -> None:
        if frame.type == Type.NOTIFICATION and frame.opcode == Notification.EVENT:
            if self._dropped or len(self._events) >= MAX_EVENTS:
                self._dropped += 1
            else:
                self._events.append(events.parse(bytes(frame.payload)))

    # ---- calls

    def _tokens(
        self, command: int, members: dict[str, object], streams: int, timeout_s: float | None
    ) -> list[str]:
        answer = self._ask(command, members | {"numIOStreams": streams}, timeout_s)
        try:
            tokens = decode(answer)["io"]["tokens"] or []
        except (ValueError, LookupError, TypeError):
            raise ProxyError("the proxy sent an answer without tokens") from None
        if not isinstance(tokens, list) or [type(each) for each in tokens] != [str] * streams:
            raise ProxyError("the proxy sent other tokens than it was asked for")
        return tokens

    def _ask(self, command: int, members: dict[str, Any], timeout_s: float | None) -> bytes:
        return self.call(command, _json(members), timeout_s)


class _Events(Iterator[Event]):
    def __init__(self, client: Client, timeout_s: float | None) -> None:
        self._client = client
        self._timeout_s = timeout_s

    def __next__(self) -> Event:
        try:
            return self._client.next_event(Deadline(self._timeout_s))
        except ProxyLost:
            if self._client.closed:
                raise StopIteration from None
            raise


def _json(members: dict[str, Any]) -> bytes:
    """Return the payload of a command; members that are None are left out."""
    given = {name: value for name, value in members.items() if value is not None}
    return json.dumps(given, separators=(",", ":")).encode() if given else b""
