"""The sandbox agent's command line, and what it finds at its sockets' places."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ccproxy_lib.front.sandbox.main import main
from ccproxy_lib.wire.ctl import Code
from tests.sandbox.agent import DEADLINE_S, ROOT, Sandbox, Start

pytestmark = pytest.mark.heavy


def run_agent(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ccproxy_lib.front.sandbox", *arguments]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )


def test_help_says_that_it_isolates_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agent", "--help"]) == 0
    assert "isolates nothing" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [[], ["one"], ["--what", "ctl", "io"], *[["--output-bytes", n, "c", "i"] for n in ("0", "x")]],
)
def test_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["agent", *arguments]) == 2
    assert capsys.readouterr().err


def test_a_live_socket_is_left_alone_and_quiet_prints_errors_only(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    result = run_agent("--quiet", str(tmp_path / "other"), str(sandbox.io_path))
    assert result.returncode == 1
    assert result.stderr == f"{sandbox.io_path} is in use\n"
    sandbox.control.call(Code.PING)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ctl", "io"]


def test_a_plain_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "ctl").write_text("precious")
    result = run_agent(str(tmp_path / "ctl"), str(tmp_path / "io"))
    assert result.returncode == 1
    assert "not a socket" in result.stderr
    assert (tmp_path / "ctl").read_text() == "precious"


def test_dead_sockets_are_replaced(start: Start) -> None:
    first = start()
    first.process.kill()
    first.end()
    assert first.ctl_path.exists()
    start().control.call(Code.PING)
