"""Where the debug endpoint listens, and what is refused."""

from __future__ import annotations

import ctypes
import os
import re
import stat
import subprocess

import pytest

from tests.e2e.harness import PATIENCE_S, PROGRAM, TOP
from tests.e2e.web import Web

CLONE_NEWNET = 0x40000000


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
    assert daemon.stop() == 0
    assert not os.path.exists(path)


def refusal(*flags: str) -> tuple[int, str]:
    run = subprocess.run(
        [*PROGRAM, "-ksm", "initial", *flags],
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
