"""Events have the members that the document names, and so do the client's objects."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading

import pytest

from ccproxy_lib.client import events
from ccproxy_lib.wire.ctl import Code
from ccproxy_lib.wire.frames import Command, Type
from tests.e2e.harness import Client, Daemon, ScriptedVm, container, wait_until
from tests.test_docs import quoted, read, section, table

DOCUMENTED = {
    name: quoted(members)
    for names, members in table(section(read("docs/PROTOCOL.md"), "Events"))
    for name in quoted(names)
}
OF_ALL = {"event", "time", "vm"}


@pytest.fixture(scope="module")
def life(tmp_path_factory) -> dict[str, bytes]:
    """An event of each kind, as the daemon tells it."""
    directory = tmp_path_factory.mktemp("life")
    with contextlib.ExitStack() as stack:
        daemon = Daemon(directory)
        stack.callback(daemon.stop)
        vm = stack.enter_context(contextlib.closing(ScriptedVm(directory)))
        runtime, watcher = (stack.enter_context(daemon.client()) for _ in range(2))
        watcher.call(Command.SUBSCRIBE)
        first, second = register(runtime, vm, "kept", 2)
        daemon.shim(first).close()
        with daemon.shim(second) as shim:
            run(runtime, vm, shim, second)
            shim.command(Command.DISCONNECT_SHIM)
            assert shim.frame() is None
        seen = taken(watcher) + lost(runtime, vm, watcher)
        runtime.unregister("kept")
        register(stack.enter_context(daemon.client()), vm, "lost", 0)
        vm.hang_up()
        seen += taken(watcher, until=b"vm-lost")
    return {json.loads(event)["event"]: event for event in seen}


def register(runtime: Client, vm: ScriptedVm, vm_id: str, streams: int) -> list[str]:
    accepting = threading.Thread(target=vm.accept)
    accepting.start()
    tokens = runtime.register(vm, vm_id, streams)
    accepting.join()
    return tokens


def run(runtime: Client, vm: ScriptedVm, shim: Client, token: str) -> None:
    runtime.hyper_command("newcontainer", container("c", "x"), token)
    stdio = json.loads(vm.ack().payload)["process"]["stdio"]
    runtime.answer()
    vm.exit(stdio, 3)
    assert shim.collect()[2] == 3


def taken(watcher: Client, until: bytes = b"") -> list[bytes]:
    """What has been told by now, or to the event ``until``."""
    seen = []
    if not until:
        watcher.command(Command.STATUS)
    while (frame := watcher.frame()) is not None and frame.type != Type.RESPONSE:
        seen.append(frame.payload)
        if until and until in frame.payload:
            break
    return seen


def lost(runtime: Client, vm: ScriptedVm, watcher: Client) -> list[bytes]:
    """Have the agent tell more than waits for a watcher that does not read."""

    def has_dropped() -> bool:
        vm.send(Code.PROCESS_ASYNC_EVENT, b"x" * 50_000)
        return json.loads(runtime.call(Command.STATUS))["drops"].get("events", 0)

    wait_until(has_dropped, "events are dropped")
    seen = taken(watcher)
    vm.send(Code.PROCESS_ASYNC_EVENT, b"and one more")
    return seen + taken(watcher, until=b"and one more")


def test_all_events_are_documented_and_the_other_way_round(life):
    assert life.keys() == DOCUMENTED.keys() == events.CLASSES.keys()


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_an_event_has_the_members_that_are_documented(life, name):
    members = json.loads(life[name])
    assert members.keys() == DOCUMENTED[name] | (OF_ALL - {"vm"} if name == "dropped" else OF_ALL)
    event = events.parse(life[name])
    assert type(event) is events.CLASSES[name]
    told = {"vm": ""} | members
    assert dataclasses.asdict(event) | {"event": name} == told
