"""Metrics and debugging by HTTP, asked of the real daemon over real sockets."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import stat
import subprocess
import sys
import threading

import pytest

from ccproxy_lib.wire.frames import Command
from tests.e2e.harness import PATIENCE_S, TOP, Daemon, container, wait_until
from tests.e2e.web import Web, ask, over_tcp

# The metrics that the library knows by itself.
LIBRARY = ("process_", "python_")
PATHS = ("/", "/status", "/metrics", "/debug/", "/debug/greenlets", "/debug/memory")
CLONE_NEWNET = 0x40000000


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One daemon for most tests here, with short patience for slow clients."""
    flags = ("-pprof", "-pprof-port", "0", "-frame-timeout", "1", "-session-buffer", "64K")
    daemon = Daemon(tmp_path_factory.mktemp("debug"), *flags)
    yield daemon
    assert daemon.stop() == 0, daemon.log
    assert "Traceback" not in daemon.log, daemon.log
    assert "level=error" not in daemon.log, daemon.log


@pytest.fixture
def daemon(shared):
    """Here ``daemon`` is the one that has the endpoint."""
    yield shared
    wait_until(lambda: not over_tcp(shared).json()["vms"], "the VMs are gone")


@pytest.fixture
def web(daemon):
    return over_tcp(daemon)


# ---- metrics


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


# ---- status


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


# ---- debugging


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


def wait_for_profiler(web: Web) -> None:
    wait_until(lambda: "debug/profile.py" in web.get("/debug/greenlets"), "a profile is taken")


def test_a_profile_shows_what_the_daemon_does(web, registered, daemon, vm_id) -> None:
    vm, runtime = registered
    (token,) = runtime.attach(vm_id, 1)
    done = threading.Event()
    found = []

    def profile() -> None:
        found.append(web.get("/debug/profile?seconds=1"))
        done.set()

    with daemon.shim(token) as shim, daemon.client() as starter:
        starter.attach(vm_id)
        starting = threading.Thread(target=vm.ack)
        starting.start()
        starter.hyper("newcontainer", container("p", "cat"), token)
        starting.join()
        profiling = threading.Thread(target=profile)
        profiling.start()
        wait_for_profiler(web)
        assert web.ask("/debug/profile?seconds=1").status == 409
        # Meanwhile it works on.
        while not done.is_set():
            for _ in range(100):
                vm.output(1, b"z" * 20)
            shim.read_stdout_bytes(2000)
            assert web.json("/status?sessions=false")["vms"]
        profiling.join()
    lines = found[0].splitlines()
    assert all(re.fullmatch(r"\S+ [1-9]\d*", line.replace("(idle)", "idle")) for line in lines)
    assert any("service/io_channel.py:" in line and line.count(";") > 1 for line in lines), lines


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


# ---- who may ask for what


def test_no_token_is_told(web, registered, vm_id) -> None:
    _, runtime = registered
    tokens = runtime.attach(vm_id, 3)
    for path in PATHS:
        text = web.get(path)
        assert not [token for token in tokens if token in text], path


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example"]
)
def test_names_of_others_are_refused(web, host) -> None:
    for path in PATHS:
        answer = web.ask(path, Host=host)
        assert answer.status == 421
        assert "ccproxy_" not in answer.text


@pytest.mark.parametrize("host", ["localhost", "localhost:6060", "127.0.0.1:1", "[::1]:6060"])
def test_this_hosts_names_are_answered(web, host) -> None:
    assert web.ask("/status", Host=host).status == 200


def test_other_sites_pages_are_refused(web) -> None:
    headers = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}
    assert web.ask("/debug/profile?seconds=60", **headers).status == 403
    assert web.ask("/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 200
    assert web.ask("/status", Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="cors").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_only_looking_is_allowed(web, method) -> None:
    answer = web.ask("/status", method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_a_body_is_not_waited_for(web) -> None:
    with web.connect() as client:
        client.sendall(b"POST /status HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n")
        answer = b""
        while piece := client.recv(1 << 16):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 405 ")


def test_head_says_what_get_would_say(web) -> None:
    connection = web.connection()
    for path in (*PATHS, "/debug/profile?seconds=60"):
        answer = ask(connection, path, "HEAD")
        assert (answer.status, answer.text) == (200, "")
    for path in PATHS:
        kinds = [web.ask(path, method).headers["content-type"] for method in ("GET", "HEAD")]
        assert kinds[0] == kinds[1]
    connection.close()


def test_what_is_not_there_is_told(web) -> None:
    answer = web.ask("/nothing")
    assert (answer.status, answer.text.count("\n")) == (404, 1)


def test_answers_are_for_this_site_only(web) -> None:
    headers = web.ask("/").headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "request_text",
    [
        b"GET\r\n\r\n",
        b"GET / HTTP/9\r\n\r\n",
        b"GET / HTTP/x.y\r\n\r\n",
        b"\0\xff\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    ],
)
def test_what_is_no_http_harms_nobody(web, daemon, request_text) -> None:
    with web.connect() as client:
        try:
            client.sendall(request_text)
            answer = client.recv(1 << 16)
        except ConnectionError:
            answer = b""
    assert b"Traceback" not in answer
    assert b" 200 " not in answer.partition(b"\r\n")[0] or b"no colon" in request_text
    assert web.json()["pid"] == daemon.pid


def test_slow_clients_are_cut_off(web, daemon) -> None:
    before = daemon.descriptors()
    slow = [web.connect() for _ in range(40)]
    for each in slow:
        each.sendall(b"GET /status HTTP/1.1\r\nHost: ")
    wait_until(lambda: daemon.descriptors() >= before + 30, "they are connected")
    assert daemon.descriptors() <= before + 32
    # More of them than are served at once: this one is answered when they are gone.
    assert web.json()["pid"] == daemon.pid
    for each in slow:
        assert each.recv(1) == b""
        each.close()


def test_a_reader_that_goes_away_harms_nobody(web, registered, vm_id) -> None:
    _, runtime = registered
    runtime.attach(vm_id, 2000)
    for _ in range(3):
        with web.connect() as client:
            client.sendall(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10)
            client.recv(100)
    assert web.json()["vms"][0]["sessionCount"] == 2000


# ---- start and end


@pytest.mark.heavy
def test_nothing_of_it_is_loaded_unless_asked_for(start_daemon, daemon) -> None:
    modules = ("prometheus_client", "gevent.pywsgi", "html", "ccproxy_lib.service.debug")
    plain = start_daemon(env={"PYTHONPROFILEIMPORTTIME": "1"})
    loaded = set(re.findall(r"^import time:.*\| +(\S+)$", plain.log, re.M))
    assert "ccproxy_lib.service.server" in loaded
    assert not [name for name in loaded if name.startswith(modules)]


def test_a_unix_socket_will_do(start_daemon, tmp_path) -> None:
    path = str(tmp_path / "debug.sock")
    daemon = start_daemon("-pprof", "-pprof-host", f"unix://{path}")
    web = Web(path)
    assert web.json()["pid"] == daemon.pid
    assert web.ask("/metrics", Host="any.name").status == 200
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
    # It ends at once, whoever is being served.
    with web.connect() as waiting:
        waiting.sendall(b"GET /debug/profile?seconds=60 HTTP/1.1\r\n\r\n")
        wait_for_profiler(web)
        assert daemon.stop() == 0
        assert b" 200 " not in waiting.recv(1 << 16)
    assert not os.path.exists(path)


@pytest.mark.parametrize(
    ("clock", "late", "idle"),
    [("cpu", signal.SIGPROF, "(idle) "), ("wall", signal.SIGALRM, "gevent/hub.py:")],
)
def test_an_idle_daemon_has_a_profile_too(web, daemon, clock, late, idle) -> None:
    assert idle in web.get(f"/debug/profile?seconds=1&clock={clock}")
    # A sample that comes late ends nothing.
    daemon.process.send_signal(late)
    assert web.json()["pid"] == daemon.pid


def refusal(*flags: str) -> tuple[int, str]:
    run = subprocess.run(
        [sys.executable, "-m", "ccproxy_lib", "-ksm", "initial", *flags],
        cwd=TOP,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=PATIENCE_S,
    )
    return run.returncode, run.stderr


def test_a_port_that_is_taken_is_refused(tmp_path, web) -> None:
    path = tmp_path / "proxy.sock"
    port = str(web.address[1])
    status, said = refusal("-socket-path", str(path), "-pprof", "-pprof-port", port)
    assert (status, said) == (
        1,
        f"cc-proxy: cannot listen on localhost:{port}: Address already in use\n",
    )
    assert not path.exists()


def test_a_bad_port_is_refused() -> None:
    status, said = refusal("-pprof", "-pprof-port=x")
    assert status == 2
    assert said == "cc-proxy: flag -pprof-port needs a number from 0 to 65535, got 'x'\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a network that nobody reaches")
def test_an_endpoint_for_other_hosts_is_warned_of(start_daemon) -> None:
    daemon = start_daemon(
        "-pprof",
        "-pprof-host",
        "0.0.0.0",
        preexec_fn=lambda: ctypes.CDLL(None).unshare(CLONE_NEWNET) and os._exit(1),
    )
    daemon.wait_for_log('level=warning msg="debug endpoint is open to other hosts"')
