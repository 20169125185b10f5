"""Hyper as clients see it: what reaches the agent, and what it answers."""

from __future__ import annotations

import json
import re
import struct
import threading

import pytest

from ccproxy_lib.wire.ctl import Code
from ccproxy_lib.wire.frames import Command
from tests.e2e.harness import Refused, container, process


def test_the_agents_answer_is_passed_on_raw(daemon, registered):
    vm, runtime = registered
    runtime.hyper_command("version")
    assert vm.ack(b"\x00\x00\x10\x92") == (Code.VERSION, b"")
    assert runtime.answer() == b"\x00\x00\x10\x92"


def test_data_reaches_the_agent_as_it_was_written(daemon, registered):
    vm, runtime = registered
    data = '{ "b" : 1.50e3, "a":[ 1,2 ],\t"\\u0041": "/\\/é" }'
    payload = '{"HYPERNAME":"startpod", "data":%s, "tokens":null}' % data
    runtime.command(Command.HYPER, payload.encode())
    assert vm.ack() == (Code.START_POD, data.encode())
    assert runtime.answer() == b""


def test_the_agents_error_is_passed_on(daemon, registered):
    vm, runtime = registered
    runtime.hyper_command("startpod", {})
    vm.refuse(b"no pod today")
    with pytest.raises(
        Refused, match="^ERROR received from VM agent, control msg received : no pod"
    ):
        runtime.answer()


def test_next_messages_come_before_an_answer_and_mean_nothing(daemon, registered):
    vm, runtime = registered
    runtime.hyper_command("ping")
    vm.command()
    vm.send(Code.NEXT, struct.pack(">I", 8))
    vm.send(Code.NEXT, struct.pack(">I", 8))
    vm.send(Code.ACK, b"pong")
    assert runtime.answer() == b"pong"


def test_agent_events_at_any_moment_disturb_no_command(daemon, registered):
    vm, runtime = registered
    event = b'{"container":"c","process":"p","event":"finished"}'
    vm.send(Code.PROCESS_ASYNC_EVENT, event)
    runtime.hyper_command("ping")
    vm.command()
    vm.send(Code.PROCESS_ASYNC_EVENT, event)
    vm.send(Code.ACK, b"pong")
    assert runtime.answer() == b"pong"


@pytest.mark.parametrize("first", ["ctl", "io"])
def test_the_last_answer_of_an_agent_counts_whichever_channel_ends_first(daemon, registered, first):
    vm, runtime = registered
    runtime.hyper_command("destroypod")
    vm.command()
    with daemon.stopped():
        vm.send(Code.ACK, b"destroyed")
        getattr(vm, first).close()
        vm.hang_up()
    assert runtime.answer() == b"destroyed"
    with pytest.raises(Refused, match="is gone"):
        runtime.hyper("ping")


@pytest.mark.parametrize("first", ["ctl", "io"])
def test_no_command_follows_the_last_answer_of_an_agent(daemon, registered, vm_id, first):
    vm, runtime = registered
    with daemon.client() as other:
        other.attach(vm_id)
        runtime.hyper_command("ping")
        vm.command()
        other.hyper_command("destroypod")
        daemon.wait_until_idle()
        with daemon.stopped():
            vm.send(Code.ACK, b"pong")
            getattr(vm, first).close()
            vm.hang_up()
        assert runtime.answer() == b"pong"
        with pytest.raises(Refused, match="is gone"):
            other.answer()
    assert daemon.log.count("VM lost") == 1


@pytest.mark.parametrize("first", ["answer", "command"])
def test_an_answer_is_not_for_a_command_that_never_left(daemon, registered, first):
    vm, runtime = registered
    with daemon.stopped():  # whichever of the two it then looks at first
        if first == "command":
            runtime.hyper_command("ping")
        vm.send(Code.ACK, b"for nobody")
        vm.hang_up()
        if first == "answer":
            runtime.hyper_command("ping")
    with pytest.raises(Refused, match="is gone"):
        runtime.answer()


@pytest.mark.parametrize("first", ["event", "command"])
def test_the_last_event_of_an_agent_counts_though_a_command_fails(daemon, registered, vm_id, first):
    vm, runtime = registered
    with daemon.client() as watcher:
        watcher.call(Command.SUBSCRIBE, {"containerId": vm_id})
        with daemon.stopped():  # whichever of the two it then looks at first
            if first == "command":
                runtime.hyper_command("ping")
            vm.send(Code.PROCESS_ASYNC_EVENT, b"out of memory")
            vm.hang_up()
            if first == "event":
                runtime.hyper_command("ping")
        with pytest.raises(Refused, match="is gone"):
            runtime.answer()
        seen = [json.loads(watcher.frame().payload)["event"] for _ in range(2)]
    assert seen == ["agent-event", "vm-lost"]


def test_concurrent_commands_get_their_own_answers(daemon, registered, vm_id):
    vm, _ = registered
    clients = [daemon.client() for _ in range(8)]
    try:
        for number, client in enumerate(clients):
            client.attach(vm_id)
            client.hyper_command("startpod", {"number": number})
        for _ in clients:
            # The VM has one command at a time, and none may overtake another's answer.
            command = vm.command()
            vm.send(Code.ACK, command.payload)
        for number, client in enumerate(clients):
            assert json.loads(client.answer()) == {"number": number}
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    ("name", "data", "tokens", "text"),
    [
        ("no-such", None, [], "unknown command 'no-such'"),
        ("allocate", None, [], "unknown command 'allocate'"),
        ("ping", None, ["t"], "ping doesn't need tokens but 1 token(s) were given"),
        ("newcontainer", container("c"), ["a", "b"], "expected 0 or 1 token, got 2"),
        ("newcontainer", container("c"), ["nonsense"], "unknown token: nonsense"),
        ("newcontainer", {"id": "c"}, [], "newcontainer needs a 'process' object in its data"),
        ("execcmd", None, [], "execcmd needs 'data' with a 'process'"),
        (
            "newcontainer",
            {"id": "c", "process": process("x", stdio=5)},
            [],
            "expected process.Stdio to be 0, got 5",
        ),
        (
            "startpod",
            {"x": "y" * 11000},
            [],
            "the agent command has 11009 bytes of data; agents take at most 10232",
        ),
    ],
)
def test_refused_commands_do_not_reach_the_agent(daemon, registered, name, data, tokens, text):
    vm, runtime = registered
    with pytest.raises(Refused, match=f"^{re.escape(text)}$"):
        runtime.hyper(name, data, *tokens)
    runtime.hyper_command("ping")
    assert vm.ack().code == Code.PING
    assert runtime.answer() == b""


def test_hyper_needs_a_vm(daemon):
    with daemon.client() as client:
        with pytest.raises(Refused, match="^client not attached to a vm$"):
            client.hyper("ping")


def test_a_token_of_another_vm_is_unknown(daemon, registered, scripted, vm_id):
    other = scripted()
    threading.Thread(target=other.accept).start()
    with daemon.client() as runtime:
        (token,) = runtime.register(other, f"{vm_id}-other", 1)
        with pytest.raises(Refused, match="^unknown token: "):
            registered[1].hyper("newcontainer", container("c", "x"), token)
