"""Settings from files and variables, and the level of the log."""

from __future__ import annotations

import pytest

from tests.e2e.command_line.program import LEVELS, levels_in, refusal, run

pytestmark = pytest.mark.heavy


# ---- settings from elsewhere


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "cc-proxy.conf"
    path.write_text("[proxy]\nlog = info\n[limits]\nmax-vms = 7\nmax-clients = 7\n")
    return path


def test_a_file_is_served_by(start, config):
    daemon = start("-config", str(config))
    daemon.send_log_entries()
    assert daemon.stop() == 0
    assert levels_in(daemon.stderr) == ["info", "warn", "error"]


def test_what_counts_and_where_it_is_from(config, path):
    env = {"CC_PROXY_CONFIG": str(config), "CC_PROXY_MAX_CLIENTS": "8", "CC_PROXY_MAX_VMS": "x"}
    result = run("-max-vms=9", "--check-config", "-socket-path", str(path), env=env)
    assert (result.returncode, result.stderr) == (0, "")
    lines = [line.split(maxsplit=4) for line in result.stdout.splitlines()]
    assert ["log", "=", "info", "#", f"{config}, line 2"] in lines
    assert ["max-clients", "=", "8", "#", "CC_PROXY_MAX_CLIENTS"] in lines
    assert ["max-vms", "=", "9", "#", "-max-vms"] in lines
    assert ["max-tokens", "=", "16384", "#", "default"] in lines
    assert not path.exists()


@pytest.mark.parametrize("flags", [(), ("-check-config",), ("-log=info", "-max-vms", "1")])
def test_a_wrong_file(config, flags):
    config.write_text("[limits]\n\nmax-vms = many\n")
    line = refusal("-config", str(config), *flags, status=2)
    problem = "flag -max-vms needs a whole number more than 0, got 'many'"
    assert line == f"{problem} ({config}, line 3)"
    config.write_text("[limits]\nmaxvms = 1\n")
    line = refusal("-config", str(config), *flags, status=2)
    assert line.startswith(f"{config}, line 2: unknown setting 'maxvms': ")


def test_a_file_that_is_not_there(tmp_path):
    line = refusal("-config", str(tmp_path / "x"), status=2)
    assert line == f"cannot read the settings in {tmp_path}/x: No such file or directory"


def test_a_wrong_variable():
    line = refusal("-check-config", status=2, env={"CC_PROXY_MAX_VMS": "many"})
    assert line.endswith("got 'many' (CC_PROXY_MAX_VMS)")


# ---- what it logs


@pytest.mark.parametrize(
    ("flags", "variable", "lowest"),
    [
        ((), None, "warn"),
        ((), "", "warn"),
        (("-log", "debug"), None, "debug"),
        (("-log=Info",), None, "info"),
        (("--log", "WARNING"), None, "warn"),
        (("-log", "error"), None, "error"),
        (("-log", "panic"), None, None),
        (("-log", "1"), None, "info"),
        ((), "2", "debug"),
        ((), "INFO", "info"),
        (("-log", "error"), "debug", "error"),
        (("-log", "debug"), "error", "debug"),
        (("-log", "info"), "loud", "info"),
    ],
)
def test_level(start, flags, variable, lowest):
    env = {} if variable is None else {"CC_PROXY_LOG_LEVEL": variable}
    daemon = start(*flags, env=env)
    daemon.send_log_entries()
    assert daemon.stop() == 0
    expected = LEVELS[LEVELS.index(lowest) :] if lowest else ()
    assert levels_in(daemon.stderr) == list(expected)
