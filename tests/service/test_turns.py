from __future__ import annotations

import gevent
import gevent.socket

from ccproxy_lib.service.turns import in_turns


def test_all_things_come_in_their_order() -> None:
    assert list(in_turns(range(10), 3)) == list(range(10))


def test_new_input_is_taken_in_between() -> None:
    ours, theirs = gevent.socket.socketpair()
    reader = gevent.spawn(ours.recv, 1)
    for number in in_turns(range(20), 1):
        if number == 10:
            theirs.send(b"x")
    assert reader.dead
    assert reader.value == b"x"
    ours.close()
    theirs.close()


def test_what_is_less_than_a_turn_is_done_at_once() -> None:
    other = gevent.spawn(lambda: None)
    assert list(in_turns(range(3), 4)) == [0, 1, 2]
    assert not other.dead
    other.join()
