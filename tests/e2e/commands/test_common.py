"""What shim, exec and hyper have in common."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from ccproxy_lib.errors import UsageError
from ccproxy_lib.front import exec, hyper, shim
from tests.e2e.commands.tools import error
from tests.e2e.harness import PATIENCE_S, PROGRAM, TOP


@pytest.mark.parametrize("module", [shim, exec, hyper])
def test_help_fits_a_page(module, capsys):
    name = module.__name__.rpartition(".")[2]
    assert module.main([name, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"cc-proxy {name}: ")
    assert len(lines) <= 42
    assert max(map(len, lines)) <= 90


@pytest.mark.parametrize(
    ("module", "arguments", "text"),
    [
        (shim, ("-t", "x"), "the shim needs --container-id"),
        (shim, ("-c", "x"), "the shim needs --token"),
        (shim, ("-c", "x", "-t", "y", "--nope"), "wrong arguments for shim"),
        (shim, ("-c", "x", "-t", "y", "-r", "soon"), "needs a number of seconds, got 'soon'"),
        (exec, (), "wrong arguments for exec"),
        (exec, ("vm",), "wrong arguments for exec"),
        (exec, ("vm", "-t"), "wrong arguments for exec"),
        (exec, ("vm", "-x", "ls"), "wrong arguments for exec"),
        (exec, ("vm", "--env", "=", "ls"), "option --env needs NAME=VALUE, got '='"),
        (hyper, ("vm",), "wrong arguments for hyper"),
        (hyper, ("vm", "ping", "{"), "the data of the command is no JSON"),
        (hyper, ("vm", "ping", "--timeout", "-1"), "needs a number of seconds, got '-1'"),
        (hyper, ("vm", "ping", "--timeout=inf"), "needs a number of seconds, got 'inf'"),
    ],
)
def test_a_wrong_command_line(module, arguments, text):
    with pytest.raises(UsageError, match=re.escape(text)):
        module.main([module.__name__.rpartition(".")[2], *arguments])


@pytest.mark.heavy
def test_a_wrong_command_line_is_status_2_and_one_line(tools):
    result = tools.run("exec", "vm")
    assert (result.returncode, result.stdout) == (2, b"")
    assert error(result) == "wrong arguments for exec: see 'cc-proxy exec --help'"


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("shim", "-c", "x", "-t", "a-token"), 1),
        (("exec", "vm", "ls"), 125),
        (("hyper", "vm", "ping"), 1),
    ],
)
def test_no_proxy_is_there(tools, tmp_path, arguments, status):
    path = str(tmp_path / "none.sock")
    command, *rest = arguments
    result = tools.run(command, "--socket-path", path, *rest)
    assert (result.returncode, result.stdout) == (status, b"")
    assert error(result).endswith(
        f"cannot connect to the proxy at {path}: No such file or directory"
    )


@pytest.mark.heavy
def test_gevent_is_not_imported(tools):
    script = (
        "import sys; from ccproxy_lib.front.entry import main\n"
        f"main(['hyper', 'tools', 'ping', '--socket-path', {tools.path!r}])\n"
        "import ccproxy_lib.front.exec, ccproxy_lib.front.shim\n"
        "print([name for name in sys.modules if name in ('gevent', 'ujson', 'logging')])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=TOP, capture_output=True, check=True
    )
    assert result.stdout == b"[]\n"


@pytest.mark.heavy
def test_a_link_named_cc_shim_is_the_shim(tools, tmp_path):
    link = tmp_path / "cc-shim"
    link.symlink_to(TOP / "ccproxy.py")
    arguments = tools.shim("a-token")[len(PROGRAM) + 1 :]
    result = subprocess.run(
        [sys.executable, link, *arguments], capture_output=True, timeout=PATIENCE_S, check=False
    )
    assert (result.returncode, result.stdout) == (1, b"")
    assert error(result) == "shim of the-container: unknown token: ***"
