"""What operators can ask a running daemon: its status, its events, another log level."""

from __future__ import annotations

import json
import os
import tempfile

import pytest

from ccproxy_lib.service.events import MAX_UNREAD_BYTES
from ccproxy_lib.wire import frames
from ccproxy_lib.wire.frames import Command, Notification, Type
from tests.e2e.harness import Refused, as_somebody, container, wait_until

GROUP = 4242


def status(client, **members) -> dict:
    return json.loads(client.call(Command.STATUS, members))


def vm_status(client, vm_id: str) -> dict:
    (vm,) = status(client, containerId=vm_id)["vms"]
    return vm


def subscribe(daemon, **members):
    client = daemon.client()
    assert client.call(Command.SUBSCRIBE, members) == b""
    return client


def next_event(client) -> dict:
    frame = client.frame()
    assert frame is not None
    assert (frame.type, frame.opcode) == (Type.NOTIFICATION, Notification.EVENT)
    return json.loads(frame.payload)


def without_time(event: dict) -> dict:
    assert event.pop("time") > 1.7e9
    return event


# ---- Status


def test_status_of_a_daemon_with_nothing_to_do(daemon):
    with daemon.client() as client:
        report = status(client)
    assert report["pid"] == daemon.pid
    assert report["uri"] == f"unix://{daemon.path}"
    assert report["version"].startswith("0.")
    assert report["pod"] is False
    assert report["logLevel"] == "debug"
    assert report["clients"] == 1
    assert report["rssBytes"] > 1 << 20
    assert report["vms"] == []
    assert (report["tokens"], report["unclaimedTokens"], report["subscribers"]) == (0, 0, 0)


def test_status_follows_a_session_through_its_life(daemon, vm, vm_id):
    with daemon.client() as runtime:
        before = status(runtime)["totals"]
        (token,) = runtime.register(vm, vm_id, 1)
        # An agent that was slow to be ready may have been asked for that.
        before["commands"] = status(runtime)["totals"]["commands"]
        (session,) = vm_status(runtime, vm_id)["sessions"]
        assert (session["state"], session["shim"], session["stdio"]) == ("allocated", False, 0)
        assert status(runtime)["unclaimedTokens"] == 1
        with daemon.shim(token) as shim:
            (session,) = vm_status(runtime, vm_id)["sessions"]
            assert (session["state"], session["shim"]) == ("claimed", True)
            runtime.hyper("newcontainer", container("c1", "sh", "-c", "cat; exit 3"), token)
            shim.stdin(b"12345")
            assert shim.read_stdout(b"5") == b"12345"
            found = vm_status(runtime, vm_id)
            (session,) = found["sessions"]
            assert session["state"] == "running"
            assert (session["container"], session["stdio"], session["stderr"]) == ("c1", 1, 2)
            assert (session["stdinBytes"], session["stdinMessages"]) == (5, 1)
            assert session["outputBytes"] == 5
            assert session["outputMessages"] >= 1
            assert 0 <= session["sinceSeconds"] <= session["ageSeconds"] <= found["ageSeconds"]
            assert (found["commands"], found["commandsWaiting"]) == (1, 0)
            assert found["commandOutstandingSeconds"] is None
            shim.stdin(b"")
            assert shim.collect()[2] == 3
            (session,) = vm_status(runtime, vm_id)["sessions"]
            assert (session["state"], session["exitStatus"]) == ("ended", 3)
            shim.command(Command.DISCONNECT_SHIM)
            assert shim.frame() is None
        found = vm_status(runtime, vm_id)
        assert (found["sessions"], found["sessionCount"]) == ([], 0)
        assert (found["stdinBytes"], found["outputBytes"]) == (5, 5)  # it goes on counting
        runtime.unregister(vm_id)
        wait_until(lambda: status(runtime)["vms"] == [], "the VM is gone")
        after = status(runtime)["totals"]
    grown = {name: after[name] - before[name] for name in after}
    assert grown["vms"] == grown["sessions"] == grown["commands"] == 1
    assert (grown["stdinBytes"], grown["outputBytes"]) == (5, 5)


def test_status_shows_what_is_stuck(daemon, registered, vm_id):
    vm, runtime = registered
    with daemon.client() as operator, daemon.client() as other:
        other.attach(vm_id)
        runtime.hyper_command("ping")
        vm.command()
        other.hyper_command("ping")
        found = wait_until(
            lambda: (now := vm_status(operator, vm_id))["commandsWaiting"] == 1 and now,
            "a command waits behind the outstanding one",
        )
        assert found["commandOutstandingSeconds"] >= 0
        vm.send(9)
        runtime.answer()
        vm.ack()
        other.answer()


def test_kept_output_shows_in_status_until_a_shim_takes_it(daemon, registered, vm_id):
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        runtime.hyper_command("newcontainer", container("c1", "x"), token)
        vm.ack()
        runtime.answer()
        shim.close()
        wait_until(
            lambda: vm_status(runtime, vm_id)["sessions"][0]["state"] == "detached",
            "the shim's end is noticed",
        )
    vm.output(1, bytes(1000))
    wait_until(lambda: vm_status(runtime, vm_id)["bufferedBytes"] == 1012, "output is kept")
    with daemon.shim(token) as shim:
        assert shim.read_stdout_bytes(1000) == bytes(1000)
        assert vm_status(runtime, vm_id)["bufferedBytes"] == 0
        shim.command(Command.DISCONNECT_SHIM)
        assert shim.frame() is None


def test_status_can_leave_sessions_out(daemon, registered, vm_id):
    _, runtime = registered
    runtime.attach(vm_id, 3)
    (found,) = status(runtime, sessions=False)["vms"]
    assert found["sessionCount"] == 3
    assert "sessions" not in found


def test_status_never_holds_a_token(daemon, registered, vm_id):
    _, runtime = registered
    tokens = runtime.attach(vm_id, 2)
    with daemon.shim(tokens[0]) as shim:
        report = runtime.call(Command.STATUS).decode()
        assert "allocated" in report
        assert "claimed" in report
        assert not [token for token in tokens if token in report]
        shim.command(Command.DISCONNECT_SHIM)
        assert shim.frame() is None


def test_status_of_a_vm_that_is_not_there(daemon):
    with daemon.client() as client, pytest.raises(Refused, match="unknown containerID: nobody"):
        status(client, containerId="nobody")


@pytest.mark.parametrize("payload", [b"[]", b'{"sessions":1}', b'{"containerId":5}'])
def test_a_bad_request_for_status_is_refused_and_the_connection_lives(daemon, payload):
    with daemon.client() as client:
        with pytest.raises(Refused):
            client.call(Command.STATUS, payload)
        assert status(client)["pid"] == daemon.pid


def test_refusals_and_deadlines_are_counted_by_kind(start_daemon, scripted):
    daemon = start_daemon("-max-tokens", "1", "-shim-timeout", "0.01")
    vm = scripted()
    with daemon.client() as client:
        client.command(
            Command.REGISTER_VM,
            {"containerId": "c1", "ctlSerial": vm.ctl_path, "ioSerial": vm.io_path},
        )
        vm.accept()
        client.answer()
        (token,) = client.attach("c1", 1)
        for refused in (
            lambda: client.attach("c1", 1),
            lambda: client.attach("c2"),
            lambda: client.hyper("newcontainer", container("c1", "x"), token),
            lambda: client.call(Command.ATTACH_VM, b"{"),
        ):
            with pytest.raises(Refused):
                refused()
        report = status(client)
    assert report["refusals"] == {"max-tokens": 1, "command": 1, "payload": 1}
    assert report["deadlines"] == {"shim-timeout": 1}


# ---- Subscribe


def test_events_tell_a_sessions_whole_life(daemon, vm, vm_id):
    with daemon.client() as runtime, subscribe(daemon, containerId=vm_id) as watcher:
        (token,) = runtime.register(vm, vm_id, 1)
        with daemon.shim(token) as shim:
            runtime.hyper("newcontainer", container("c1", "sh", "-c", "exit 3"), token)
            assert shim.collect()[2] == 3
            shim.command(Command.DISCONNECT_SHIM)
            assert shim.frame() is None
        runtime.unregister(vm_id)
        of_vm = {"vm": vm_id}
        of_session = of_vm | {"container": "c1", "stdio": 1}
        events = [without_time(next_event(watcher)) for _ in range(6)]
    # A process as short as this may be over before its start is acknowledged.
    assert sorted(events[2:4], key=str) == sorted(
        [
            of_session | {"event": "process-started"},
            of_session | {"event": "process-ended", "status": 3},
        ],
        key=str,
    )
    assert [*events[:2], *events[4:]] == [
        of_vm | {"event": "vm-registered"},
        of_vm | {"event": "shim-connected", "container": "", "stdio": 0},
        of_session | {"event": "shim-disconnected"},
        of_vm | {"event": "vm-unregistered"},
    ]


def test_agent_events_and_a_lost_vm_reach_every_subscriber(daemon, registered, vm_id):
    vm, runtime = registered
    with subscribe(daemon) as first, subscribe(daemon) as second:
        vm.send(24, b'{"pid":7}')
        for watcher in (first, second):
            told = without_time(next_event(watcher))
            assert told == {"event": "agent-event", "vm": vm_id, "data": '{"pid":7}'}
        vm.hang_up()
        for watcher in (first, second):
            told = without_time(next_event(watcher))
            assert (told["event"], told["vm"]) == ("vm-lost", vm_id)
            assert "closed" in told["reason"]


def test_a_lost_shim_is_an_event(daemon, registered, vm_id):
    _, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with subscribe(daemon) as watcher:
        daemon.shim(token).close()
        assert next_event(watcher)["event"] == "shim-connected"
        assert next_event(watcher)["event"] == "shim-lost"


def test_a_subscription_to_one_vm_hears_nothing_of_others(daemon, registered, vm_id):
    vm, _ = registered
    with subscribe(daemon, containerId="another") as watcher:
        vm.send(24, b"for nobody")
        daemon.wait_for_log("for nobody")
        watcher.call(Command.SUBSCRIBE, {"containerId": vm_id})  # changes the filter
        vm.send(24, b"for us")
        assert next_event(watcher)["data"] == "for us"


def test_a_subscriber_may_go_on_calling(daemon, registered, vm_id):
    vm, _ = registered
    with subscribe(daemon) as watcher:
        assert status(watcher)["subscribers"] == 1
        vm.send(24, b"x")
        assert next_event(watcher)["event"] == "agent-event"
        assert watcher.attach(vm_id) == []


def test_a_subscriber_that_does_not_read_loses_events_and_is_told(daemon, registered):
    vm, runtime = registered
    text = b"x" * 8000
    with subscribe(daemon) as watcher:
        lost = 0
        for _ in range(40 * MAX_UNREAD_BYTES // len(text)):
            vm.send(24, text)
            if lost := status(runtime, sessions=False)["drops"].get("events", 0):
                break
        assert lost
        seen = 0
        watcher.command(Command.STATUS, {"sessions": False})
        while watcher.frame().type != Type.RESPONSE:
            seen += 1
        assert seen > 1
        vm.send(24, b"the next one")
        told = next_event(watcher)
        lost = status(runtime, sessions=False)["drops"]["events"]
        assert (told["event"], told["count"]) == ("dropped", lost)
        assert next_event(watcher)["data"] == "the next one"


# ---- LogControl


def test_the_level_of_a_running_daemon_can_be_changed(start_daemon):
    daemon = start_daemon()
    with daemon.client() as client:
        client.call(Command.LOG_CONTROL, {"level": "error"})
        assert status(client)["logLevel"] == "error"
    with daemon.client() as client:  # neither this one's coming nor the other's going is logged
        client.call(Command.LOG_CONTROL, {"level": "info"})
    daemon.wait_for_log("client gone", times=2)
    after = daemon.log.partition("level=error")[2]
    assert after.count("client connected") == 0


def test_the_level_can_be_raised_for_one_vm(start_daemon, scripted):
    daemon = start_daemon()
    with daemon.client() as client:
        client.call(Command.LOG_CONTROL, {"level": "error"})
        client.call(Command.LOG_CONTROL, {"level": "info", "containerId": "loud"})
        for vm_id in ("quiet", "loud"):
            vm = scripted()
            client.command(
                Command.REGISTER_VM,
                {"containerId": vm_id, "ctlSerial": vm.ctl_path, "ioSerial": vm.io_path},
            )
            vm.accept()
            client.answer()
        daemon.wait_for_log('msg="VM registered" vm=loud')
        client.call(Command.LOG_CONTROL, {"level": "default", "containerId": "loud"})
        client.unregister("loud")
        assert status(client)["logLevel"] == "error"
    assert "vm=quiet" not in daemon.log
    assert "VM unregistered" not in daemon.log


@pytest.mark.parametrize(
    "members",
    [{}, {"level": "loud"}, {"level": "default"}, {"level": 5}],
)
def test_a_level_that_there_is_not_is_refused(daemon, members):
    with daemon.client() as client, pytest.raises(Refused, match="level"):
        client.call(Command.LOG_CONTROL, members)


# ---- who may


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_members_of_the_sockets_group_are_no_operators(start_daemon):
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        daemon = start_daemon(path=os.path.join(directory, "proxy.sock"))
        os.chown(daemon.path, -1, GROUP)
        for command in (Command.LOG_CONTROL, Command.STATUS, Command.SUBSCRIBE):
            frame = frames.encode(Type.COMMAND, command, b'{"level":"debug"}')
            answer = as_somebody(daemon.path, frame, 5555, [GROUP])
            assert b"only root and the daemon's own user" in answer
        daemon.stop()
