"""The programs in docs/CLIENT.md run as they stand there."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

from ccproxy_lib.client import Client
from tests.e2e.harness import PATIENCE_S, TOP, container, wait_until


@pytest.fixture
def program():
    """Start a program of the document, by the heading that it stands under."""
    text = (TOP / "docs" / "CLIENT.md").read_text(encoding="utf-8")
    started = []

    def start(title: str, *arguments: str) -> subprocess.Popen[bytes]:
        source = re.search(rf"^## {title}$.*?```python\n(.*?)```", text, re.M | re.S)[1]
        command = [sys.executable, "-c", source, *arguments]
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        started.append(subprocess.Popen(command, cwd=TOP, **streams))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.communicate()


def test_there_are_three():
    text = (TOP / "docs" / "CLIENT.md").read_text(encoding="utf-8")
    assert text.count("```python\n") == 3


def test_a_runtime(daemon, vm, program):
    runtime = program("A runtime that runs one process", daemon.path, vm.ctl_path, vm.io_path)
    assert runtime.communicate(timeout=PATIENCE_S) == (b"Hello, world\n", b"")
    assert runtime.returncode == 3


@pytest.mark.heavy
def test_a_shim_and_a_watcher(daemon, vm, vm_id, program):
    with Client(daemon.path) as client:
        (token,) = client.register_vm(vm_id, vm.ctl_path, vm.io_path, 1)
        watcher = program("A watcher of events", daemon.path, vm_id)
        wait_until(lambda: client.status()["subscribers"], "the watcher has subscribed")
        shim = program("A shim", daemon.path, token)
        script = (
            "trap 'exit 7' TERM; echo started; read line; echo $line >&2; while :; do read x; done"
        )
        client.hyper("newcontainer", container("c1", "sh", "-c", script), token)
        assert shim.stdout.readline() == b"started\n"
        shim.stdin.write(b"a line\n")
        shim.stdin.flush()
        assert shim.stderr.readline() == b"a line\n"
        shim.send_signal(signal.SIGTERM)
        assert shim.wait(PATIENCE_S) == 7
        # The kernel does not say which of two clients was first.
        wait_until(lambda: not client.status(vm_id)["vms"][0]["sessions"], "the shim has gone")
        client.unregister_vm(vm_id)
        out, err = watcher.communicate(timeout=PATIENCE_S)
    assert (watcher.returncode, err) == (0, b"")
    assert out.decode().splitlines() == [
        "ShimConnected",
        "ProcessStarted",
        "a process of c1 has ended with status 7",
        "ShimDisconnected",
    ]


@pytest.mark.heavy
def test_a_shim_with_a_wrong_token(daemon, program):
    shim = program("A shim", daemon.path, "A" * 43 + "=")
    assert shim.communicate(timeout=PATIENCE_S) == (b"", b"shim: unknown token: ***\n")
    assert shim.returncode == 1
