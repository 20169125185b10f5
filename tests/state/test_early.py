"""What a shim sends before its process runs waits in order, and signals not for ever."""

from __future__ import annotations

from collections.abc import Callable

from ccproxy_lib.state.early import Early, EarlySignal
from ccproxy_lib.wire.payloads import Signal


class Shim:
    """Notes how its signals are answered."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, str]] = []

    def signal(self, number: int, deadline_s: float) -> EarlySignal:
        answer: Callable[[str], None] = lambda text: self.answers.append((number, text))  # noqa: E731
        return EarlySignal(Signal(number, 0, 0), deadline_s, answer)


def test_nothing_waits_at_first() -> None:
    early = Early()
    assert not early.items
    assert early.stdin_bytes == 0
    assert early.next_deadline_s() is None
    assert early.take_expired(1e9) == []


def test_stdin_and_signals_keep_their_order() -> None:
    early, hup = Early(), Shim().signal(1, 30.0)
    items = [b"before", hup, b"after", b""]
    for item in items:
        early.push(item)
    seen = []
    while early.items:
        seen.append(early.items[0])
        early.pop()
    assert seen == items


def test_bytes_of_stdin_are_counted_until_they_are_taken() -> None:
    early = Early()
    early.push(b"12345")
    early.push(Shim().signal(1, 30.0))
    early.push(b"123")
    early.push(b"")
    counts = [early.stdin_bytes]
    while early.items:
        early.pop()
        counts.append(early.stdin_bytes)
    assert counts == [8, 3, 3, 0, 0]


def test_the_next_deadline_is_that_of_the_first_signal() -> None:
    early, shim = Early(), Shim()
    early.push(b"stdin waits for as long as it takes")
    assert early.next_deadline_s() is None
    early.push(shim.signal(1, 10.0))
    early.push(shim.signal(2, 20.0))
    assert early.next_deadline_s() == 10.0


def test_signals_expire_at_their_deadline_and_stdin_does_not() -> None:
    early, shim = Early(), Shim()
    hup, interrupt, usr1 = shim.signal(1, 10.0), shim.signal(2, 20.0), shim.signal(10, 20.5)
    for item in (b"a", hup, b"b", interrupt, usr1):
        early.push(item)
    assert early.take_expired(9.999) == []
    assert early.take_expired(20.0) == [hup, interrupt]
    assert list(early.items) == [b"a", b"b", usr1]
    assert early.next_deadline_s() == 20.5
    assert early.stdin_bytes == 2
    assert shim.answers == [], "the caller words the answer"


def test_equal_signals_expire_one_by_one() -> None:
    early, shim = Early(), Shim()
    first = shim.signal(10, 10.0)
    again = EarlySignal(first.signal, 10.0, first.answer)
    early.push(first)
    early.push(again)
    assert early.take_expired(10.0) == [first, again]
    assert not early.items


def test_cancelling_answers_each_signal_once_and_drops_stdin() -> None:
    early, shim = Early(), Shim()
    for item in (b"stdin", shim.signal(1, 10.0), b"", shim.signal(10, 10.0)):
        early.push(item)
    early.cancel("the VM is gone")
    assert shim.answers == [(1, "the VM is gone"), (10, "the VM is gone")]
    assert not early.items and early.stdin_bytes == 0
    early.cancel("again")
    assert len(shim.answers) == 2


def test_what_an_answer_pushes_while_all_is_cancelled_is_kept() -> None:
    early = Early()
    early.push(EarlySignal(Signal(1, 0, 0), 10.0, lambda text: early.push(b"new")))
    early.cancel("reason")
    assert list(early.items) == [b"new"]
    assert early.stdin_bytes == 3


def test_whoever_waits_for_room_is_told_when_there_is_more() -> None:
    early, told = Early(), []
    early.push(b"a")
    early.push(b"b")
    early.on_taken = lambda: told.append(early.stdin_bytes)
    early.pop()
    assert told == [1]
    early.cancel("reason")
    assert told == [1, 0]
