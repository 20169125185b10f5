"""Completion in a real bash: what it offers is what the program has."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys

import pytest

from ccproxy_lib.front import daemon, entry
from ccproxy_lib.host import logs
from ccproxy_lib.state.ksm import Mode
from ccproxy_lib.wire import ctl
from tests.e2e.harness import TOP
from tests.test_docs import flags_of_help

pytestmark = pytest.mark.system

COMMANDS = {**entry.UNPATCHED, **entry.PATCHED}


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """Offer what bash offers for the last of some words."""
    if not shutil.which("bash"):
        pytest.skip("bash is not installed")
    directory = tmp_path_factory.mktemp("bin")
    program = directory / "cc-proxy"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {TOP}/ccproxy.py "$@"\n')
    program.chmod(0o755)
    (directory / "a file").write_text("")
    (directory / "afolder").mkdir()

    def complete(*words: str) -> list[str]:
        quoted = " ".join(map(shlex.quote, ["cc-proxy", *words]))
        script = (
            f"source {TOP}/completions/cc-proxy.bash\n"
            f"PATH={directory}:$PATH COMP_WORDS=({quoted}) COMP_CWORD={len(words)}\n"
            "$(complete -p cc-proxy | sed 's/.*-F \\([^ ]*\\).*/\\1/') cc-proxy\n"
            '((${#COMPREPLY[@]} == 0)) || printf "%s\\n" "${COMPREPLY[@]}"\n'
        )
        done = subprocess.run(
            ["bash", "--norc", "-u", "-c", script],
            cwd=directory,
            # Bash would complain of a language that is not there, and read a file of the user's.
            env=os.environ | {"LC_ALL": "C.UTF-8", "BASH_ENV": ""},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.stderr == ""
        return done.stdout.splitlines()

    return complete


def test_the_first_word_is_a_command(complete):
    assert complete("") == sorted(COMMANDS)
    assert complete("de") == ["demo"]


def test_flags_are_the_daemons(complete):
    flags = flags_of_help(daemon.__doc__)
    assert complete("--") == flags
    assert complete("-ksm", "off", "-") == [flag[1:] for flag in flags]
    assert complete("-max-v") == ["-max-vms"]
    assert complete("--ksm-r") == ["--ksm-root"]


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_flags_are_those_of_the_command(complete, command):
    path = COMMANDS[command].replace(".", "/")
    (source,) = (each for each in (TOP / f"{path}.py", TOP / path / "__init__.py") if each.exists())
    assert complete(command, "-") == flags_of_help(source.read_text())


@pytest.mark.parametrize("words", [("-log", ""), ("--log", ""), ("-log", "="), ("--log", "=", "")])
def test_levels_are_those_of_the_log(complete, words):
    levels = complete(*words)
    assert set(levels) == {name for name in logs.LEVELS if not name.isdigit()} - {"warning"}


def test_modes_are_those_of_ksm(complete):
    assert set(complete("-ksm", "")) == {mode.value for mode in Mode}
    assert complete("-ksm", "=", "o") == ["off"]


def test_paths_are_files_and_directories(complete):
    assert set(complete("-socket-path", "a")) == {"a file", "afolder"}
    assert complete("-ksm-root", "a") == ["afolder"]
    assert set(complete("agent", "--quiet", "a")) == {"a file", "afolder"}
    assert complete("-log", "debug", "a") == []


def test_numbers_are_left_to_the_user(complete):
    assert complete("-max-vms", "") == []


def test_behind_two_dashes_is_a_command_of_the_users(complete):
    assert "bash" in complete("demo", "--", "bas")
    assert complete("demo", "--", "bash", "--") == []
    assert "bash" in complete("exec", "vm", "--", "bas")
    assert "bash" in complete("exec", "--", "-x", "--", "bas")


def test_behind_two_dashes_is_a_vm(complete):
    assert "bash" not in complete("exec", "--", "bas")
    assert complete("hyper", "--", "-x", "pi") == ["ping"]


def test_agent_commands_are_those_of_the_protocol(complete):
    script = (TOP / "completions" / "cc-proxy.bash").read_text()
    (names,) = (part.partition(";;")[0] for part in script.split(" NAME)")[1:])
    assert set(names.split()) - {"printf", "'%s\\n'", "\\"} == set(ctl.COMMANDS)
