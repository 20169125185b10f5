"""Inputs that kill, hang or stall the original daemon; each test is named after one."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import time
from contextlib import ExitStack, contextmanager

import pytest

from ccproxy_lib.wire import frames
from ccproxy_lib.wire.ctl import Code
from ccproxy_lib.wire.frames import Command, Stream, Type
from tests.e2e.harness import PATIENCE_S, Refused, container, wait_until
from tests.e2e.steps import accept_soon, assert_alive, frame_bytes, hung_up, one_session, start

pytestmark = pytest.mark.lasting


# ---- frames


@pytest.mark.parametrize("words", [0, 1, 2])
def test_header_length_field_0_1_or_2(daemon, registered, words):
    with daemon.client() as client:
        client.socket.sendall(frame_bytes(words=words))
        assert hung_up(client)
    assert_alive(*registered)


def test_header_in_two_writes(daemon, registered, vm_id):
    frame = frames.encode(
        Type.COMMAND, Command.ATTACH_VM, json.dumps({"containerId": vm_id}).encode()
    )
    with daemon.client() as client:
        client.socket.sendall(frame[:5])
        daemon.wait_for_log("client connected")
        client.socket.sendall(frame[5:])
        assert b'"tokens":null' in client.answer()


def test_payload_length_0xffffffff(daemon, registered):
    with daemon.client() as client:
        client.socket.sendall(frame_bytes(opcode=Command.HYPER, length=0xFFFFFFFF))
        with pytest.raises(Refused, match="over the limit"):
            client.answer()
        assert hung_up(client)
    assert_alive(*registered)


# ---- tokens and processes


def test_shim_gone_without_disconnectshim_then_reconnects_with_its_token(daemon, registered, vm_id):
    vm, runtime = registered
    token, shim, stdio = one_session(daemon, runtime, vm, vm_id)
    vm.output(stdio, b"before ")
    assert shim.frame().payload == b"before "
    shim.close()
    vm.output(stdio, b"meanwhile ")
    with daemon.shim(token) as again:
        vm.output(stdio, b"after")
        assert again.read_stdout(b"meanwhile after") == b"meanwhile after"
        again.stdin(b"input")
        assert vm.input() == (stdio, b"input")
        vm.exit(stdio, 5)
        assert again.collect() == (b"", b"", 5)


def test_two_commands_with_one_token(daemon, registered, vm_id):
    vm, runtime = registered
    token, shim, stdio = one_session(daemon, runtime, vm, vm_id)
    with shim:
        with pytest.raises(Refused, match=f"^token already used for a process: {token}$"):
            runtime.hyper("execcmd", {"container": "x", "process": {"args": ["y"]}}, token)
        vm.exit(stdio, 0)
        assert shim.collect()[2] == 0
        with pytest.raises(Refused, match=f"^the session of token {token} has ended$"):
            runtime.hyper("newcontainer", container("x", "y"), token)


def test_two_tokenless_commands_on_one_vm(daemon, registered):
    vm, runtime = registered
    assert start(vm, runtime, "a") == (1, 2)
    assert start(vm, runtime, "b") == (3, 4)
    vm.output(1, b"nobody wants this")
    vm.exit(1, 0)
    assert_alive(vm, runtime)


def test_newcontainer_without_process(daemon, registered):
    vm, runtime = registered
    with pytest.raises(Refused, match="^newcontainer needs a 'process' object in its data$"):
        runtime.hyper("newcontainer", {"id": "c"})
    assert_alive(vm, runtime)


def test_guest_output_for_a_token_that_no_shim_has_claimed(daemon, registered, vm_id):
    vm, runtime = registered
    token, shim, stdio = one_session(daemon, runtime, vm, vm_id)
    shim.close()
    daemon.wait_for_log("shim lost")
    vm.output(stdio, b"x" * 100_000)
    vm.exit(stdio, 9)
    assert_alive(vm, runtime)
    with daemon.shim(token) as again:
        assert again.collect() == (b"x" * 100_000, b"", 9)


# ---- commands to the agent


@pytest.mark.parametrize("name", ["nonsense", "getpod", "ready", "ack"])
def test_unknown_agent_command(daemon, registered, name):
    vm, runtime = registered
    with pytest.raises(Refused, match=f"^unknown command '{name}'$"):
        runtime.hyper(name)
    assert_alive(vm, runtime)


def test_over_long_agent_command(daemon, registered):
    vm, runtime = registered
    with pytest.raises(Refused, match="agents take at most 10232$"):
        runtime.hyper("startpod", {"x": "y" * 10232})
    assert_alive(vm, runtime)


def test_agent_event_at_any_moment(daemon, registered):
    vm, runtime = registered
    for _ in range(3):
        vm.send(Code.PROCESS_ASYNC_EVENT, b'{"container":"c","event":"oom"}')
        assert_alive(vm, runtime)
    assert '"container' in daemon.wait_for_log("agent event", 3)


def test_concurrent_commands_of_several_clients(daemon, registered, vm_id):
    vm, _ = registered
    clients = [daemon.client() for _ in range(5)]
    for number, client in enumerate(clients):
        client.attach(vm_id)
        client.hyper_command("startpod", {"n": number})
    for _ in clients:
        vm.send(Code.ACK, vm.command().payload)
    assert [json.loads(client.answer())["n"] for client in clients] == list(range(5))
    for client in clients:
        client.close()


# ---- VMs that go, or never come


def test_guest_dies_with_a_command_in_flight(daemon, registered, vm_id):
    vm, runtime = registered
    runtime.hyper_command("ping")
    vm.command()
    vm.hang_up()
    with pytest.raises(Refused, match=f"^VM {vm_id} is gone: "):
        runtime.answer()
    with pytest.raises(Refused, match="^VM .* is gone"):
        runtime.hyper("ping")


def test_guest_dies_before_ready(daemon, scripted, vm_id):
    vm = scripted()
    accepting = accept_soon(vm, ready=False)
    with daemon.client() as runtime:
        members = {"containerId": vm_id, "ctlSerial": vm.ctl_path, "ioSerial": vm.io_path}
        runtime.command(Command.REGISTER_VM, members)
        accepting.join()
        vm.hang_up()
        with pytest.raises(Refused, match=f"^VM {vm_id} is gone: "):
            runtime.answer()
        accepting = accept_soon(vm)
        runtime.register(vm, vm_id)  # nothing stayed registered
        accepting.join()


def test_guest_never_says_ready(start_daemon, scripted):
    daemon = start_daemon("-ready-timeout", "0.2")
    vm = scripted()
    with daemon.client() as runtime:
        for _ in range(2):  # the second shows that nothing stayed registered
            accepting = accept_soon(vm, ready=False)
            with pytest.raises(Refused, match="^the agent was not ready within 0.2 s$"):
                runtime.register(vm)
            accepting.join()


def test_vm_dies_without_unregistervm(daemon, registered, scripted, vm_id):
    vm, runtime = registered
    token, shim, stdio = one_session(daemon, runtime, vm, vm_id)
    (unclaimed,) = runtime.attach(vm_id, 1)
    vm.output(stdio, b"last words")
    vm.hang_up()
    with shim:
        assert shim.collect() == (b"last words", b"", 255)
    with daemon.client() as other:
        with pytest.raises(Refused, match=f"^unknown containerID: {vm_id}$"):
            other.attach(vm_id)
        with pytest.raises(Refused, match="^unknown token: "):
            other.call(Command.CONNECT_SHIM, {"token": unclaimed})
        another = scripted()
        accepting = accept_soon(another)
        other.register(another, vm_id)
        accepting.join()


# ---- streams


def test_one_shim_stops_reading(daemon, registered, vm_id):
    vm, runtime = registered
    token, stuck, stuck_stdio = one_session(daemon, runtime, vm, vm_id)
    _, shim, stdio = one_session(daemon, runtime, vm, vm_id)
    with stuck, shim:
        flood = bytes(range(256)) * 256
        for _ in range(128):  # 8 MiB: more than socket and buffer take
            vm.output(stuck_stdio, flood)
            vm.output(stdio, b"tick")
            assert shim.read_stdout(b"tick") == b"tick"
        vm.exit(stuck_stdio, 0)
        assert stuck.collect() == (flood * 128, b"", 0)


def test_stdin_frame_over_10228_bytes(daemon, registered, vm_id):
    vm, runtime = registered
    _, shim, stdio = one_session(daemon, runtime, vm, vm_id)
    with shim:
        data = os.urandom(50_000)
        shim.stdin(data)
        got = b""
        while len(got) < len(data):
            seq, piece = vm.input()
            assert (seq, len(piece) <= 4084) == (stdio, True)
            got += piece
        assert got == data


def test_one_byte_on_stderr_after_stdouts_end(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        stdio, stderr = start(vm, runtime, token=token)
        vm.output(stdio, b"")
        vm.output(stderr, b"\x01")
        vm.output(stdio, b"\x00")
        assert shim.collect() == (b"", b"\x01", 0)


def test_sigkill_behind_early_stdin(daemon, registered, vm_id):
    _, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        shim.stdin(b"x" * 100_000)
        shim.stdin(b"")
        shim.command(Command.SIGNAL, {"signalNumber": 9})
        assert shim.collect() == (b"", b"", 0)
        assert shim.answer() == b""


# ---- what nobody takes


def test_unclaimed_tokens_are_freed_by_age(start_daemon, scripted):
    daemon = start_daemon("-token-ttl", "0.1")
    vm = scripted()
    accept_soon(vm)
    begin_s = time.monotonic()
    with daemon.client() as runtime:
        (token,) = runtime.register(vm, "c1", 1)
        log = daemon.wait_for_log("unclaimed token freed")
        passed_s = time.monotonic() - begin_s
        with pytest.raises(Refused, match="^unknown token: "):
            daemon.shim(token)
    (waited_s,) = re.findall(r"unclaimed token freed.* waited_s=([0-9.]+)", log)
    assert 0.1 <= float(waited_s) <= passed_s


def test_orphaned_sessions_are_freed_by_age_but_never_with_a_process(start_daemon, scripted):
    daemon = start_daemon("-orphan-ttl", "0.1")
    vm = scripted()
    accept_soon(vm)
    with daemon.client() as runtime:
        runtime.register(vm, "c1")
        running, shim, running_stdio = one_session(daemon, runtime, vm, "c1")
        shim.close()
        ended, shim, stdio = one_session(daemon, runtime, vm, "c1")
        shim.close()
        daemon.wait_for_log("shim lost", 2)
        vm.exit(stdio, 3)
        daemon.wait_for_log("orphaned session freed")
        with pytest.raises(Refused, match="^unknown token: "):
            daemon.shim(ended)
        with daemon.shim(running) as again:
            vm.exit(running_stdio, 4)
            assert again.collect()[2] == 4


def test_unclaimed_tokens_and_unstarted_sessions_are_freed_with_unregistervm(
    daemon, registered, vm_id
):
    _, runtime = registered
    unclaimed, claimed = runtime.attach(vm_id, 2)
    with daemon.shim(claimed) as shim:
        runtime.unregister(vm_id)
        assert shim.collect() == (b"", b"", 255)
    with pytest.raises(Refused, match="^unknown token: "):
        daemon.shim(unclaimed)


def test_running_sessions_go_on_after_unregistervm(daemon, registered, vm_id):
    vm, runtime = registered
    _, shim, stdio = one_session(daemon, runtime, vm, vm_id)
    runtime.unregister(vm_id)
    with shim:
        vm.output(stdio, b"still here")
        assert shim.read_stdout(b"still here") == b"still here"
        vm.exit(stdio, 6)
        assert shim.collect()[2] == 6
    assert vm.ctl.recv(1) == b""  # the proxy lets the VM go when all is over


# ---- rights


def test_unregistervm_by_a_shim_connection(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        for command, members in [
            (Command.UNREGISTER_VM, {"containerId": vm_id}),
            (Command.ATTACH_VM, {"containerId": vm_id}),
            (Command.HYPER, {"hyperName": "ping"}),
            (Command.CONNECT_SHIM, {"token": token}),
        ]:
            with pytest.raises(Refused, match="^a shim may only act on its own session$"):
                shim.call(command, members)
    assert_alive(vm, runtime)


# ---- pod mode


def test_pod_mode_guest_ends_before_unregistervm_is_answered(start_daemon, scripted, tmp_path):
    path = str(tmp_path / "pod.sock")
    daemon = start_daemon("-uri", f"unix://{path}", path=path)
    vm = scripted()
    accept_soon(vm)
    with daemon.client() as runtime:
        runtime.register(vm)
        vm.close()
        daemon.wait_for_log("VM lost")
        runtime.unregister()
    assert daemon.process.wait(30) == 0


def test_pod_mode_serves_one_vm(start_daemon, scripted, tmp_path):
    path = str(tmp_path / "pod.sock")
    daemon = start_daemon("-uri", path, path=path)
    vm = scripted()
    accept_soon(vm)
    with daemon.client() as runtime:
        runtime.register(vm)
        with pytest.raises(Refused, match="^1 VMs are registered and no more are allowed"):
            runtime.register(scripted(), "c2")
        runtime.unregister()
    assert daemon.process.wait(30) == 0


def test_pod_mode_ends_when_the_last_session_has_drained(start_daemon, scripted, tmp_path):
    path = str(tmp_path / "pod.sock")
    daemon = start_daemon("-uri", path, path=path)
    vm = scripted()
    accept_soon(vm)
    flood = b"z" * (4 << 20)
    with daemon.client() as runtime:
        runtime.register(vm)
        _, shim, stdio = one_session(daemon, runtime, vm, "c1")
        runtime.unregister()
        for start_at in range(0, len(flood), 1 << 16):
            vm.output(stdio, flood[start_at : start_at + (1 << 16)])
        vm.exit(stdio, 7)
        with shim:
            assert shim.collect() == (flood, b"", 7)
    assert daemon.process.wait(30) == 0
    assert not os.path.exists(path)


# ---- descriptors


def test_descriptor_limit_reached(start_daemon, scripted):
    daemon = start_daemon()
    vm = scripted()
    accept_soon(vm)
    with daemon.client() as runtime, ExitStack() as stack:
        runtime.register(vm)
        used = daemon.descriptors()
        soft, hard = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (used + 4, hard))
        crowd = [stack.enter_context(daemon.client()) for _ in range(20)]
        daemon.wait_for_log("cannot accept clients")
        assert_alive(vm, runtime)
        with pytest.raises(Refused, match="Too many open files"):
            runtime.register(vm, "c2")
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (soft, hard))
        for client in crowd:  # those that waited are served now
            with pytest.raises(Refused, match="unknown containerID"):
                client.attach("nobody")
        stack.close()
        assert daemon.log.count("cannot accept clients") == 1
        wait_until(lambda: daemon.descriptors() == used, "nothing is left open")


# ---- console and log


@contextmanager
def with_console(scripted, runtime, vm_id, directory):
    """A VM with a console; gives both."""
    vm = scripted()
    accept_soon(vm)
    path = str(directory / "console")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        runtime.register(vm, vm_id, console=path)
        console, _ = listener.accept()
        with console:
            yield vm, console


def test_console_line_over_64_kib(daemon, scripted, vm_id, tmp_path):
    with (
        daemon.client() as runtime,
        with_console(scripted, runtime, vm_id, tmp_path) as (_, console),
    ):
        console.sendall(b"x" * 100_000 + f"\r\nread on in {vm_id} \x1b[31m\n".encode())
        log = daemon.wait_for_log(f"read on in {vm_id} ")
    line = next(line for line in log.splitlines() if f"read on in {vm_id}" in line)
    assert "\\u001b[31m" in line  # no escape sequence reaches whoever reads the log
    assert max(map(len, log.splitlines())) < 10_000


def test_a_console_that_outlives_its_vm(daemon, scripted, vm_id, tmp_path):
    with (
        daemon.client() as runtime,
        with_console(scripted, runtime, vm_id, tmp_path) as (vm, console),
    ):
        console.settimeout(PATIENCE_S)
        vm.hang_up()
        assert console.recv(1) == b""


def test_token_in_log_lines(start_daemon, scripted):
    daemon = start_daemon()
    vm = scripted()
    accept_soon(vm)
    with daemon.client() as runtime:
        tokens = runtime.register(vm, "c1", 3)
        with daemon.shim(tokens[0]) as shim:
            start(vm, runtime, "c", tokens[0])
            with pytest.raises(Refused):
                daemon.shim(tokens[0])
            with pytest.raises(Refused):
                runtime.hyper("ping", None, tokens[1])
            shim.command(Command.DISCONNECT_SHIM)
            assert hung_up(shim)
        with pytest.raises(Refused):
            daemon.shim(tokens[0])
        entry = {"source": "shim", "level": "info", "msg": "connecting"}
        runtime.send(Type.STREAM, Stream.LOG, json.dumps(entry).encode())
        os.kill(daemon.pid, signal.SIGUSR1)
        daemon.wait_for_log("greenlets")
        runtime.unregister()
    daemon.stop()
    assert not any(token in daemon.log for token in tokens)
