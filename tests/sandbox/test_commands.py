"""What the sandbox agent makes of commands, with real processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ccproxy_lib.wire.ctl import Code
from tests.dispositions import CARELESS, NOTHING, TELLER, told
from tests.sandbox.agent import SLEEPER, Sandbox, Start, container

pytestmark = pytest.mark.heavy


def test_ready_comes_first_then_commands_are_answered(sandbox: Sandbox) -> None:
    # That READY came first is what each Sandbox starts with.
    assert sandbox.control.call(Code.PING) == b""
    assert sandbox.control.call(Code.VERSION) == (4242).to_bytes(4, "big")
    assert sandbox.control.call(Code.START_POD, {"hostname": "pod"}) == b""


@pytest.mark.parametrize("code", [2, 3, 5, 7, 13, 24, 99])
def test_unknown_and_deprecated_codes_are_refused(shared: Sandbox, code: int) -> None:
    assert str(code) in shared.control.refused(code)


def test_what_a_sandbox_cannot_do_is_acknowledged_or_refused(shared: Sandbox) -> None:
    for code in (Code.ONLINE_CPU_MEM, Code.SETUP_INTERFACE, Code.SETUP_ROUTE):
        assert shared.control.call(code, {}) == b""
    for code in (Code.WRITE_FILE, Code.READ_FILE):
        assert "files" in shared.control.refused(code, b"anything")


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_status(shared: Sandbox, code: int) -> None:
    shell = shared.run("sh", "-c", f"exit {code}")
    assert shared.io.status(shell.stdio) == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_exit_status_of_a_signal(shared: Sandbox, number: int) -> None:
    sleeper = shared.run(*SLEEPER)
    shared.kill(sleeper, number)
    assert shared.io.status(sleeper.stdio) == 128 + number


def test_exit_status_follows_all_output_of_both_streams(shared: Sandbox) -> None:
    script = "head -c 400000 /dev/zero; head -c 300000 /dev/zero >&2; exit 1"
    shell = shared.run("sh", "-c", script)
    assert shared.io.status(shell.stdio) == 1
    assert len(shared.io.output(shell.stdio)) == 400_000
    assert len(shared.io.output(shell.stderr)) == 300_000


def test_stderr_is_apart(shared: Sandbox) -> None:
    shell = shared.run("sh", "-c", "echo out; echo err >&2")
    assert shared.io.status(shell.stdio) == 0
    assert shared.io.output(shell.stdio) == b"out\n"
    assert shared.io.output(shell.stderr) == b"err\n"


def test_stderr_without_a_number_goes_where_stdout_goes(shared: Sandbox) -> None:
    order = container("merged", ["sh", "-c", "echo out; echo err >&2"], 1001)
    shared.control.call(Code.NEW_CONTAINER, order)
    assert shared.io.status(1001) == 0
    assert shared.io.output(1001) == b"out\nerr\n"


def test_stdin_and_its_end(shared: Sandbox) -> None:
    cat = shared.run("cat")
    shared.io.send(cat.stdio, b"hello ")
    shared.io.read_until(cat.stdio, b"hello ")
    shared.io.send(cat.stdio, b"world")
    shared.io.send(cat.stdio)
    assert shared.io.status(cat.stdio) == 0
    assert shared.io.output(cat.stdio) == b"hello world"


def test_end_of_stdin_alone(shared: Sandbox) -> None:
    cat = shared.run("cat")
    shared.io.send(cat.stdio)
    assert shared.io.status(cat.stdio) == 0


def test_environment_and_workdir(shared: Sandbox, tmp_path: Path) -> None:
    envs = [{"env": "GREETING", "value": "a=b"}, {"env": "EMPTY", "value": ""}]
    script = 'echo "$GREETING,${EMPTY-unset},${HOME-unset}"; pwd'
    shell = shared.run("sh", "-c", script, envs=envs, workdir=str(tmp_path))
    assert shared.io.status(shell.stdio) == 0
    assert shared.io.output(shell.stdio).decode() == f"a=b,,unset\n{tmp_path}\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_what_the_agents_starter_ignores_is_no_matter(start: Start, terminal: bool) -> None:
    sandbox = start(starter=CARELESS)
    teller = sandbox.run(*TELLER, terminal=terminal)
    assert sandbox.io.status(teller.stdio) == 0
    assert told(sandbox.io.output(teller.stdio)) == NOTHING


def test_exec_runs_beside_the_first_process(shared: Sandbox) -> None:
    cat = shared.run("cat")
    shell = shared.exec(cat, "sh", "-c", "echo exec; exit 3")
    assert shared.io.status(shell.stdio) == 3
    assert shared.io.output(shell.stdio) == b"exec\n"
    shared.io.send(cat.stdio)
    assert shared.io.status(cat.stdio) == 0


PROCESS = {"args": ["true"], "stdio": 7, "stderr": 8}


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Runs container ``c1`` with stdio 1; numbers from 7 on are free."""
    sandbox = Sandbox(tmp_path_factory.mktemp("victim"))
    sandbox.run(*SLEEPER)
    yield sandbox
    sandbox.close()


@pytest.mark.parametrize(
    ("code", "order", "text"),
    [
        (Code.NEW_CONTAINER, b"{", "bad JSON"),
        (Code.NEW_CONTAINER, b"[]", "bad JSON"),
        (Code.NEW_CONTAINER, b"", "bad JSON"),
        (Code.NEW_CONTAINER, b'{"id": NaN}', "bad JSON"),
        (Code.NEW_CONTAINER, b"\xff", "bad JSON"),
        (Code.NEW_CONTAINER, {"process": PROCESS}, "'id'"),
        (Code.NEW_CONTAINER, {"id": "new"}, "'process'"),
        (Code.NEW_CONTAINER, container("c1", ["true"], 9), "exists"),
        (Code.NEW_CONTAINER, container("new", ["true"], 0), "'stdio'"),
        (Code.NEW_CONTAINER, container("new", ["true"], 2**64), "'stdio'"),
        (Code.NEW_CONTAINER, {"id": "new", "process": {"args": ["true"]}}, "'stdio'"),
        (Code.NEW_CONTAINER, container("new", ["true"], 7, -1), "'stderr'"),
        (Code.NEW_CONTAINER, container("new", ["true"], 7, 8, terminal=True), "terminal"),
        (Code.NEW_CONTAINER, container("new", ["true"], 7, terminal=1), "'terminal'"),
        (Code.NEW_CONTAINER, container("new", [], 7), "'args'"),
        (Code.NEW_CONTAINER, container("new", ["no-such-program"], 10), "No such file"),
        (Code.NEW_CONTAINER, container("new", ["a\0b"], 11), "null"),
        (Code.NEW_CONTAINER, container("new", ["true"], 12, workdir="/no/dir"), "No such file"),
        (Code.NEW_CONTAINER, container("new", ["true"], 7, envs=[{"env": "A"}]), "'envs'"),
        (Code.EXEC_CMD, {"container": "none", "process": PROCESS}, "unknown container: none"),
        (Code.EXEC_CMD, {"container": "c1"}, "'process'"),
        (Code.KILL_CONTAINER, {"container": "none", "signal": 9}, "unknown container: none"),
        (Code.KILL_CONTAINER, {"container": "c1", "signal": 0}, "'signal'"),
        (Code.KILL_CONTAINER, {"container": "c1"}, "'signal'"),
        (Code.REMOVE_CONTAINER, {"container": "none"}, "unknown container: none"),
        (Code.REMOVE_CONTAINER, {"container": "c1"}, "running"),
        (Code.PS_CONTAINER, {"container": "none"}, "unknown container: none"),
        (Code.WIN_SIZE, {"seq": 99, "row": 1, "column": 1}, "99"),
        (Code.WIN_SIZE, {"seq": 1, "row": 1, "column": 1}, "no terminal"),
        (Code.WIN_SIZE, {"seq": 1, "row": 70000, "column": 1}, "'row'"),
        (Code.WIN_SIZE, {"container": "c1", "process": "x", "row": 1, "column": 1}, "process: x"),
        (Code.START_POD, b"not JSON", "bad JSON"),
    ],
)
def test_refused_with_a_reason(victim: Sandbox, code: int, order: object, text: str) -> None:
    assert text in victim.control.refused(code, order)


def test_nothing_is_executed_in_a_container_that_has_ended(shared: Sandbox) -> None:
    ended = shared.run("true")
    assert shared.io.status(ended.stdio) == 0
    process = {**PROCESS, "stdio": 1003, "stderr": 1004}
    order = {"container": ended.container, "process": process}
    assert "not running" in shared.control.refused(Code.EXEC_CMD, order)
    kill = {"container": ended.container, "signal": 9}
    assert "not running" in shared.control.refused(Code.KILL_CONTAINER, kill)


def test_a_removed_container_can_be_made_again(shared: Sandbox) -> None:
    for stdio in (1005, 1007):
        order = container("again", ["true"], stdio, stdio + 1)
        shared.control.call(Code.NEW_CONTAINER, order)
        assert shared.io.status(stdio) == 0
        shared.control.call(Code.REMOVE_CONTAINER, {"container": "again"})


def test_kill_reaches_the_first_process_alone(shared: Sandbox) -> None:
    script = "trap 'echo got it' USR1; echo up; while :; do read x; done"
    shell = shared.run("sh", "-c", script)
    cat = shared.exec(shell, "cat")
    shared.io.read_until(shell.stdio, b"up")
    shared.kill(shell, signal.SIGUSR1)
    shared.io.send(shell.stdio, b"\n")
    shared.io.read_until(shell.stdio, b"got it")
    shared.io.send(cat.stdio, b"still here")
    shared.io.read_until(cat.stdio, b"still here")


def test_kill_reaches_all_processes(shared: Sandbox) -> None:
    shell = shared.run("sh", "-c", "trap '' USR1; echo up; read x")
    shared.io.read_until(shell.stdio, b"up")
    sleeper = shared.exec(shell, *SLEEPER)
    parent = shared.exec(shell, "sh", "-c", "sleep 1000 & echo forked; wait; exit 5")
    shared.io.read_until(parent.stdio, b"forked")
    shared.kill(shell, signal.SIGUSR1, all=True)
    assert shared.io.status(sleeper.stdio) == 128 + signal.SIGUSR1
    assert shared.io.status(parent.stdio) == 128 + signal.SIGUSR1
    shared.io.send(shell.stdio)
    assert shared.io.status(shell.stdio) == 1


def test_ps_lists_what_runs_in_the_container_only(shared: Sandbox) -> None:
    shell = shared.run("sh", "-c", "sleep 1000 & echo $$ $!; wait")
    shared.run("cat")
    shared.io.read_until(shell.stdio, b"\n")
    first, forked = map(int, shared.io.output(shell.stdio).split())
    entries = {entry["pid"]: entry for entry in shared.processes(shell)}
    assert entries.keys() == {first, forked}
    assert entries[forked]["parent"] == first


def test_a_container_ends_with_its_first_process(shared: Sandbox) -> None:
    cat = shared.run("cat")
    sleeper = shared.exec(cat, *SLEEPER)
    shared.io.send(cat.stdio)
    assert shared.io.status(cat.stdio) == 0
    assert shared.io.status(sleeper.stdio) == 137
