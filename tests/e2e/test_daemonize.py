"""In the background: what its starter learns, and what is left of where it came from."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ccproxy_lib.host.syslog import DEFAULT_PATH
from ccproxy_lib.state.ksm import Settings
from tests.e2e.harness import PATIENCE_S, TOP, Client, exclusive, wait_until
from tests.e2e.steps import accept_soon

pytestmark = pytest.mark.heavy

PROGRAM = (sys.executable, "-m", "ccproxy_lib", "-daemonize", "-pid-file", "cc-proxy.pid")


class Background:
    """Daemons that are started in a directory, all with the same files."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.path = directory / "proxy.sock"
        self.pid_file = directory / "cc-proxy.pid"

    def popen(self, *flags, **options) -> subprocess.Popen[str]:
        where = () if "-uri" in flags else ("-ksm", "initial", "-socket-path", "proxy.sock")
        return subprocess.Popen(
            [*PROGRAM, *where, *flags],
            cwd=self.directory,
            env=os.environ | {"PYTHONPATH": str(TOP)} | options.pop("env", {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            **options,
        )

    def start(self, *flags, **options) -> tuple[int, str]:
        """Start one; return the starter's status and what it says, which nobody goes on to do."""
        with self.popen(*flags, **options) as starter:
            out, err = starter.communicate(timeout=PATIENCE_S)
        assert (out, "Traceback" in err) == ("", False)
        return starter.returncode, err

    @property
    def pid(self) -> int:
        return int(self.pid_file.read_text())

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGTERM)
        self.wait_for_end()

    def wait_for_end(self) -> None:
        wait_until(lambda: os.listdir(self.directory) == [], "the daemon has left no file")


@pytest.fixture
def background(tmp_path):
    directory = tmp_path / "background"
    directory.mkdir()
    background = Background(directory)
    yield background
    with contextlib.suppress(FileNotFoundError):
        background.stop()


def test_it_is_there_when_its_starter_ends_and_on_its_own(background):
    assert background.start() == (0, "")
    Client(str(background.path)).close()
    pid = background.pid
    assert os.getsid(pid) == pid
    proc = Path(f"/proc/{pid}")
    assert os.readlink(proc / "cwd") == "/"
    assert {os.readlink(proc / f"fd/{number}") for number in range(3)} == {"/dev/null"}
    background.stop()


def test_nothing_else_that_its_starter_had_is_left_open(background):
    reader, writer = os.pipe()
    with open(reader, "rb") as inherited:
        try:
            assert background.start(pass_fds=[writer]) == (0, "")
        finally:
            os.close(writer)
        assert inherited.read() == b""
    Client(str(background.path)).close()


def test_a_live_socket_is_refused(background, tmp_path):
    assert background.start() == (0, "")
    other = str(tmp_path / "other.pid")
    status, said = background.start("-pid-file", other)
    assert status == 1
    assert said.startswith(f"cc-proxy: {background.path} is in use by a running daemon: ")
    assert said.count("\n") == 1
    assert not os.path.exists(other)
    Client(str(background.path)).close()


def test_a_live_pid_file_is_refused(background, tmp_path):
    assert background.start() == (0, "")
    status, said = background.start("-socket-path", str(tmp_path / "other.sock"))
    assert status == 1
    assert said.startswith(f"cc-proxy: the pid file {background.pid_file} is that of a running ")
    assert said.count("\n") == 1
    assert not (tmp_path / "other.sock").exists()


def test_a_wrong_command_line(background):
    assert background.start("-log", "loud")[0] == 2
    assert os.listdir(background.directory) == []


@pytest.mark.parametrize(
    ("number", "name", "dump"),
    [
        (signal.SIGKILL, "SIGKILL", ""),
        (signal.SIGRTMIN + 1, "signal 35", ""),
        # Python may say where it was, if it has come as far as to being able to.
        (signal.SIGSEGV, "SIGSEGV", "(Fatal Python error: Segmentation fault\n.*\n)?"),
    ],
)
def test_an_end_before_its_socket_answers(background, number, name, dump):
    directory = os.open(background.directory, os.O_RDONLY)
    try:
        # It waits for whoever else makes a socket there.
        fcntl.flock(directory, fcntl.LOCK_EX)
        with background.popen() as starter:
            # Alone: it has no other name any more.
            begun = [background.pid_file.name]
            wait_until(lambda: os.listdir(background.directory) == begun, "the daemon has begun")
            os.kill(background.pid, number)
            said = starter.communicate(timeout=PATIENCE_S)[1]
        problem = f"the daemon was ended by {name} before its socket answered"
        assert starter.returncode == 1
        assert re.fullmatch(f"{dump}cc-proxy: {problem}\n", said, re.DOTALL), said
    finally:
        os.close(directory)
    # The next one clears up.
    assert background.start() == (0, "")


def test_ksms_files_are_where_it_was_started(background, scripted, tmp_path):
    root = tmp_path / "ksm"
    root.mkdir()
    for name in Settings._fields:
        (root / name).write_text("0\n")
    assert background.start("-ksm", "auto", "-ksm-root", "../ksm") == (0, "")
    vm = scripted()
    accepting = accept_soon(vm)
    with Client(str(background.path)) as runtime:
        runtime.register(vm, "c1")
        accepting.join()
        wait_until(lambda: (root / "run").read_text() == "1\n", "KSM is on")
    background.stop()
    assert (root / "run").read_text() == "0\n"


def test_one_for_a_single_vm(background, scripted):
    assert background.start("-uri", "unix://proxy.sock")[0] == 0
    vm = scripted()
    accepting = accept_soon(vm)
    with Client(str(background.path)) as runtime:
        runtime.register(vm, "c1")
        accepting.join()
        runtime.unregister("c1")
    background.wait_for_end()


def test_the_service_manager_is_told_which_process_it_is(background, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify.sock"))
        manager.settimeout(PATIENCE_S)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify.sock")}
        assert background.start(env=env) == (0, "")
        lines = manager.recv(1000).decode().split("\n")
        assert lines[:2] == ["READY=1", f"MAINPID={background.pid}"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a socket in /dev")
def test_its_log_goes_to_syslog(background):
    with (
        exclusive(Path(DEFAULT_PATH).parent),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslogd,
    ):
        if os.path.lexists(DEFAULT_PATH):
            pytest.skip("this machine has a syslog")
        syslogd.bind(DEFAULT_PATH)
        syslogd.settimeout(PATIENCE_S)
        try:
            assert background.start("-log", "info") == (0, "")
            wanted = f"cc-proxy[{background.pid}]: level=info msg=listening"
            while wanted not in syslogd.recv(1 << 16).decode():
                pass
            background.stop()
        finally:
            os.unlink(DEFAULT_PATH)


def test_an_empty_pid_file_is_none(start_daemon):
    """As other empty settings, such as one of the environment."""
    assert start_daemon("-pid-file", "").stop() == 0
