"""What a message costs, in things that can be counted: system calls and switches of greenlets.

The bounds have slack, and are still far below what comes of one call more for
each message.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import greenlet
import pytest

from ccproxy_lib.service.accepting import AcceptingServer
from ccproxy_lib.service.clients import Clients
from ccproxy_lib.service.proxy import Proxy
from ccproxy_lib.service.server import PROTOCOLS
from ccproxy_lib.state.limits import Limits
from ccproxy_lib.wire import frames, tty
from ccproxy_lib.wire.frames import Command, Stream, Type
from tests.e2e.harness import PATIENCE_S, Client, ScriptedVm, container, wait_until
from tests.e2e.steps import start

pytestmark = pytest.mark.system

SIZE_BYTES = 64
FRAME = frames.encode(Type.STREAM, Stream.STDIN, bytes(SIZE_BYTES))
MESSAGE_BYTES = tty.HEADER_BYTES + SIZE_BYTES
VMS = 4
SESSIONS_OF_A_VM = 4

Load = Callable[["World"], int]


class World:
    """Some VMs with sessions, driven in lockstep, so that runs do not differ much."""

    def __init__(self, path: str, directory: Path) -> None:
        self.shims: list[list[socket.socket]] = []
        self.runtimes: list[socket.socket] = []
        self.path = path
        with contextlib.ExitStack() as stack:
            self.spare_vm = ScriptedVm(directory, "spare")
            stack.callback(self.spare_vm.close)
            self.vms = [self._vm(stack, path, directory, number) for number in range(VMS)]
            self._stack = stack.pop_all()

    def _vm(self, stack, path: str, directory: Path, number: int) -> ScriptedVm:
        vm = ScriptedVm(directory, f"vm{number}")
        stack.callback(vm.close)
        accepting = threading.Thread(target=vm.accept)
        accepting.start()
        runtime = stack.enter_context(Client(path))
        tokens = runtime.register(vm, f"vm{number}", SESSIONS_OF_A_VM)
        accepting.join()
        self.runtimes.append(runtime.socket)
        self.shims.append([])
        for token in tokens:
            shim = stack.enter_context(Client(path))
            shim.call(Command.CONNECT_SHIM, {"token": token})
            runtime.hyper_command("newcontainer", container("c", "x"), token)
            vm.ack()
            runtime.answer()
            self.shims[-1].append(shim.socket)
        return vm

    def close(self) -> None:
        self._stack.close()


def receive(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += stream.recv(count - len(data))
    return data


# ---- what goes over it; each returns how many messages that were


def echo(world: World) -> int:
    """One round trip at a time."""
    rounds = 250
    for _ in range(rounds):
        for vm, (shim, *_) in zip(world.vms, world.shims, strict=True):
            shim.sendall(FRAME)
            vm.io.sendall(receive(vm.io, MESSAGE_BYTES))
            receive(shim, len(FRAME))
    return rounds * VMS


def echo_of_many(world: World) -> int:
    """Round trips of all sessions at once."""
    rounds = 60
    for _ in range(rounds):
        for shims in world.shims:
            for shim in shims:
                shim.sendall(FRAME)
        for vm in world.vms:
            vm.io.sendall(receive(vm.io, MESSAGE_BYTES * SESSIONS_OF_A_VM))
        for shims in world.shims:
            for shim in shims:
                receive(shim, len(FRAME))
    return rounds * VMS * SESSIONS_OF_A_VM


def stdout(world: World) -> int:
    """Output as fast as it is taken, of small messages."""
    rounds, in_a_row = 8, 2000
    shim = world.shims[0][0]
    output = tty.encode(1, bytes(SIZE_BYTES)) * in_a_row
    parser = frames.FrameParser()
    for _ in range(rounds):
        world.vms[0].io.sendall(output)
        left = SIZE_BYTES * in_a_row
        while left:
            left -= sum(len(frame.payload) for frame in parser.feed(shim.recv(1 << 20)))
    return rounds * in_a_row


def stdin(world: World) -> int:
    """Input as fast as it is taken, in small frames."""
    rounds, in_a_row = 8, 1000
    shim = world.shims[0][0]
    for _ in range(rounds):
        sending = threading.Thread(target=shim.sendall, args=(FRAME * in_a_row,))
        sending.start()
        got = 0
        while got < SIZE_BYTES * in_a_row:
            got += len(world.vms[0].input()[1])
        sending.join()
    return rounds * in_a_row


def commands(world: World) -> int:
    """Commands for the agents, one at a time."""
    rounds = 250
    ping = frames.encode(Type.COMMAND, Command.HYPER, b'{"hyperName":"ping"}')
    for _ in range(rounds):
        for vm, runtime in zip(world.vms, world.runtimes, strict=True):
            runtime.sendall(ping)
            vm.ack()
            receive(runtime, len(ping) - len(b'{"hyperName":"ping"}'))
    return rounds * VMS


def cycles(world: World) -> int:
    """VMs that come, run one process and go."""
    rounds = 50
    vm = world.spare_vm
    for _ in range(rounds):
        with Client(world.path) as runtime, Client(world.path) as shim:
            where = {"ctlSerial": vm.ctl_path, "ioSerial": vm.io_path}
            members = {"containerId": "spare", "numIOStreams": 1, **where}
            runtime.command(Command.REGISTER_VM, members)
            vm.accept()
            (token,) = json.loads(runtime.answer())["io"]["tokens"]
            shim.call(Command.CONNECT_SHIM, {"token": token})
            stdio, _ = start(vm, runtime, token=token)
            vm.io.sendall(tty.encode(stdio, b"") + tty.encode(stdio, b"\0"))
            assert shim.collect() == (b"", b"", 0)
            shim.command(Command.DISCONNECT_SHIM)
            assert shim.frame() is None
            runtime.unregister("spare")
            assert not vm.ctl.recv(1)
            assert not vm.io.recv(1)
    return rounds


# ---- system calls, of the real daemon


@contextlib.contextmanager
def traced(pid: int, summary: Path) -> Iterator[None]:
    """Count the system calls of a process."""
    command = ["strace", "-c", "-f", "-U", "calls,name", "-o", str(summary), "-p", str(pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _is_traced(pid), "strace is there")
        yield
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(PATIENCE_S)


def _is_traced(pid: int) -> bool:
    return "TracerPid:\t0\n" not in Path(f"/proc/{pid}/status").read_text()


def calls(summary: Path) -> dict[str, int]:
    found = re.findall(r"^ *(\d+) +(\w+)$", summary.read_text(), re.M)
    return {name: int(count) for count, name in found if name != "total"}


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize(
    ("load", "most"),
    [
        # Two reads, two writes, and waiting twice, for which libev needs two calls.
        pytest.param(echo, 8_500, id="echo"),
        pytest.param(echo_of_many, 8_500, id="echo of many"),
        pytest.param(stdout, 60, id="stdout"),
        pytest.param(stdin, 200, id="stdin"),
        pytest.param(commands, 8_500, id="commands"),
        # Of four connections and six greenlets, for each of which Python maps memory.
        pytest.param(cycles, 80_000, id="register cycles"),
    ],
)
def test_system_calls_of_1000_messages(start_daemon, tmp_path, load: Load, most: int) -> None:
    daemon = start_daemon()
    with daemon.client() as client:
        client.call(Command.LOG_CONTROL, {"level": "error"})
    world = World(daemon.path, tmp_path)
    try:
        load(world)  # what is made once does not count
        with traced(daemon.pid, tmp_path / "calls"):
            messages = load(world)
    finally:
        world.close()
    found = calls(tmp_path / "calls")
    total = sum(found.values()) * 1000 / messages
    assert 0 < total <= most, found


# ---- switches, of a proxy in a thread of its own


class Switches:
    """Counts the switches of greenlets in the thread that it is made in."""

    def __init__(self) -> None:
        self.count = 0
        greenlet.settrace(self._note)

    def _note(self, event: str, switch: object) -> None:
        self.count += 1


class ProxyThread(threading.Thread):
    """A proxy whose switches are counted."""

    def __init__(self, path: str) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._ready = threading.Event()
        self.start()
        self._ready.wait(PATIENCE_S)

    def run(self) -> None:
        self.switches = Switches()
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(self._path)
        listening.listen(100)
        listening.setblocking(False)
        clients = Clients(Proxy(f"unix://{self._path}", Limits()), PROTOCOLS, lambda: None)
        server = AcceptingServer(listening, lambda client, address: clients.serve(client))
        server.start()
        over = gevent.event.Event()
        self._ending = gevent.get_hub().loop.async_()
        self._ending.start(over.set)
        self._ready.set()
        over.wait()
        greenlet.settrace(None)
        server.stop()
        gevent.get_hub().destroy()

    def stop(self) -> None:
        self._ending.send()
        self.join(PATIENCE_S)


@pytest.mark.parametrize(
    ("load", "most"),
    [
        # To the VM's reader, and back to the hub; the way in needs none.
        pytest.param(echo, 2_200, id="echo"),
        pytest.param(echo_of_many, 800, id="echo of many"),
        pytest.param(stdout, 20, id="stdout"),
        pytest.param(stdin, 80, id="stdin"),
        # To the client's greenlet, and once more when there is an answer.
        pytest.param(commands, 4_400, id="commands"),
        # Two for each beginning and end of six greenlets, and each time that one is woken.
        pytest.param(cycles, 43_000, id="register cycles"),
    ],
)
def test_switches_of_1000_messages(tmp_path, load: Load, most: int) -> None:
    path = os.path.join(tmp_path, "proxy.sock")
    proxy = ProxyThread(path)
    world = World(path, tmp_path)
    try:
        load(world)
        before = proxy.switches.count
        messages = load(world)
        total = (proxy.switches.count - before) * 1000 / messages
    finally:
        world.close()
        proxy.stop()
    assert 0 < total <= most
