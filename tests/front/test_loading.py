"""What a start loads, and what it leaves alone until somebody asks for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

PACKAGE = "ccproxy_lib"
# Each only for a flag, a file, or an environment that has it, or for what happens later.
NOT_ON_A_PLAIN_START = {
    *("asyncio", "configparser", "dataclasses", "docopt", "email", "hashlib"),
    *("importlib.metadata", "inspect", "pathlib", "pprint", "prometheus_client", "rich"),
    *("secrets", "ssl", "subprocess", "tempfile", "zipfile"),
    f"{PACKAGE}.front.config_file",
    *(f"{PACKAGE}.host.{name}" for name in ("activation", "daemonize", "notify", "pid_file")),
    f"{PACKAGE}.service.notify",
}


def loaded_by(source: str) -> set[str]:
    program = f"import sys\n{source}\nprint(*sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, encoding="utf-8", check=True
    )
    return set(output.stdout.split())


@pytest.mark.heavy
def test_flags_are_read_before_gevent_is_loaded() -> None:
    # Its hub would not outlive the fork of -daemonize.
    assert "gevent" not in loaded_by(f"import {PACKAGE}.front.daemon")


@pytest.mark.heavy
def test_a_plain_start_loads_nothing_that_it_does_not_need() -> None:
    modules = loaded_by(
        f"import {PACKAGE}.front.daemon\n"
        f"{PACKAGE}.front.daemon.patch()\n"
        f"import {PACKAGE}.front.serving\n"
        "import gevent; gevent.get_hub()"
    ) - loaded_by("pass")
    assert "gevent" in modules
    assert not modules & NOT_ON_A_PLAIN_START
