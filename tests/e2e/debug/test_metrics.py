"""The metrics of the debug endpoint."""

from __future__ import annotations

import re
import threading

from ccproxy_lib.wire.frames import Command
from tests.e2e.harness import TOP, container

# The metrics that the library knows by itself.
LIBRARY = ("process_", "python_")


def test_the_metrics_follow_what_happens(web, registered, daemon, vm_id) -> None:
    vm, runtime = registered
    before = web.metrics()
    (token,) = runtime.attach(vm_id, 1)
    with daemon.shim(token) as shim, daemon.client() as other:
        starting = threading.Thread(target=vm.ack)
        starting.start()
        other.attach(vm_id)
        other.hyper("newcontainer", container("m", "cat"), token)
        starting.join()
        vm.output(1, b"x" * 1000)
        assert shim.read_stdout_bytes(1000) == b"x" * 1000
        shim.stdin(b"abc")
        assert vm.input()[1] == b"abc"
        other.command(Command.ATTACH_VM, {"containerId": "nobody"})
        assert other.frame().error
        now = web.metrics()
        assert now("ccproxy_vms") == 1
        assert now("ccproxy_clients") == 3
        assert now("ccproxy_sessions", state="running") == 1
        assert now("ccproxy_sessions", state="allocated") == 0
    grown = {
        ("ccproxy_stream_bytes_total", "direction", "output"): 1000,
        ("ccproxy_stream_bytes_total", "direction", "stdin"): 3,
        ("ccproxy_stream_messages_total", "direction", "output"): 1,
        ("ccproxy_stream_messages_total", "direction", "stdin"): 1,
        ("ccproxy_refusals_total", "reason", "command"): 1,
    }
    for (name, label, value), by in grown.items():
        assert now(name, **{label: value}) - before(name, **{label: value}) == by, name
    for name in (
        "ccproxy_sessions_created_total",
        "ccproxy_agent_commands_total",
        "ccproxy_agent_command_duration_seconds_count",
    ):
        assert now(name) - before(name) == 1, name
    assert now("ccproxy_agent_command_duration_seconds_bucket", le="+Inf") >= 1


def test_the_metrics_keep_prometheus_conventions(web) -> None:
    for family in web.metrics().families:
        assert family.documentation, family.name
        if family.name.startswith(LIBRARY):
            continue
        assert re.fullmatch(r"ccproxy_[a-z_]+", family.name)
        for sample in family.samples:
            assert len(sample.labels) <= 1 or family.name == "ccproxy_build_info"
            if family.type == "counter":
                assert sample.name.endswith("_total"), sample


def test_the_number_of_series_does_not_depend_on_the_vms(web, registered) -> None:
    _, runtime = registered
    few = {(each.name, *sorted(each.labels)) for each in web.metrics().samples}
    runtime.attach(web.json()["vms"][0]["id"], 500)
    assert {(each.name, *sorted(each.labels)) for each in web.metrics().samples} == few


def test_every_metric_is_in_the_documents(web) -> None:
    text = (TOP / "docs" / "METRICS.md").read_text()
    told = set(re.findall(r"^\| `(ccproxy_\w+)", text, re.M))
    families = web.metrics().families
    names = {each.name + "_total" * (each.type == "counter") for each in families}
    assert told == {name for name in names if not name.startswith(LIBRARY)}
    # In the alert examples, too, only what exists.
    known = {each.name for each in web.metrics().samples}
    empty = {"ccproxy_deadlines_missed_total", "ccproxy_refusals_total", "ccproxy_drops_total"}
    assert set(re.findall(r"ccproxy_[a-z_]+", text)) <= known | names | empty
