"""Fuzz target for all that a client can do: a proxy, its connections and a VM, in one process.

An input is a script (see fuzz/script.py).  It is played on real socket pairs
against a new Proxy, whose VM acknowledges every command and echoes every stdin.
When it has been played and everybody has left, nothing may be left behind, and
no greenlet may have failed.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from gevent import monkey

monkey.patch_socket(dns=False)
monkey.patch_time()

import socket  # noqa: E402 (what is patched comes behind the patch)

import gevent  # noqa: E402

from ccproxy_lib.errors import ProtocolError  # noqa: E402
from ccproxy_lib.service import io_channel, shim, waiting  # noqa: E402
from ccproxy_lib.service.clients import Clients  # noqa: E402
from ccproxy_lib.service.proxy import Proxy  # noqa: E402
from ccproxy_lib.service.server import PROTOCOLS  # noqa: E402
from ccproxy_lib.state import registry  # noqa: E402
from ccproxy_lib.state.limits import Limits  # noqa: E402
from ccproxy_lib.state.session import Session  # noqa: E402
from ccproxy_lib.wire import ctl, tty  # noqa: E402
from ccproxy_lib.wire.ctl import Code  # noqa: E402
from fuzz import script  # noqa: E402

LIMITS = Limits(
    ready_timeout_s=0.005,
    shim_timeout_s=0.005,
    process_timeout_s=0.005,
    command_timeout_s=0.005,
    frame_timeout_s=0.005,
    session_buffer_bytes=1024,
    session_spool_bytes=1024,
    max_vms=2,
    max_tokens=4,
    max_commands=3,
    max_payload_bytes=4096,
    max_pending_bytes=65536,
)
# How long leaving may take before it counts as a hang, many times what it needs.
PATIENCE_S = 10.0
# An event leads to the next one; so many rounds and no conversation is under way any more.
ROUNDS = 4
READ_BYTES = 65536
MAX_FDS = 8


class Finding(AssertionError):
    """A promise is broken."""


def run(data: bytes) -> bool:
    """Play a script; Finding if anything goes wrong that no client may bring about."""
    with _watched() as watch:
        world = World()
        try:
            for letter, sent in script.steps(data):
                world.step(letter, sent)
                settle()
            world.everybody_leaves()
            watch.nothing_is_left()
        finally:
            world.close()
    return not watch.refused


def settle() -> None:
    """Let everybody do what there is to do."""
    for _ in range(ROUNDS):
        gevent.idle()


def wait_until(done: Callable[[], object], what: Callable[[], object]) -> None:
    """Wait for the end of something; Finding, with what is left, if it does not come."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > deadline_s:
            raise Finding(f"left behind: {what()}")
        gevent.sleep(0.001)


# ---- the parties


class World:
    """A proxy, a VM and up to four clients."""

    def __init__(self) -> None:
        _tokens.restart()
        self.proxy = Proxy("unix:///fuzz", LIMITS)
        self.clients = Clients(self.proxy, PROTOCOLS, lambda: None)
        self._clients: dict[bytes, Client] = {}
        self._client = self._client_of(script.CLIENTS[0])

    def step(self, letter: bytes, sent: bytes) -> None:
        """Do what a mark says."""
        if letter in script.CLIENTS:
            self._client = self._client_of(letter)
            self._client.send(sent)
        elif letter == script.GUEST_IO[-1:]:
            _guest.say("io", sent)
        elif letter == script.GUEST_CTL[-1:]:
            _guest.say("ctl", sent)
        elif letter == script.DIE[-1:]:
            _guest.die()
        elif letter == script.CLOSE[-1:]:
            self._client.close()
        elif letter == script.HALF_CLOSE[-1:]:
            self._client.half_close()
        elif letter == script.READ[-1:]:
            self._client.read()
        elif letter == script.DESCRIPTOR[-1:]:
            self._client.use_descriptor(sent)

    def everybody_leaves(self) -> None:
        """All clients close, then the VM goes; each time look for what is left."""
        for client in self._clients.values():
            client.close()
        proxy = self.proxy
        connected = self.proxy.clients
        wait_until(lambda: not connected, lambda: f"{len(connected)} connections")
        _check(not proxy.holders, "holders of sessions")
        _check(all(not session.sink for session in self._sessions_with_token()), "sinks")
        _guest.die()
        wait_until(lambda: not proxy.links, lambda: f"{len(proxy.links)} VMs")
        _check(not proxy.registry.vms, "registered VMs")
        _check(not proxy.registry.tokens, f"{proxy.registry.tokens} tokens")
        proxy.registry.unregister(proxy.registry.reserve("c1"))  # the id is free

    def close(self) -> None:
        """Close everything, whatever has happened."""
        for client in self._clients.values():
            client.close()
        _guest.die()

    def _sessions_with_token(self) -> Iterator[Session]:
        vms = [link.vm for link in self.proxy.links.values()]
        return (session for vm in vms for session in vm.sessions if session.token)

    def _client_of(self, letter: bytes) -> Client:
        if letter not in self._clients:
            self._clients[letter] = Client(self.clients)
        return self._clients[letter]


class Client:
    """A client's side of a connection; it never waits for anything."""

    def __init__(self, clients: Clients) -> None:
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        self._descriptors: list[socket.socket] = []
        gevent.spawn(_serve, clients, theirs)

    def send(self, data: bytes) -> None:
        """Send as much as goes."""
        _send(self._socket, data)

    def read(self) -> None:
        """Take what has been sent to us, and descriptors that came with it."""
        with contextlib.suppress(OSError):
            while True:
                data, fds, _, _ = socket.recv_fds(self._socket, READ_BYTES, MAX_FDS)
                self._descriptors += (socket.socket(fileno=fd) for fd in fds)
                if not data:
                    break

    def use_descriptor(self, data: bytes) -> None:
        """Send on the last descriptor that was passed to us, or close it."""
        self.read()
        if not self._descriptors:
            return
        if data:
            _send(self._descriptors[-1], data)
        else:
            self._descriptors.pop().close()

    def half_close(self) -> None:
        """Send no more."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Leave; harmless if repeated."""
        self.read()
        self._socket.close()
        for descriptor in self._descriptors:
            descriptor.close()


def _serve(clients: Clients, client: socket.socket) -> None:
    with client:
        clients.serve(client)


def _send(peer: socket.socket, data: bytes) -> None:
    # gevent's send waits, whatever it is told; the descriptor itself does not.
    with contextlib.suppress(OSError):
        os.write(peer.fileno(), data)


class Guest:
    """The VM: its agent says yes to everything, and each process is like cat."""

    def __init__(self) -> None:
        self._channels: dict[str, socket.socket] = {}
        self._greenlets: list[gevent.Greenlet[..., None]] = []
        self._listeners = {"ctl": self._answer, "io": self._echo}
        for path, serve in self._listeners.items():
            gevent.spawn(self._accept, path, serve)

    def say(self, path: str, data: bytes) -> None:
        """Send bytes on the newest connection of a channel."""
        if path in self._channels:
            _send(self._channels[path], data)

    def die(self) -> None:
        """Close all connections."""
        gevent.killall(self._greenlets)
        self._greenlets.clear()
        self._channels.clear()

    def _accept(self, path: str, serve: Callable[[socket.socket], None]) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(64)
        while True:
            channel, _ = listener.accept()
            self._channels[path] = channel
            self._greenlets.append(gevent.spawn(self._serve, channel, serve))

    def _serve(self, channel: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        with channel, contextlib.suppress(OSError, ProtocolError):
            serve(channel)

    def _answer(self, channel: socket.socket) -> None:
        channel.sendall(ctl.encode(Code.READY))
        parser = ctl.CtlParser()
        while data := channel.recv(READ_BYTES):
            for _ in parser.feed(data):
                channel.sendall(ctl.encode(Code.ACK))

    def _echo(self, channel: socket.socket) -> None:
        parser = tty.TtyParser()
        while count := len(data := channel.recv(READ_BYTES)):
            for seq, piece, length in parser.feed(memoryview(data)[:count]):
                channel.sendall(tty.encode(seq, piece))
                if not length:
                    channel.sendall(tty.encode(seq, b"\0"))


# ---- what must not happen


class Watch:
    """What the log, the hub and the greenlets say while a script is played."""

    def __init__(self) -> None:
        self.findings: list[str] = []
        self.refused = False
        self.greenlets: weakref.WeakSet[gevent.Greenlet[..., Any]] = weakref.WeakSet()

    def nothing_is_left(self) -> None:
        """Wait for the last greenlets to end; Finding if one does not, or if any has failed."""
        wait_until(lambda: not self._alive(), self._alive)
        if self.findings:
            raise Finding("\n".join(self.findings))

    def _alive(self) -> list[gevent.Greenlet[..., Any]]:
        return [each for each in self.greenlets if not each.dead]


class _LogWatch(logging.Handler):
    """Turns what is logged with a traceback into findings; formats everything, as a log does."""

    watch = Watch()

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if record.exc_info:
            self.watch.findings.append(text)
        if "refused" in text or "broke" in text:
            self.watch.refused = True


class _Numbered:
    """Stands for the source of tokens."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin with 0 again."""
        self._numbers = itertools.count()

    def token_bytes(self, count: int) -> bytes:
        """Return the next token's bytes."""
        return script.token_bytes(next(self._numbers), count)


@contextlib.contextmanager
def _watched() -> Iterator[Watch]:
    watch = _log_watch.watch = Watch()
    hub = gevent.get_hub()

    def failed(context: object, kind: type[BaseException], error: object, trace: object) -> None:
        if issubclass(kind, hub.SYSTEM_ERROR):
            hub.handle_system_error(kind, error)
        elif not issubclass(kind, hub.NOT_ERROR):
            watch.findings.append(f"{context} failed with {kind.__name__}: {error}")

    before = hub.handle_error
    hub.handle_error = failed
    gevent.Greenlet.add_spawn_callback(watch.greenlets.add)
    # The VM's greenlets, and those that serve clients, are watched as well: they end, too.
    try:
        yield watch
    finally:
        gevent.Greenlet.remove_spawn_callback(watch.greenlets.add)
        hub.handle_error = before


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise Finding(f"left behind: {what}")


_log_watch = _LogWatch()
_log = logging.getLogger("ccproxy_lib")
_log.addHandler(_log_watch)
_log.setLevel(logging.DEBUG)
_log.propagate = False
for module in (io_channel, shim, waiting):
    module.LOOK_EVERY_S = 0.005
_tokens = registry.secrets = _Numbered()
_directory = tempfile.TemporaryDirectory(prefix="ccproxy-fuzz-")
# Paths in a script are short and the same in each run.
os.chdir(_directory.name)
_guest = Guest()
settle()
