"""What clients and agents have logged: how much, and in whose name."""

from __future__ import annotations

import json

import pytest

from ccproxy_lib.wire.ctl import Code
from ccproxy_lib.wire.frames import Command
from tests.e2e.harness import Refused, wait_until
from tests.e2e.log.entries import lines_about, records, send_entry


def test_a_flood_of_entries_is_cut_and_counted(start_daemon):
    daemon = start_daemon("-log-burst", "20", "-log-rate", "1")
    with daemon.client() as client, daemon.client() as other:
        for number in range(500):
            send_entry(client, level="error", msg=f"entry {number}")
        send_entry(other, level="error", msg="from another")

        def told() -> int:
            said = records(daemon)
            counts = [int(each["count"]) for each in said if each["msg"] == "log entries dropped"]
            return sum(counts) + sum(each["msg"].startswith("entry ") for each in said)

        wait_until(lambda: told() == 500, "all are logged or counted")
        status = json.loads(client.call(Command.STATUS, {"sessions": False}))
    said = records(daemon)
    entries = [each["msg"] for each in said if each["msg"].startswith("entry ")]
    assert entries[:20] == [f"entry {number}" for number in range(20)]
    assert status["drops"]["log-entries"] == 500 - len(entries)
    assert "from another" in [each["msg"] for each in said]
    (client_id,) = {each["client"] for each in said if each["msg"].startswith("entry ")}
    (dropper,) = {each["client"] for each in said if each["msg"] == "log entries dropped"}
    assert dropper == client_id


def test_entries_that_nobody_wants_count_for_nothing(start_daemon):
    daemon = start_daemon("-log-burst", "1", "-log-rate", "1", "-log", "info")
    with daemon.client() as client:
        for _ in range(100):
            send_entry(client, level="debug", msg="unwanted")
        send_entry(client, level="info", msg="wanted")
        daemon.wait_for_log("msg=wanted")
    assert "unwanted" not in daemon.log


def test_a_flood_of_refused_commands_is_cut_and_counted(daemon):
    with daemon.client() as client:
        for _ in range(300):
            with pytest.raises(Refused):
                client.call(Command.UNREGISTER_VM, {"containerId": "nobody"})
    said = lines_about(daemon, "command refused")
    assert 100 <= len(said) < 300
    assert all(each["reason"] == "unknown containerID: nobody" for each in said)


def test_a_flood_of_events_of_an_agent_is_cut_and_counted(daemon, registered):
    vm, runtime = registered
    for number in range(300):
        vm.send(Code.PROCESS_ASYNC_EVENT, b"event %d" % number)
    runtime.hyper_command("ping")
    vm.ack()
    runtime.answer()
    said = [each["event"] for each in lines_about(daemon, "agent event")]
    assert said[:100] == [f"event {number}" for number in range(100)]
    assert len(said) < 300


@pytest.mark.parametrize(
    "text",
    [
        "two\ntime=2020-01-01T00:00:00Z level=error msg=forged vm=c9",
        '" level=error msg="forged',
        "\r\x1b]0;mine\x07\x1b[2J\x9b31m\u2028",
        "\\",
    ],
)
def test_an_entry_cannot_forge_another(daemon, text, vm_id):
    with daemon.client() as client:
        send_entry(client, level="info", msg=text, containerId=vm_id + text)
        daemon.wait_for_log(f"container={json.dumps(vm_id)[:-1]}")
    (said,) = (each for each in records(daemon) if each.get("source") == "shim")
    assert (said["level"], said["msg"], said["container"]) == ("info", text, vm_id + text)
    assert "\x1b" not in daemon.log


def test_an_entry_has_the_vm_of_its_client(daemon, registered, vm_id):
    _, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim:
        send_entry(shim, level="warn", msg="of the shim", containerId="box")
        send_entry(runtime, level="warn", msg="of the runtime", source="runtime")
        daemon.wait_for_log("of the shim")
        daemon.wait_for_log("of the runtime")
    said = {each["msg"]: each for each in records(daemon)}
    names = ("level", "vm", "source", "container")
    assert [said["of the shim"][name] for name in names] == ["warning", vm_id, "shim", "box"]
    assert [said["of the runtime"][name] for name in names] == ["warning", vm_id, "runtime", ""]
