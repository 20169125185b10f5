"""Ids that look like flags."""

from __future__ import annotations

import json
import subprocess

import pytest

from ccproxy_lib.front import exec
from ccproxy_lib.wire.frames import Command
from tests.e2e.commands.tools import Tools, pipes
from tests.e2e.harness import PROGRAM, TOP, container, wait_until

ID = "-x"


@pytest.fixture
def dashed(daemon, vm):
    """A VM and a container whose ids are -x."""
    with daemon.client() as runtime:
        runtime.register(vm, ID)
        runtime.hyper("newcontainer", container(ID, "sleep", "1000"))
        yield Tools(daemon.path, ID, runtime)
        runtime.hyper("killcontainer", {"container": ID, "signal": 9})
        runtime.unregister(ID)


def test_a_vm_behind_two_dashes(dashed):
    def run(command, *arguments):
        result = dashed.run(command, "--socket-path", dashed.path, *arguments)
        assert (result.returncode, result.stderr) == (0, b"")
        return result.stdout

    (vm,) = json.loads(run("status", "--json", "--", ID))["vms"]
    assert vm["id"] == ID
    assert run("hyper", "--", ID, "ping") == b""
    assert run("exec", "--container", ID, "--", ID, "echo", ID) == b"-x\n"
    assert run("log-level", "--container", ID, "debug") == b""
    assert run("log-level", f"--container={ID}", "default") == b""


@pytest.mark.heavy
def test_events_of_a_vm_behind_two_dashes(dashed):
    arguments = ("events", "--json", "--socket-path", dashed.path, "--", ID)
    with subprocess.Popen([*PROGRAM, *arguments], cwd=TOP, **pipes()) as running:
        wait_until(
            lambda: json.loads(dashed.runtime.call(Command.STATUS))["subscribers"], "it listens"
        )
        assert dashed.exec("--", ID, "true").returncode == 0
        assert json.loads(running.stdout.readline())["vm"] == ID
        running.terminate()


@pytest.mark.heavy
def test_a_container_and_a_token_with_a_dash(dashed):
    result = dashed.run("shim", "-c", ID, "-t", "-token", "-u", dashed.path)
    assert result.stderr == b"cc-proxy: shim of -x: unknown token: ***\n"


@pytest.mark.parametrize(
    ("arguments", "vm", "command"),
    [
        (("vm", "--", "-c"), "vm", ["-c"]),
        (("vm", "-t", "--", "-c", "--"), "vm", ["-c", "--"]),
        (("--", ID, "-c"), ID, ["-c"]),
        (("--", ID, "--", "-c"), ID, ["-c"]),
        (("-t", "--", ID, "ls", "--", "-l"), ID, ["ls", "--", "-l"]),
    ],
)
def test_what_is_the_commands_own(arguments, vm, command):
    options = exec._parse(("exec", *arguments))
    assert (options["VM"], options["COMMAND"]) == (vm, command)
    assert options["--terminal"] == ("-t" in arguments)
