"""Who asks the debug endpoint for much at once does not keep the daemon from its work."""

from __future__ import annotations

import socket

import pytest

REQUEST = b"HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
REQUESTS = 100


@pytest.mark.lasting
def test_requests_in_a_row_take_turns_with_clients(start_daemon, tmp_path) -> None:
    path = str(tmp_path / "debug.sock")
    daemon = start_daemon("-pprof", "-pprof-socket", path)
    with socket.socket(socket.AF_UNIX) as asking:
        clients = [daemon.client(), daemon.client()]
        daemon.wait_for_log("client connected", 3)
        asking.connect(path)
        asking.sendall(REQUEST)
        daemon.wait_for_log("HTTP request")
        # All of it is there at once when the daemon looks, in whatever order it does.
        with daemon.stopped():
            clients[0].close()
            asking.sendall(REQUEST * REQUESTS)
            clients[1].close()
        log = daemon.wait_for_log("HTTP request", 1 + REQUESTS)
    assert log.count("client gone") == 3
    assert log.count("HTTP request", 0, log.rindex("client gone")) < REQUESTS
