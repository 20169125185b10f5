"""Who may ask the debug endpoint for what, and that bad clients harm nobody."""

from __future__ import annotations

import contextlib

import pytest

from tests.e2e.harness import wait_until
from tests.e2e.web import ask, over_tcp

PATHS = ("/", "/status", "/metrics", "/debug/", "/debug/greenlets", "/debug/memory")


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


BEGINNING = b"GET /status HTTP/1.1\r\nHost: "
SERVED_AT_ONCE = 32


def test_slow_clients_are_cut_off(start_daemon) -> None:
    # One of its own: each request of another test would have to be quick, too.
    daemon = start_daemon("-pprof", "-pprof-port", "0", "-frame-timeout", "0.2")
    web = over_tcp(daemon)
    with contextlib.ExitStack() as stack:
        # So that the time that they have does not depend on ours.
        with daemon.stopped():
            slow = [stack.enter_context(web.connect()) for _ in range(SERVED_AT_ONCE + 8)]
            for each in slow:
                each.sendall(BEGINNING)
            last = stack.enter_context(web.connect())
            last.sendall(BEGINNING + b"localhost\r\n\r\n")
        # This one is answered when they are gone.
        assert last.recv(100).startswith(b"HTTP/1.1 200 ")
        for each in slow:
            assert each.recv(1) == b""


def test_no_more_than_so_many_are_served_at_once(start_daemon) -> None:
    daemon = start_daemon("-pprof", "-pprof-port", "0")
    web = over_tcp(daemon)
    before = daemon.descriptors()
    with contextlib.ExitStack() as stack:
        for _ in range(SERVED_AT_ONCE + 8):
            stack.enter_context(web.connect()).sendall(BEGINNING)
        wait_until(lambda: daemon.descriptors() >= before + SERVED_AT_ONCE, "it serves so many")
        daemon.wait_until_idle()
        assert daemon.descriptors() == before + SERVED_AT_ONCE
    assert web.json()["pid"] == daemon.pid


def test_a_reader_that_goes_away_harms_nobody(web, registered, vm_id) -> None:
    _, runtime = registered
    runtime.attach(vm_id, 2000)
    for _ in range(3):
        with web.connect() as client:
            client.sendall(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10)
            client.recv(100)
    assert web.json()["vms"][0]["sessionCount"] == 2000
