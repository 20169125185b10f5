"""The sockets under everything: what is left of one when it is closed."""

from __future__ import annotations

import errno
import socket

import gevent
import pytest

from ccproxy_lib.service.stream import Stream


def test_a_closed_stream_is_refused_and_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        stream = Stream(ours)
        with pytest.raises(TimeoutError):
            stream.receive_within(10, 0.001)  # it has been waited for before
        stream.close()
        with gevent.Timeout(5), pytest.raises(OSError) as refusal:
            stream.receive(10)
        assert refusal.value.errno == errno.EBADF
