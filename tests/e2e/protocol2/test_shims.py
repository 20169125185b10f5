"""What shims may ask for, and in which order it is done."""

from __future__ import annotations

import json
import re

import pytest

from ccproxy_lib.wire.ctl import Code
from ccproxy_lib.wire.frames import Command, Notification, Stream, Type
from tests.e2e.harness import Refused, container
from tests.e2e.steps import hung_up, start


def test_connect_shim_refusals(daemon, registered, vm_id):
    _, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token), daemon.client() as other:
        with pytest.raises(Refused, match="^unknown token: x$"):
            other.call(Command.CONNECT_SHIM, {"token": "x"})
        with pytest.raises(Refused, match=f"^token already claimed: {token}$"):
            other.call(Command.CONNECT_SHIM, {"token": token})


@pytest.mark.parametrize("command", [Command.SIGNAL, Command.DISCONNECT_SHIM])
def test_shim_commands_are_for_shims(daemon, command):
    with daemon.client() as client, pytest.raises(Refused, match="^client isn't a shim$"):
        client.call(command, {"signalNumber": 1})


def test_disconnect_frees_the_token(daemon, registered, vm_id):
    _, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        shim.command(Command.DISCONNECT_SHIM, b"")
        assert hung_up(shim)
    with daemon.client() as other, pytest.raises(Refused, match="^unknown token: "):
        other.call(Command.CONNECT_SHIM, {"token": token})


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"signalNumber": 31}, "invalid signal number 31"),
        ({"signalNumber": -1}, "invalid signal number -1"),
        ({}, "'signalNumber' is missing"),
        ({"signalNumber": 28}, "received SIGWINCH but terminal size is invalid (0,0)"),
        (
            {"signalNumber": 15, "columns": 80, "rows": 24},
            "received a terminal size (80,24) for signal terminated",
        ),
    ],
)
def test_bad_signals(daemon, registered, vm_id, members, text):
    _, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim, pytest.raises(Refused, match=f"^{re.escape(text)}$"):
        shim.call(Command.SIGNAL, members)


def test_signals_become_agent_commands(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        stdio, _ = start(vm, runtime, "box", token)
        shim.command(Command.SIGNAL, {"signalNumber": 10})
        wanted = b'{"container":"box","signal":10,"allProcesses":false}'
        assert vm.ack() == (Code.KILL_CONTAINER, wanted)
        assert shim.answer() == b""
        shim.command(Command.SIGNAL, {"signalNumber": 28, "columns": 80, "rows": 24})
        wanted = b'{"seq":%d,"row":24,"column":80}' % stdio
        assert vm.ack() == (Code.WIN_SIZE, wanted)
        assert shim.answer() == b""


@pytest.mark.parametrize("number", [9, 15])
def test_kill_before_start_ends_the_shim_at_once(daemon, registered, vm_id, number):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        shim.stdin(b"early input")
        shim.command(Command.SIGNAL, {"signalNumber": 10})
        shim.command(Command.SIGNAL, {"signalNumber": number})
        with pytest.raises(Refused, match="^the process was ended before it was started$"):
            shim.answer()
        assert shim.frame() == (Type.NOTIFICATION, Notification.PROCESS_EXITED, b"\x00", False)
        assert shim.answer() == b""
    runtime.hyper_command("ping")
    assert vm.ack().code == Code.PING  # and nothing else before it
    assert runtime.answer() == b""


def test_early_stdin_and_signals_reach_the_agent_in_order(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        shim.stdin(b"before ")
        shim.command(Command.SIGNAL, {"signalNumber": 10})
        stdio, _ = start(vm, runtime, "box", token)
        assert json.loads(vm.ack().payload)["signal"] == 10
        assert shim.answer() == b""
        shim.stdin(b"after")
        got = b""
        while got != b"before after":
            seq, piece = vm.input()
            assert seq == stdio
            got += piece


def test_refusals_take_their_turn_behind_signals_that_wait(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        shim.command(Command.SIGNAL, {"signalNumber": 10})
        shim.command(Command.SIGNAL, {"signalNumber": 31})
        shim.command(Command.HYPER, {"hyperName": "ping"})
        start(vm, runtime, "box", token)
        vm.ack()
        assert shim.answer() == b""
        with pytest.raises(Refused, match="^invalid signal number 31$"):
            shim.answer()
        with pytest.raises(Refused, match="^a shim may only act on its own session$"):
            shim.answer()


def test_newcontainer_waits_for_the_shim(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    runtime.hyper_command("newcontainer", container("box", "x"), token)
    with daemon.shim(token):
        assert vm.ack().code == Code.NEW_CONTAINER
        assert runtime.answer() == b""


def test_a_token_is_good_for_one_process(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token):
        start(vm, runtime, token=token)
        with pytest.raises(Refused, match=f"^token already used for a process: {token}$"):
            runtime.hyper("newcontainer", container("c2", "x"), token)


def test_log_entries_land_in_the_log(daemon, registered, vm_id):
    entry = {"source": "shim", "containerId": "box", "level": "warn", "msg": f"from {vm_id}\n"}
    with daemon.client() as client:
        client.send(Type.STREAM, Stream.LOG, json.dumps(entry).encode())
        log = daemon.wait_for_log(f"from {vm_id}")
    line = next(line for line in log.splitlines() if f"from {vm_id}" in line)
    assert "level=warning" in line
    assert f'msg="from {vm_id}\\n"' in line
    assert "source=shim container=box" in line
