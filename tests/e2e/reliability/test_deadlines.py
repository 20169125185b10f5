"""Nobody waits for ever for an agent, and a late answer is nobody else's."""

from __future__ import annotations

import itertools
import json
from contextlib import suppress

import pytest

from ccproxy_lib.wire.ctl import Code
from ccproxy_lib.wire.frames import Command, Type
from tests.e2e.harness import Refused, container, process
from tests.e2e.steps import accept_soon, assert_alive, start

pytestmark = pytest.mark.lasting


def test_command_deadline_says_what_is_unknown_and_late_answers_go_nowhere_else(pair):
    _, vm, runtime = pair("-command-timeout", "0.2")
    runtime.hyper_command("startpod", {})
    text = "the agent did not answer start_pod within 0.2 s; the command may still have run"
    with pytest.raises(Refused, match=f"^{text}$"):
        runtime.answer()
    text = "the agent was busy with earlier commands for 0.2 s; version was not sent"
    with pytest.raises(Refused, match=f"^{text}$"):
        runtime.hyper("version")
    assert vm.command().code == Code.START_POD
    vm.send(Code.ACK, b"late")
    for number in itertools.count():
        runtime.hyper_command("ping")
        # "version", which was withdrawn, never comes.
        assert vm.ack(b"%d" % number).code == Code.PING
        with suppress(Refused):  # we too may be late, and then that goes nowhere else
            assert runtime.answer() == b"%d" % number
            break


def test_deadline_for_a_shim(pair):
    _, vm, runtime = pair("-shim-timeout", "0.2")
    (token,) = runtime.attach("c1", 1)
    with pytest.raises(Refused, match=f"^timeout waiting for shim with token {token}$"):
        runtime.hyper("newcontainer", container("c", "x"), token)
    assert_alive(vm, runtime)


def test_deadline_for_a_process(pair):
    daemon, vm, runtime = pair("-process-timeout", "0.2")
    (token,) = runtime.attach("c1", 1)
    with daemon.shim(token) as shim:
        shim.stdin(b"kept")
        runtime.attach("c1")  # by now the proxy waits with that stdin in hand
        with pytest.raises(Refused, match=f"^timeout waiting for process with token {token}$"):
            shim.call(Command.SIGNAL, {"signalNumber": 10})
        stdio, _ = start(vm, runtime, token=token)
        assert vm.input() == (stdio, b"kept")


def test_waiting_ends_at_once_when_the_vm_goes(daemon, registered, vm_id):
    vm, runtime = registered
    waiting, claimed = runtime.attach(vm_id, 2)
    runtime.hyper_command("newcontainer", container("c", "x"), waiting)
    with daemon.shim(claimed) as shim:
        shim.command(Command.SIGNAL, {"signalNumber": 10})
        vm.hang_up()
        with pytest.raises(Refused, match="is gone"):
            runtime.answer()
        frame = shim.frame()
        answers = {frame.type, shim.frame().type}
        assert answers == {Type.RESPONSE, Type.NOTIFICATION}


def test_a_start_that_is_acknowledged_late_still_starts(pair):
    daemon, vm, runtime = pair("-command-timeout", "0.2")
    (token,) = runtime.attach("c1", 1)
    with daemon.shim(token) as shim:
        runtime.hyper_command("newcontainer", container("c", "x"), token)
        with pytest.raises(Refused, match="may still have run"):
            runtime.answer()
        process = json.loads(vm.command().payload)["process"]
        vm.send(Code.ACK)
        vm.exit(process["stdio"], 11)
        assert shim.collect()[2] == 11


def test_an_agent_that_was_ready_for_another_connection_is_asked(daemon, vm, vm_id):
    with daemon.client() as runtime:
        for _ in range(2):  # the sandbox agent says READY once in its life, as real ones do
            runtime.register(vm, vm_id)
            assert runtime.hyper("version") == (4242).to_bytes(4, "big")
            runtime.unregister(vm_id)


def test_a_stale_answer_is_not_taken_for_the_next_commands(daemon, scripted, vm_id):
    vm = scripted()
    accepting = accept_soon(vm, ready=False)
    with daemon.client() as runtime:
        members = {"containerId": vm_id, "ctlSerial": vm.ctl_path, "ioSerial": vm.io_path}
        runtime.command(Command.REGISTER_VM, members)
        accepting.join()
        assert vm.command().code == Code.PING
        vm.send(Code.ACK, b"stale")
        daemon.wait_until_idle()
        with daemon.stopped():  # whichever of the two it then looks at first
            vm.send(Code.ACK, b"pong")
            runtime.hyper_command("ping")
        runtime.answer()
        assert vm.ack(b"alive").code == Code.PING
        assert runtime.answer() == b"alive"


def test_a_vm_outlives_the_daemon_and_its_processes_disturb_no_later_ones(start_daemon, sandbox):
    vm = sandbox()
    first = start_daemon()
    with first.client() as runtime:
        (token,) = runtime.register(vm, streams=1)
        with first.shim(token) as shim:
            runtime.hyper("newcontainer", container("box", "sleep", "1000"), token)
            assert first.stop() == 0
            assert shim.collect() == (b"", b"", 255)
    second = start_daemon()
    with second.client() as runtime:
        (token,) = runtime.register(vm, streams=1)
        with second.shim(token) as shim:
            command = {"container": "box", "process": process("sh", "-c", "cat; exit 3")}
            # An agent powers its VM off over a stream number that was used before.
            runtime.hyper("execcmd", command, token)
            shim.stdin(b"mine")
            shim.stdin(b"")
            assert shim.collect() == (b"mine", b"", 3)
