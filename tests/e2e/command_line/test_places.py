"""Where the daemon listens."""

from __future__ import annotations

import socket

import pytest

pytestmark = pytest.mark.heavy


def test_socket_path(start, tmp_path):
    path = tmp_path / "new" / "proxy.sock"
    assert start(f"--socket-path={path}", at=path).stop() == 0
    assert path.parent.is_dir()


@pytest.mark.parametrize("scheme", ["unix://", ""])
def test_uri_with_and_without_its_scheme(start, path, scheme):
    assert start("-uri", f"{scheme}{path}", at=path).stop() == 0


@pytest.mark.parametrize("path_first", [True, False])
def test_socket_path_wins_over_uri(start, tmp_path, path, path_first):
    other = tmp_path / "other.sock"
    flags = [("-socket-path", str(path)), ("-uri", f"unix://{other}")]
    first, second = flags if path_first else reversed(flags)
    start(*first, *second, at=path)
    assert not other.exists()


def test_the_last_of_equal_flags_counts(start, tmp_path, path):
    unused = tmp_path / "unused.sock"
    start("-socket-path", str(unused), "-socket-path", str(path), at=path)
    assert not unused.exists()


def test_a_dead_socket_is_replaced(start, path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert start().stop() == 0
