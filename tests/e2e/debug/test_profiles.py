"""Profiles, greenlets and memory at the debug endpoint."""

from __future__ import annotations

import re
import signal
import threading

import pytest

from tests.e2e.harness import Refused, wait_until
from tests.e2e.steps import running
from tests.e2e.web import over_tcp, wait_for_profiler


def test_greenlets_at_the_same_place_are_told_together(web, registered, vm_id) -> None:
    text = web.get("/debug/greenlets")
    blocks = {
        block
        for block in text.split("\n\n")[1:]
        if "CtlChannel._read" in block or "ctl_channel.py" in block and " _read" in block
    }
    assert len(blocks) == 1
    assert blocks.pop().startswith("1 x\n")
    assert "service/server.py" in text
    assert re.match(r"\d+ greenlets are alive\n", text)


def test_memory_counts_our_objects(web, registered) -> None:
    text = web.get("/debug/memory")
    assert re.search(r"^ +[1-9]\d*  ccproxy_lib\.state\.vm\.Vm$", text, re.M)
    assert re.search(r"^ +VmRSS +\d+ kB$", text, re.M)
    assert "generation 2: collections" in text
    assert "PYTHONTRACEMALLOC" in text


def test_a_profile_shows_what_the_daemon_does(web, registered, daemon, vm_id) -> None:
    vm, runtime = registered
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            for _ in range(100):
                vm.output(1, b"z" * 20)
            shim.read_stdout_bytes(2000)

    def profile() -> list[str]:
        """The lines of a profile, if the daemon was given the time to do what it should show."""
        lines = web.get("/debug/profile?seconds=1").splitlines()
        shown = any("service/io_channel.py:" in line and line.count(";") > 1 for line in lines)
        return lines if shown else []

    with running(daemon, runtime, vm, vm_id) as shim:
        working = threading.Thread(target=work)
        working.start()
        try:
            lines = wait_until(profile, "a profile shows the work")
        finally:
            done.set()
            working.join()
    assert all(re.fullmatch(r"\S+ [1-9]\d*", line.replace("(idle)", "idle")) for line in lines)


def test_there_is_one_profile_at_a_time_and_the_end_is_not_kept_waiting(start_daemon) -> None:
    daemon = start_daemon("-pprof", "-pprof-port", "0")
    web = over_tcp(daemon)
    with web.connect() as waiting:
        waiting.sendall(b"GET /debug/profile?seconds=60 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_for_profiler(web)
        assert web.ask("/debug/profile?seconds=1").status == 409
        # Meanwhile it works on.
        assert web.json()["pid"] == daemon.pid
        with daemon.client() as client, pytest.raises(Refused):
            client.attach("nobody")
        assert daemon.stop() == 0
        assert b" 200 " not in waiting.recv(1 << 16)


@pytest.mark.parametrize(
    "query", ["seconds=0.9", "seconds=61", "seconds=x", "seconds=nan", "clock=sun"]
)
def test_a_profile_needs_sense(web, query) -> None:
    answer = web.ask(f"/debug/profile?{query}")
    assert answer.status == 400
    assert "must be" in answer.text


def test_go_names_work(web) -> None:
    assert "/debug/profile?seconds=N" in web.get("/debug/pprof/")
    assert "greenlets are alive" in web.get("/debug/pprof/goroutine?debug=2")
    assert "Garbage collector" in web.get("/debug/pprof/heap")


@pytest.mark.parametrize(
    ("clock", "late", "idle"),
    [("cpu", signal.SIGPROF, "(idle) "), ("wall", signal.SIGALRM, "gevent/hub.py:")],
)
def test_an_idle_daemon_has_a_profile_too(web, daemon, clock, late, idle) -> None:
    # None, if the daemon was not given the time for a single sample.
    wait_until(lambda: idle in web.get(f"/debug/profile?seconds=1&clock={clock}"), "it is idle")
    # A sample that comes late ends nothing.
    daemon.process.send_signal(late)
    assert web.json()["pid"] == daemon.pid
