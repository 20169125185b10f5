"""The command hyper."""

from __future__ import annotations

import json
import subprocess

import pytest

from ccproxy_lib.front import hyper
from tests.e2e.commands.tools import error, pipes
from tests.e2e.harness import PATIENCE_S, PROGRAM, TOP
from tests.e2e.terminal import on_terminal


def test_hyper_prints_the_answer(tools):
    plain = tools.hyper("tools", "pscontainer", '{"container":"first"}')
    assert (plain.returncode, plain.stderr) == (0, b"")
    assert [entry["name"] for entry in json.loads(plain.stdout)] == ["sleep"]
    line = tools.hyper("tools", "pscontainer", '{"container":"first"}', "--json")
    assert line.stdout.endswith(b"\n")
    shown, printed = json.loads(plain.stdout), json.loads(line.stdout)
    for entry in *shown, *printed:
        assert entry.pop("state") in set("RSDT")  # not the same at any time
    assert printed == shown


@pytest.mark.heavy
def test_hyper_with_nothing_to_print(tools):
    assert tools.hyper("tools", "ping").stdout == b""
    assert tools.hyper("tools", "ping", "--json").stdout == b"null\n"
    # No JSON at all: a number of four bytes.
    assert tools.hyper("tools", "version").stdout == b"\x00\x00\x10\x92"
    assert json.loads(tools.hyper("--json", "tools", "version").stdout) == "\0\0\x10\\x92"


@pytest.mark.heavy
def test_hyper_on_a_terminal_is_for_people(tools):
    arguments = ("--socket-path", tools.path, "tools")
    with on_terminal("hyper", *arguments, "pscontainer", '{"container":"first"}') as terminal:
        status, shown = terminal.end()
    assert status == 0
    assert shown.startswith('[\r\n  {\r\n    "pid": ')
    with on_terminal("hyper", *arguments, "version") as terminal:
        assert terminal.end() == (0, "\\x00\\x00\\x10\\x92\r\n")


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("nope", "ping"), "hyper: unknown containerID: nope"),
        (("tools", "nope"), "hyper: unknown command 'nope'"),
        (
            ("tools", "pscontainer", '{"container":"nope"}'),
            "hyper: ERROR received from VM agent, control msg received : unknown container: nope",
        ),
    ],
)
def test_hyper_is_refused(tools, arguments, text):
    result = tools.hyper(*arguments)
    assert (result.returncode, result.stdout, error(result)) == (1, b"", text)


@pytest.mark.heavy
@pytest.mark.parametrize("command", [["hyper"], ["exec", "--container=c"]])
def test_what_a_vm_says_does_not_play_with_the_terminal(tools, daemon, registered, vm_id, command):
    vm, _ = registered
    rest = [vm_id, "ping"]
    command = [*PROGRAM, *command, "--socket-path", daemon.path, *rest]
    with subprocess.Popen(command, cwd=TOP, **pipes()) as running:
        vm.refuse(b"\x1b]0;x\x07\nmore")
        _, shown = running.communicate(timeout=PATIENCE_S)
    assert shown.decode().endswith(r" : \x1b]0;x\x07\nmore" + "\n")


def test_hyper_prints_what_cannot_be_read():
    deep = b"[" * 200_000
    assert hyper._one_line(deep) == json.dumps(deep.decode())
    assert hyper._for_people(deep) == deep.decode() + "\n"
