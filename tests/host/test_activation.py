"""Sockets that a service manager passes: taken once, checked, and never removed."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ccproxy_lib.errors import StartError
from ccproxy_lib.host import activation
from ccproxy_lib.host.activation import (
    Passed,
    activated_listener,
    listening_socket,
    take_sockets,
)

VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
Pass = Callable[..., list[int]]


@pytest.fixture
def pass_sockets(monkeypatch: pytest.MonkeyPatch) -> Pass:
    """Pass copies of a socket, one for each name, as a service manager does."""

    def pass_sockets(passed: socket.socket, *names: str, pid: int | None = None) -> list[int]:
        # In one piece, and where nothing else is.
        first = max(map(int, os.listdir("/proc/self/fd"))) + 1
        for descriptor in range(first, first + len(names)):
            os.dup2(passed.fileno(), descriptor)
        monkeypatch.setattr(activation, "FIRST_DESCRIPTOR", first)
        values = (str(os.getpid() if pid is None else pid), str(len(names)), ":".join(names))
        for name, value in zip(VARIABLES, values, strict=True):
            monkeypatch.setenv(name, value)
        return list(range(first, first + len(names)))

    return pass_sockets


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "proxy.sock")


def listening(address: str, family: int = socket.AF_UNIX) -> socket.socket:
    made = socket.socket(family)
    made.bind(address if family == socket.AF_UNIX else (address, 0))
    made.listen()
    return made


def close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


# ---- taking them


@pytest.mark.parametrize(
    ("names", "clients", "debug"),
    [
        (["unknown"], 0, None),
        (["cc-proxy.socket"], 0, None),
        (["metrics"], None, 0),
        (["clients", "metrics"], 0, 1),
        (["pprof", "clients"], 1, 0),
    ],
)
def test_by_purpose(
    path: str, pass_sockets: Pass, names: list[str], clients: int | None, debug: int | None
) -> None:
    with listening(path) as passed:
        descriptors = pass_sockets(passed, *names)
        expected = Passed(
            *(None if index is None else descriptors[index] for index in (clients, debug))
        )
        assert take_sockets() == expected
        close_all(descriptors)


def test_our_children_get_none(path: str, pass_sockets: Pass) -> None:
    with listening(path) as passed:
        descriptors = pass_sockets(passed, "clients", "metrics")
        assert all(map(os.get_inheritable, descriptors))
        take_sockets()
        assert not any(map(os.get_inheritable, descriptors))
        assert not set(VARIABLES) & set(os.environ)
        close_all(descriptors)


def test_those_of_another_process_are_not_ours(path: str, pass_sockets: Pass) -> None:
    with listening(path) as passed:
        descriptors = pass_sockets(passed, "clients", pid=os.getpid() + 1)
        assert take_sockets() == Passed()
        assert not set(VARIABLES) & set(os.environ)
        close_all(descriptors)


@pytest.mark.parametrize("count", ["", "x", "-1", "0", "9" * 5000])
def test_none_are_passed(monkeypatch: pytest.MonkeyPatch, count: str) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", count)
    assert take_sockets() == Passed()


def test_one_without_a_name_is_for_clients(
    path: str, pass_sockets: Pass, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening(path) as passed:
        (descriptor,) = pass_sockets(passed, "")
        monkeypatch.delenv("LISTEN_FDNAMES")
        assert take_sockets() == Passed(clients=descriptor)
        os.close(descriptor)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["a", "b"], "^2 sockets were passed for clients, .* name the other 'metrics'$"),
        (["a", "metrics", "pprof"], "^2 sockets were passed for metrics, "),
    ],
)
def test_too_many(path: str, pass_sockets: Pass, names: list[str], problem: str) -> None:
    with listening(path) as passed:
        descriptors = pass_sockets(passed, *names)
        with pytest.raises(StartError, match=problem):
            take_sockets()
        close_all(descriptors)


def test_one_that_is_not_open(path: str, pass_sockets: Pass) -> None:
    with listening(path) as passed:
        (descriptor,) = pass_sockets(passed, "clients")
        os.close(descriptor)
        with pytest.raises(StartError, match=f"descriptor {descriptor}, but it is not open$"):
            take_sockets()


# ---- the one for clients


def test_clients_are_told_its_real_path_and_it_stays(path: str) -> None:
    with listening(path) as passed:
        with closing(activated_listener(os.dup(passed.fileno()))) as listener:
            assert (listener.path, listener.uri) == (path, f"unix://{path}")
            assert listener.gid == os.stat(path).st_gid
        assert os.path.exists(path)


@pytest.mark.parametrize("spelled", ["proxy.sock", "./proxy.sock", "link/proxy.sock"])
def test_it_may_be_asked_for_as_well(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch, spelled: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    with (
        listening(path) as passed,
        closing(activated_listener(os.dup(passed.fileno()), spelled)) as listener,
    ):
        assert listener.path == path


def test_another_one_was_asked_for(path: str) -> None:
    problem = f"is at {path}, but the daemon was told to serve /x/y: leave one out$"
    with listening(path) as passed, pytest.raises(StartError, match=problem):
        activated_listener(os.dup(passed.fileno()), "/x/y")


def test_one_of_tcp() -> None:
    with (
        listening("127.0.0.1", socket.AF_INET) as passed,
        pytest.raises(StartError, match="that was passed for clients is no Unix socket$"),
    ):
        activated_listener(os.dup(passed.fileno()))


def test_an_abstract_one(path: str) -> None:
    with (
        listening(f"\0{path}") as passed,
        pytest.raises(StartError, match="has no absolute path, which clients could be told$"),
    ):
        activated_listener(os.dup(passed.fileno()))


def test_one_that_does_not_listen(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as passed:
        passed.bind(path)
        with pytest.raises(StartError, match="does not listen$"):
            activated_listener(os.dup(passed.fileno()))


def test_one_for_datagrams(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as passed:
        passed.bind(path)
        with pytest.raises(StartError, match="is no stream socket$"):
            activated_listener(os.dup(passed.fileno()))


def test_what_is_no_socket() -> None:
    with open(os.devnull, "rb") as file, pytest.raises(StartError, match="Socket operation on"):
        activated_listener(os.dup(file.fileno()))


# ---- the one for debugging


def test_it_may_be_of_tcp() -> None:
    with (
        listening("127.0.0.1", socket.AF_INET) as passed,
        listening_socket(os.dup(passed.fileno())) as ours,
    ):
        assert ours.getsockname() == passed.getsockname()
