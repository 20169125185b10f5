from __future__ import annotations

import pytest

from ccproxy_lib.errors import UsageError
from ccproxy_lib.front.pprof_flags import PPROF_FLAGS, parse_pprof
from ccproxy_lib.front.settings import Pprof


def parse(**given):
    flags = {f"--{name}": None for name in PPROF_FLAGS}
    flags |= {f"--{name.replace('_', '-')}": value for name, value in given.items()}
    return parse_pprof(flags)


def test_only_pprof_itself_starts_it() -> None:
    assert parse() is None
    assert parse(pprof_port="1", pprof_host="h", pprof_socket="/s") is None


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, Pprof(None, "localhost", 6060)),
        ({"pprof_host": "10.0.0.1", "pprof_port": "0"}, Pprof(None, "10.0.0.1", 0)),
        ({"pprof_host": "::1"}, Pprof(None, "::1", 6060)),
        ({"pprof_socket": "/a/b"}, Pprof("/a/b", "localhost", 6060)),
        ({"pprof_host": "unix:///a/b"}, Pprof("/a/b", "unix:///a/b", 6060)),
    ],
)
def test_the_other_flags_say_where(given, wanted) -> None:
    assert parse(pprof=True, **given) == wanted


@pytest.mark.parametrize("port", ["-1", "65536", "x", "6060.0", "", " 1", "٣", "0x10", "9" * 5000])
def test_a_bad_port_is_refused(port) -> None:
    if not port:
        assert parse(pprof=True, pprof_port=port).port == 6060
        return
    with pytest.raises(UsageError, match="-pprof-port needs a number from 0 to 65535, got"):
        parse(pprof_port=port)


def test_another_scheme_is_refused() -> None:
    with pytest.raises(UsageError, match="not the address of a Unix socket"):
        parse(pprof=True, pprof_host="http://x")
