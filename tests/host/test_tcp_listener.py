from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ccproxy_lib.errors import StartError
from ccproxy_lib.host.tcp_listener import is_foreign_name, listen

IPV6 = Path("/proc/net/if_inet6")
needs_ipv6 = pytest.mark.skipif(
    not IPV6.exists() or f"{1:032x} " not in IPV6.read_text(), reason="this host has no ::1"
)


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "127.0.0.1"),
        *(pytest.param(host, marks=needs_ipv6) for host in ("::1", "[::1]")),
    ],
)
def test_it_listens_on_this_host(host) -> None:
    listener = listen(host, 0)
    try:
        assert listener.loopback
        address = listener.socket.getsockname()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as client:
            client.connect(address)
        shown = "[::1]" if ":" in host else "127.0.0.1"
        assert listener.uri == f"http://{shown}:{address[1]}/"
    finally:
        listener.close()


def test_a_port_in_use_is_told() -> None:
    first = listen("localhost", 0)
    port = first.socket.getsockname()[1]
    with pytest.raises(StartError, match=rf"^cannot listen on localhost:{port}: Address already"):
        listen("localhost", port)
    first.close()


def test_a_host_that_cannot_be_is_told() -> None:
    with pytest.raises(StartError, match="^cannot listen on a{64}:1: "):
        listen("a" * 64, 1)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "localhost",
        "LOCALHOST:1",
        "127.0.0.1",
        "127.0.0.1:6060",
        "10.1.2.3:80",
        "[::1]",
        "[::1]:6060",
        "127.0.0.1:",
        "[fe80::1]:1",
        "::1",
    ],
)
def test_these_name_nobody_else(host) -> None:
    assert not is_foreign_name(host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:6060",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "localhost:1:evil.example",
        "[evil.example]",
        "[::1].evil.example",
        "x",
        "127.0.0.1@evil",
        "localhost.",
        "1.2.3",
    ],
)
def test_these_may_be_somebody_elses(host) -> None:
    assert is_foreign_name(host)
