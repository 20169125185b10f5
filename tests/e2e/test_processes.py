"""The main job, with real processes behind the sandbox agent."""

from __future__ import annotations

import hashlib
import signal
import threading
from contextlib import ExitStack, contextmanager

import pytest

from ccproxy_lib.wire.frames import Command
from tests.e2e.harness import Refused, container, process

MIB = 1 << 20


@contextmanager
def session(daemon, runtime, token, *args, **more):
    """A shim whose container runs ``args``."""
    with daemon.shim(token) as shim:
        runtime.hyper("newcontainer", container(token[:8], *args, **more), token)
        yield shim


@pytest.fixture
def runtime(daemon, vm, vm_id):
    with daemon.client() as runtime:
        runtime.register(vm, vm_id)
        yield runtime
        runtime.unregister(vm_id)


def one_token(runtime, vm_id):
    (token,) = runtime.attach(vm_id, 1)
    return token


def run(daemon, runtime, vm_id, *args, stdin=b"", **more):
    """Run a process to its end; return its output, error output and exit status."""
    with session(daemon, runtime, one_token(runtime, vm_id), *args, **more) as shim:
        if stdin:
            shim.stdin(stdin)
        shim.stdin(b"")
        result = shim.collect()
        shim.command(Command.DISCONNECT_SHIM)
        assert shim.frame() is None
    return result


def test_stdout_and_stderr_stay_apart(daemon, runtime, vm_id):
    script = "echo out; echo err >&2; echo out again"
    assert run(daemon, runtime, vm_id, "sh", "-c", script) == (b"out\nout again\n", b"err\n", 0)


@pytest.mark.parametrize("status", [0, 1, 42, 255])
def test_exit_status(daemon, runtime, vm_id, status):
    assert run(daemon, runtime, vm_id, "sh", "-c", f"exit {status}")[2] == status


def test_death_by_signal_is_128_and_its_number(daemon, runtime, vm_id):
    assert run(daemon, runtime, vm_id, "sh", "-c", "kill -SEGV $$")[2] == 128 + signal.SIGSEGV


def test_stdin_and_its_end_reach_the_process(daemon, runtime, vm_id):
    assert run(daemon, runtime, vm_id, "cat", stdin=b"to and fro") == (b"to and fro", b"", 0)


def test_signal_reaches_the_process(daemon, runtime, vm_id):
    script = "trap 'echo got it; exit 5' TERM; echo waiting; while :; do sleep 0.05; done"
    with session(daemon, runtime, one_token(runtime, vm_id), "sh", "-c", script) as shim:
        shim.read_stdout(b"waiting\n")
        shim.command(Command.SIGNAL, {"signalNumber": signal.SIGTERM})
        assert shim.collect() == (b"got it\n", b"", 5)


def test_terminal_has_a_size_and_takes_keys(daemon, runtime, vm_id):
    script = "echo ready; while stty size; do read key || exit 3; done"
    args = ("sh", "-c", script)
    with session(daemon, runtime, one_token(runtime, vm_id), *args, terminal=True) as shim:
        shim.read_stdout(b"\r\n")
        shim.command(Command.SIGNAL, {"signalNumber": 28, "columns": 123, "rows": 45})
        shim.stdin(b"\n")
        shim.read_stdout(b"45 123\r\n")
        shim.stdin(b"\x03")  # Ctrl-C
        assert shim.collect()[2] == 128 + signal.SIGINT


def test_end_of_stdin_on_a_terminal(daemon, runtime, vm_id):
    args = ("sh", "-c", 'read line; echo "status $?"')
    assert run(daemon, runtime, vm_id, *args, terminal=True)[2] == 0


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def send_and_collect(daemon, runtime, vm_id, data, results, lock):
    """Send ``data`` through ``cat`` and keep what comes back."""
    with lock:
        token = one_token(runtime, vm_id)
        shim = daemon.shim(token)
        runtime.hyper("newcontainer", container(token[:8], "cat"), token)
    with shim:
        sender = threading.Thread(target=lambda: (shim.stdin_in_frames(data), shim.stdin(b"")))
        sender.start()
        out, err, status = shim.collect()
        sender.join()
        results.append((digest(out), err, status))
        shim.command(Command.DISCONNECT_SHIM)


@pytest.mark.parametrize("sessions", [1, pytest.param(20, marks=pytest.mark.heavy)])
def test_8_mib_each_way(daemon, runtime, vm_id, sessions):
    data = bytes(range(251)) * (8 * MIB // 251 + 1)
    results: list[tuple[bytes, bytes, int]] = []
    lock = threading.Lock()
    threads = [
        threading.Thread(
            target=send_and_collect, args=(daemon, runtime, vm_id, data[n:], results, lock)
        )
        for n in range(sessions)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = sorted((digest(data[n:]), b"", 0) for n in range(sessions))
    assert sorted(results) == expected


def test_exec_runs_a_second_process(daemon, runtime, vm_id):
    first, second = runtime.attach(vm_id, 2)
    with daemon.shim(first) as init, daemon.shim(second) as shim:
        runtime.hyper("newcontainer", container("box", "cat"), first)
        data = {"container": "box", "process": process("sh", "-c", "echo executed; exit 9")}
        runtime.hyper("execcmd", data, second)
        assert shim.collect() == (b"executed\n", b"", 9)
        init.stdin(b"")
        assert init.collect() == (b"", b"", 0)


def test_signal_to_an_exec_process_is_refused_with_the_reason(daemon, runtime, vm_id):
    first, second = runtime.attach(vm_id, 2)
    with daemon.shim(first) as init, daemon.shim(second) as shim:
        runtime.hyper("newcontainer", container("box", "cat"), first)
        data = {"container": "box", "process": process("cat")}
        runtime.hyper("execcmd", data, second)
        with pytest.raises(Refused, match="user defined signal 1 cannot be delivered"):
            shim.call(Command.SIGNAL, {"signalNumber": signal.SIGUSR1})
        for each in (shim, init):
            each.stdin(b"")
            assert each.collect()[2] == 0


def test_a_failed_start_frees_its_shim(daemon, runtime, vm_id):
    token = one_token(runtime, vm_id)
    with daemon.shim(token) as shim:
        with pytest.raises(Refused, match="ERROR received from VM agent, control msg received : "):
            runtime.hyper("newcontainer", container("box", "/no/such/program"), token)
        assert shim.collect() == (b"", b"", 255)


def test_processes_without_a_token_twice(daemon, runtime, vm_id):
    for name in ("pause-1", "pause-2"):
        assert runtime.hyper("newcontainer", container(name, "sh", "-c", "echo unheard")) == b""
    assert run(daemon, runtime, vm_id, "echo", "heard") == (b"heard\n", b"", 0)


def test_two_vms_at_once(daemon, sandbox, vm_id):
    with ExitStack() as stack:
        shims = []
        for name in (f"{vm_id}-a", f"{vm_id}-b"):
            runtime = stack.enter_context(daemon.client())
            (token,) = runtime.register(sandbox(), name, 1)
            args = ("sh", "-c", f"read line; echo {name} $line")
            shims.append((name, stack.enter_context(session(daemon, runtime, token, *args))))
        for name, shim in reversed(shims):
            shim.stdin(b"hello\n")
            assert shim.collect() == (f"{name} hello\n".encode(), b"", 0)


def test_early_stdin_and_signal_wait_for_the_process(daemon, runtime, vm_id):
    token = one_token(runtime, vm_id)
    script = "trap 'echo signalled' USR1; read a; echo $a; while ! read b; do :; done; echo $b"
    with daemon.shim(token) as shim:
        shim.stdin(b"first\n")
        shim.stdin(b"second\n")
        runtime.hyper("newcontainer", container("box", "sh", "-c", script), token)
        out, err, status = shim.collect()
        assert (out, err, status) == (b"first\nsecond\n", b"", 0)


def test_strict_agents_get_the_json_as_the_client_wrote_it(daemon, sandbox, vm_id):
    vm = sandbox("--strict-json", "--next")
    with daemon.client() as runtime:
        (token,) = runtime.register(vm, vm_id, 1)
        with session(daemon, runtime, token, "echo", "strict") as shim:
            assert shim.collect() == (b"strict\n", b"", 0)
        runtime.unregister(vm_id)


def test_destroypod_ends_the_vm(daemon, vm, vm_id):
    with daemon.client() as runtime:
        (token,) = runtime.register(vm, vm_id, 1)
        with session(daemon, runtime, token, "cat") as shim:
            assert runtime.hyper("destroypod") == b""
            assert shim.collect()[2] in (255, 128 + signal.SIGKILL)
        assert vm.process.wait(30) == 0
