"""The status that the debug endpoint shows."""

from __future__ import annotations

import json
import threading

from ccproxy_lib.wire.frames import Command
from tests.e2e.harness import container, wait_until


def test_the_status_is_protocol_2s(web, registered, daemon, vm_id) -> None:
    _, runtime = registered
    runtime.attach(vm_id, 2)
    asked = json.loads(runtime.call(Command.STATUS, {}))
    told = web.json()
    assert set(told) - set(asked) == {"stuck", "stuckCount"}
    assert set(asked) <= set(told)
    assert [set(vm) for vm in told["vms"]] == [set(vm) for vm in asked["vms"]]
    assert [session["state"] for session in told["vms"][0]["sessions"]] == ["allocated"] * 2
    assert told["pid"] == daemon.pid


def test_the_status_can_be_narrowed(web, registered, vm_id) -> None:
    assert "sessions" not in web.json("/status?sessions=false")["vms"][0]
    assert [vm["id"] for vm in web.json(f"/status?containerId={vm_id}")["vms"]] == [vm_id]
    answer = web.ask("/status?containerId=nobody")
    assert (answer.status, answer.text) == (404, "unknown containerID: nobody\n")


def test_a_status_of_many_sessions_is_whole(web, registered, vm_id) -> None:
    _, runtime = registered
    runtime.attach(vm_id, 1001)
    (vm,) = web.json()["vms"]
    assert len(vm["sessions"]) == vm["sessionCount"] == 1001


def test_a_session_that_holds_all_it_can_is_told(web, registered, vm_id, daemon) -> None:
    vm, runtime = registered
    with daemon.client() as starter:
        starter.attach(vm_id)
        (token,) = runtime.attach(vm_id, 1)
        shim = daemon.shim(token)
        starting = threading.Thread(target=vm.ack)
        starting.start()
        starter.hyper("newcontainer", container("big", "cat"), token)
        starting.join()
        shim.close()
        wait_until(lambda: web.metrics()("ccproxy_sessions", state="detached"), "the shim is lost")
        for _ in range(4):
            vm.output(1, b"y" * 50_000)
        wait_until(
            lambda: web.metrics()("ccproxy_output_buffered_bytes", place="spool") > 0,
            "the output is in the spool",
        )
        assert f"output of VM '{vm_id}', container 'big', stdio 1" in web.get("/debug/memory")
        held = web.json(f"/status?containerId={vm_id}")["vms"][0]
        assert held["bufferedBytes"] > held["spooledBytes"] > 0
