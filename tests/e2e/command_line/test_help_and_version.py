"""Help and version, which work whatever else is wrong."""

from __future__ import annotations

import os
import re
import signal
import sys

import pytest

from tests.e2e.command_line.program import refusal, run
from tests.e2e.harness import TOP

pytestmark = pytest.mark.heavy

SCRIPT = TOP / "ccproxy.py"
# No installed package can be found: only the standard library and the checkout.
BARE = (
    sys.executable,
    "-I",
    "-S",
    "-c",
    f"import sys; sys.path.insert(0, {str(TOP)!r})\n"
    "from ccproxy_lib.front.entry import main; sys.exit(main())",
)


VERSION = re.compile(r"Version: \d+\.\d+\.\d+-\S+\n")


@pytest.mark.parametrize("flag", ["-help", "--help", "-h", "--h", "-help=true"])
def test_help(flag):
    result = run(flag)
    assert (result.returncode, result.stderr) == (0, "")
    assert "Usage:" in result.stdout
    assert "-socket-path PATH" in result.stdout


def test_help_asked_for_in_all_ways_at_once():
    assert run("-h", "-help", "--help").returncode == 0


@pytest.mark.parametrize(
    "flags",
    [
        ("-version",),
        ("--version",),
        ("-version=true",),
        ("--version=1",),
        ("-version", "-nope"),
        ("-nope", "-version"),
        ("-log", "loud", "-version"),
        ("-uri", "tcp://x", "-version"),
        ("-version", "-socket-path"),
    ],
)
def test_version_whatever_else_is_wrong(flags):
    result = run(*flags)
    assert (result.returncode, result.stderr) == (0, "")
    assert VERSION.fullmatch(result.stdout)


def test_version_without_the_dependencies():
    result = run("-version", program=BARE)
    assert result.returncode == 0, result.stderr
    assert VERSION.fullmatch(result.stdout)


def test_version_is_not_printed_if_it_is_false(path):
    path.write_text("in the way")
    assert "no socket" in refusal("-version=false", "-socket-path", str(path), status=1)


@pytest.mark.parametrize("command", [(), ("-help",), ("demo",), ("agent",)])
def test_missing_dependencies_are_named_in_a_sentence(command):
    line = refusal(*command, status=1, program=BARE)
    assert re.match(r"the Python package \w+ is missing: run 'make demo' ", line)


@pytest.mark.parametrize("by_link", [False, True])
def test_the_script_runs_from_anywhere(tmp_path, by_link):
    script = SCRIPT
    if by_link:
        script = tmp_path / "cc-proxy"
        script.symlink_to(SCRIPT)
    search = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
    result = run("-help", program=(str(script),), cwd=tmp_path, env={"PATH": search})
    assert (result.returncode, result.stderr) == (0, "")
    assert "Usage:" in result.stdout


@pytest.mark.parametrize("flag", ["-help", "-version"])
def test_nobody_reads_what_it_prints(flag):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = run(flag, stdout=writer)
    finally:
        os.close(writer)
    assert (result.returncode, result.stderr) == (128 + signal.SIGPIPE, "")
