"""Imports only go down, and floors 1 and 2 do no I/O: read off the source, nothing is run."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ccproxy_lib

PACKAGE = Path(ccproxy_lib.__file__).parent

# What each floor may import of the package.  errors and version are open to all.
ALLOWED = {
    "wire": {"wire"},
    "state": {"wire", "state"},
    "host": {"wire", "state", "host"},
    "service": {"wire", "state", "host", "service"},
    "client": {"wire", "client"},
}
# Everything that can wait, do I/O or print.  The time may be read.
IMPURE = {
    *("asyncio", "concurrent", "ctypes", "fcntl", "fileinput", "gevent", "glob", "greenlet"),
    *("http", "io", "logging", "mmap", "multiprocessing", "os", "pathlib", "posix", "pty"),
    *("select", "selectors", "shutil", "signal", "socket", "socketserver", "ssl", "subprocess"),
    *("sys", "syslog", "tempfile", "termios", "threading", "tty", "urllib"),
}


def sources(floor: str) -> list[Path]:
    return sorted((PACKAGE / floor).rglob("*.py"))


def imports(source: str) -> set[str]:
    """Return the dotted names that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import hides which floor it goes to"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own(names: set[str]) -> set[str]:
    """Return the first part behind ``ccproxy_lib.`` of the imports that stay in the package."""
    return {name.split(".")[1] for name in names if name.startswith("ccproxy_lib.")}


def foreign(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names} - {"ccproxy_lib"}


@pytest.mark.parametrize("floor", ALLOWED)
def test_a_floor_imports_only_itself_and_what_is_below(floor: str) -> None:
    assert len(sources(floor)) > 1
    for path in sources(floor):
        upward = own(imports(path.read_text())) - ALLOWED[floor] - {"errors", "version"}
        assert not upward, f"{path} imports {upward}"


@pytest.mark.parametrize("floor", ["wire", "state"])
def test_wire_and_state_do_no_io(floor: str) -> None:
    for path in sources(floor):
        impure = foreign(imports(path.read_text())) & IMPURE
        assert not impure, f"{path} imports {impure}"


@pytest.mark.parametrize("floor", ["wire", "state"])
def test_wire_and_state_call_neither_open_nor_print(floor: str) -> None:
    for path in sources(floor):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if type(node) is ast.Call]
        named = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
        assert not named & {"open", "print", "input", "__import__"}, path


def test_the_client_works_without_gevent() -> None:
    for path in sources("client"):
        assert not foreign(imports(path.read_text())) & {"gevent", "greenlet"}, path


def test_errors_depend_on_nothing() -> None:
    assert imports((PACKAGE / "errors.py").read_text()) == {"__future__.annotations"}


def test_only_one_module_knows_a_json_library() -> None:
    for floor in ("wire", "state"):
        for path in sources(floor):
            if path.name != "json.py":
                assert not foreign(imports(path.read_text())) & {"json", "ujson"}, path


def test_an_import_is_found_wherever_it_stands() -> None:
    source = """
import os.path
from ccproxy_lib import errors
from ccproxy_lib.service.server import Server
def late():
    if True:
        from gevent import spawn
"""
    assert own(imports(source)) == {"errors", "service"}
    assert foreign(imports(source)) == {"os", "gevent"}
