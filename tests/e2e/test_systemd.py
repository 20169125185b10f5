"""Under a service manager: sockets that it passes, and what it is told."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

from ccproxy_lib.wire.frames import Command
from tests.e2e.harness import (
    PATIENCE_S,
    Client,
    Program,
    container,
    wait_until,
)
from tests.e2e.steps import accept_soon
from tests.e2e.web import Web

pytestmark = pytest.mark.system

# Passes descriptors as a service manager does: which, their names, the program.
PASS = """
import os, sys
descriptors, names, *command = sys.argv[1:]
for number, descriptor in enumerate(descriptors.split(","), 3):
    os.dup2(int(descriptor), number)
count = str(number - 2)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count, "LISTEN_FDNAMES": names}
os.execv(command[0], command)
"""
# Above those that they become.
FIRST_DESCRIPTOR = 100

needs_socket_activate = pytest.mark.skipif(
    not shutil.which("systemd-socket-activate"),
    reason="systemd-socket-activate is not installed (Debian: systemd)",
)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "passed.sock")


@pytest.fixture
def start_program(tmp_path):
    started = []

    def start(*arguments, **options):
        started.append(Program(tmp_path, "program", *arguments, **options))
        return started[-1]

    yield start
    for program in started:
        program.stop()
        assert "Traceback" not in program.log, program.log


# ---- socket activation


@needs_socket_activate
def test_a_whole_life_over_an_activated_socket(start_program, sandbox, path):
    activate = ("systemd-socket-activate", f"--listen={path}", "--fdname=cc-proxy.socket")
    daemon = start_program("-ksm", "initial", "-log", "info", before=activate)
    wait_until(lambda: os.path.exists(path), "systemd listens")
    daemon.wait_for_log("Listening on")
    with Client(path) as runtime, Client(path) as shim:
        vm = sandbox()
        members = {"containerId": "c1", "ctlSerial": vm.ctl_path, "ioSerial": vm.io_path}
        answer = json.loads(runtime.call(Command.REGISTER_VM, members | {"numIOStreams": 1}))
        assert answer["io"]["URL"] == f"unix://{path}"
        (token,) = answer["io"]["tokens"]
        shim.call(Command.CONNECT_SHIM, {"token": token})
        script = "cat; exit 7"
        runtime.hyper("newcontainer", container("c1", "sh", "-c", script), token)
        shim.stdin(b"hello")
        shim.stdin(b"")
        assert shim.collect() == (b"hello", b"", 7)
        runtime.unregister("c1")
    assert daemon.stop() == 0
    # Another daemon will serve it.
    assert os.path.exists(path)


@pytest.fixture
def start_with_sockets(start_program):
    """Start the program with sockets passed to it, one for each name."""
    passed = []

    def start(names, sockets, *flags):
        for each in sockets:
            passed.append(fcntl.fcntl(each, fcntl.F_DUPFD, FIRST_DESCRIPTOR))
        before = (sys.executable, "-c", PASS, ",".join(map(str, passed)), ":".join(names))
        return start_program("-ksm", "initial", *flags, before=before, pass_fds=passed)

    yield start
    for each in passed:
        os.close(each)


def listening(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    made.bind(path)
    made.listen()
    return made


@pytest.mark.parametrize(
    ("names", "flags", "problem"),
    [
        (("a", "b"), (), "2 sockets were passed for clients, and the daemon serves one: "),
        (("a",), ("-socket-path", "/x/y"), "the socket that was passed for clients is at "),
        (("a",), ("-uri", "unix:///x/y"), "the socket that was passed for clients is at "),
    ],
)
def test_sockets_that_cannot_be_served(start_with_sockets, path, names, flags, problem):
    with listening(path) as passed:
        program = start_with_sockets(names, [passed] * len(names), *flags)
        assert program.process.wait(PATIENCE_S) == 1
        assert program.log.startswith(f"cc-proxy: {problem}")
        assert program.log.count("\n") == 1
        assert os.path.exists(path)


def test_the_socket_for_clients_and_one_for_metrics(start_with_sockets, tmp_path, path):
    with listening(path) as clients, listening(str(tmp_path / "metrics.sock")) as metrics:
        program = start_with_sockets(("metrics", "x"), [metrics, clients], "-log", "info")
        program.wait_for_log(f"msg=listening path={path}")
        Client(path).close()
        web = Web(metrics.getsockname())
        assert web.json()["uri"] == f"unix://{path}"
        assert program.stop() == 0
    assert os.path.exists(web.address)


def test_metrics_on_a_passed_port_have_the_same_care(start_with_sockets, path):
    with listening(path) as clients, socket.create_server(("127.0.0.1", 0)) as metrics:
        program = start_with_sockets(("x", "pprof"), [clients, metrics], "-log", "info")
        program.wait_for_log("debug endpoint")
        web = Web(metrics.getsockname())
        assert web.metrics()("ccproxy_vms") == 0
        assert web.ask("/metrics", Host="evil.example").status == 421
        assert program.stop() == 0


def test_metrics_on_a_passed_socket_of_another_family(start_with_sockets, tmp_path, path):
    try:
        metrics = socket.socket(socket.AF_VSOCK)
        metrics.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
    except OSError as error:
        pytest.skip(f"the kernel has no sockets for VMs: {error.strerror}")
    with metrics:
        metrics.listen()
        program = start_with_sockets(("metrics",), [metrics], "-socket-path", path)
        assert program.process.wait(PATIENCE_S) == 1
        problem = "the socket that was passed for metrics is neither of TCP nor a Unix socket"
        assert program.log == f"cc-proxy: {problem}\n"


def test_sockets_for_another_process_are_left_alone(start_daemon, path):
    with listening(path):
        start_daemon(env={"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x"})


# ---- what the service manager is told


class ServiceManager:
    """Hears what the daemon says."""

    def __init__(self, address: str):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(PATIENCE_S)

    def hear(self) -> list[str]:
        return self.socket.recv(4096).decode().split("\n")

    def hear_until(self, line: str) -> list[str]:
        """All lines up to one of them."""
        lines: list[str] = []
        while line not in lines:
            lines += self.hear()
        return lines


@pytest.fixture(params=["/", "@"])
def manager(tmp_path, request):
    """A service manager, on a file or an abstract address."""
    at = str(tmp_path / "notify.sock")
    manager = ServiceManager(at if request.param == "/" else f"\0{at}")
    manager.address = at if request.param == "/" else f"@{at}"
    with manager.socket:
        yield manager


def test_the_manager_hears_how_the_daemon_is(start_daemon, scripted, manager):
    daemon = start_daemon(env={"NOTIFY_SOCKET": manager.address})
    assert manager.hear()[0] == "READY=1"
    with daemon.client() as runtime:
        vm = scripted()
        accepting = accept_soon(vm)
        runtime.register(vm)
        accepting.join()
        assert "READY=1" not in manager.hear_until("STATUS=1 VM, 1 client")
    daemon.process.terminate()
    lines = manager.hear_until("STOPPING=1")
    assert daemon.stop() == 0
    assert "WATCHDOG=1" not in lines


def test_clients_can_connect_when_the_manager_hears_so(start_program, manager, path):
    flags = ("-socket-path", path, "-ksm", "initial")
    start_program(*flags, env={"NOTIFY_SOCKET": manager.address})
    assert manager.hear()[0] == "READY=1"
    Client(path).close()


def test_pings_for_the_watchdog(start_daemon, manager):
    start_daemon(env={"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "20000"})
    manager.hear_until("WATCHDOG=1")
    manager.hear_until("WATCHDOG=1")


def test_no_pings_for_the_watchdog_of_another_process(start_daemon, manager):
    env = {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1", "NOTIFY_SOCKET": manager.address}
    daemon = start_daemon(env=env)
    daemon.process.terminate()
    assert "WATCHDOG=1" not in manager.hear_until("STOPPING=1")


@pytest.mark.parametrize("address", ["/nowhere/notify.sock", "vsock:2:1", "x", "@", "/"])
def test_a_manager_that_is_not_there_is_no_matter(start_daemon, address):
    daemon = start_daemon(env={"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"})
    daemon.client().close()
    assert daemon.stop() == 0


def test_a_manager_that_does_not_listen_is_no_matter(start_daemon, manager):
    daemon = start_daemon(env={"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "10"})
    assert manager.hear()[0] == "READY=1"
    wait_until(lambda: queue_is_full(manager), "it has heard more than it takes")
    daemon.client().close()
    assert daemon.stop() == 0


def queue_is_full(manager: ServiceManager) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)
        probe.connect(manager.socket.getsockname())
        try:
            probe.send(b"x")
        except BlockingIOError:
            return True
    return False
