"""A client's connection to the proxy: commands out, answers and other frames in.

Nobody reads in the background: **whoever waits reads**.  One of the threads that
wait for something takes the socket, hands each frame that comes to whom it is
for, and wakes the others; when it has what it waited for, another one goes on.
So there is no thread to start, to stop or to leak, an idle client costs nothing,
and what nobody waits for stays in the socket, where the proxy notices it.

Where gevent has patched sockets and threads, greenlets may do what threads do
here.  Where it has patched sockets alone, a connection is for one greenlet.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from ccproxy_lib.client.address import DEFAULT_PATH, path_of
from ccproxy_lib.client.deadline import Deadline, held
from ccproxy_lib.client.decoding import decode
from ccproxy_lib.errors import ProtocolError, ProxyError, ProxyLost, ProxyTimeout
from ccproxy_lib.wire import frames
from ccproxy_lib.wire.frames import Frame, FrameParser, Type

# Longer than the proxy itself may take: its own errors say more than ours.
DEFAULT_TIMEOUT_S = 90.0
MAX_PAYLOAD_BYTES = 64 << 20
READ_BYTES = 256 * 1024
# How long to look for the reason when the proxy takes no more.
LAST_WORDS_S = 1.0
# A listener with a full queue gives no sign when there is room again.
QUEUE_RETRY_S = 0.01

# Waits until the descriptor, if any, can be read, but that many seconds at most.
Attend = Callable[["int | None", float], object]

ConnectionT = TypeVar("ConnectionT", bound="Connection")
T = TypeVar("T")


class Call:
    """A command that is on its way; ``answer`` is its response once that has come."""

    __slots__ = ("answer", "on_answer", "opcode")

    def __init__(self, opcode: int, on_answer: Callable[[Call], None] | None = None) -> None:
        self.opcode = opcode
        self.answer: Frame | None = None
        self.on_answer = on_answer

    def result(self) -> bytes:
        """Return the answer's payload; ProxyError with the proxy's text if it is a refusal."""
        assert self.answer is not None
        payload = bytes(self.answer.payload)
        if self.answer.error:
            raise ProxyError(_message(payload))
        return payload


class Connection:
    """One connection, which any number of threads may use at once.

    ``address`` is a path or a ``unix://`` URI, ``timeout_s`` how many seconds a
    call may take that is not told otherwise, None for as long as it takes.

    ``take`` gets the frames that answer nothing, and ``room`` says whether it
    has room for more; both are called under the lock of ``turn``, which
    connections that follow each other may share.

    ``attend``, if given, does all waiting for the proxy in the place of the socket
    and of sleep: it waits until the descriptor, if any, can be read, but that many
    seconds at most.  What it raises ends the wait; so a program can look after
    signals, say.

    Raises ProxyLost if nobody listens there, and ProxyTimeout if its queue stays
    full.  It is a context manager that
    closes the connection.
    """

    def __init__(
        self,
        address: str = DEFAULT_PATH,
        timeout_s: float | None = DEFAULT_TIMEOUT_S,
        *,
        take: Callable[[Frame], None] | None = None,
        room: Callable[[], bool] | None = None,
        turn: threading.Condition | None = None,
        attend: Attend | None = None,
    ) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self._take = take or (lambda frame: None)
        self._room = room or (lambda: True)
        self._turn = turn or threading.Condition()
        self._attend = attend
        self._sending = threading.Lock()
        self._parser = FrameParser(MAX_PAYLOAD_BYTES)
        self._calls: deque[Call] = deque()
        self._frames: deque[Frame] = deque()
        self._reading_thread = 0
        self._pid = os.getpid()
        self._lost = ""
        self.closed = False
        # One for each direction, as a timeout belongs to the object.
        self._reader = _connect(path_of(address), Deadline(timeout_s), attend)
        self._writer = self._reader.dup()

    def __enter__(self: ConnectionT) -> ConnectionT:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the socket's descriptor, for poll."""
        return self._reader.fileno()

    def close(self) -> None:
        """Close the connection; whoever waits for something on it gets ProxyLost.

        In a child process after a fork this closes the child's descriptors alone.
        """
        with self._turn:
            self.closed = True
            self._lose("the connection is closed")
            forked = os.getpid() != self._pid
            if not forked:
                with suppress(OSError):  # it may be over already
                    self._reader.shutdown(socket.SHUT_RDWR)
            # Poll would go on with the next descriptor of the same number.
            if forked or not self._reading_thread:
                self._reader.close()
        self._close_writer()

    def _close_writer(self) -> None:
        """Close our way out unless a thread sends, which then does this behind that."""
        if self._sending.acquire(blocking=False):
            self._writer.close()
            self._sending.release()

    # ---- commands

    def call(self, command: int, payload: bytes = b"", timeout_s: float | None = None) -> bytes:
        """Send a command and return its answer's payload.

        ``timeout_s`` overrides the connection's.  Raises ProxyError with the
        proxy's text if it refuses, ProxyTimeout and ProxyLost.  Behind a
        timeout the connection lives, and a late answer goes nowhere.
        """
        deadline = self.deadline(timeout_s)
        call = self.begin(command, payload, deadline)
        self.wait(lambda: call.answer is not None, deadline)
        return call.result()

    def begin(
        self,
        command: int,
        payload: bytes,
        deadline: Deadline,
        on_answer: Callable[[Call], None] | None = None,
    ) -> Call:
        """Send a command without waiting for its answer.

        ``on_answer`` is called in the thread that reads the answer.
        """
        call = Call(command, on_answer)
        with self._send_turn(deadline):
            self._calls.append(call)
            try:
                self._send(frames.encode(Type.COMMAND, command, payload), deadline)
            except ProxyTimeout:
                self._calls.remove(call)  # nothing of it has been sent
                raise
        return call

    def send(
        self, type: Type, opcode: int, payload: bytes = b"", deadline: Deadline | None = None
    ) -> None:
        """Send a frame that is not answered; if this raises, it was not sent as a whole."""
        deadline = deadline or Deadline(None)
        with self._send_turn(deadline):
            self._send(frames.encode(type, opcode, payload), deadline)

    def deadline(self, timeout_s: float | None) -> Deadline:
        """Return the deadline of a call that begins now."""
        return Deadline(self.timeout_s if timeout_s is None else timeout_s)

    # ---- waiting

    def wait(self, done: Callable[[], T], deadline: Deadline, eager: bool = True) -> T:
        """Wait until ``done()`` returns something true, and return that; read meanwhile.

        ``done`` is called under the lock.  Unless ``eager``, nothing is read while
        there is no room.  Raises ProxyTimeout and ProxyLost.
        """
        if self._reading_thread == threading.get_ident():
            raise RuntimeError(
                "a signal handler or greenlet must not wait where its own thread reads:"
                " use Signals, or patch threads as well"
            )
        with self._turn:
            self._deliver()
            while not (result := done()):
                if self._lost:
                    raise ProxyLost(self._lost)
                if deadline.passed():
                    raise ProxyTimeout(f"the proxy did not answer within {deadline.timeout_s:g} s")
                if self._reading_thread or not (eager or self._room()):
                    self._turn.wait(deadline.left_s())
                else:
                    self._read(deadline.left_s())
                self._deliver()
            return result

    def read_at_hand(self) -> None:
        """Take what has come, without waiting; ProxyLost at the connection's end."""
        with self._turn:
            if not self._lost and not self._reading_thread:
                self._read(0.0)
            self._deliver()
            if self._lost:
                raise ProxyLost(self._lost)

    def _read(self, patience_s: float) -> None:
        """Read once; others may have the lock meanwhile."""
        self._reading_thread = threading.get_ident()
        self._turn.release()
        try:
            if self._attend and patience_s:
                self._attend(self._reader.fileno(), patience_s)
                patience_s = 0.0
            data, end = _receive(self._reader, patience_s)
        finally:
            self._turn.acquire()
            self._reading_thread = 0
            if self.closed:
                self._reader.close()
            self._turn.notify_all()
        try:
            self._frames.extend(map(_with_bytes, self._parser.feed(data)))
        except ProtocolError as error:
            self._lose(f"the proxy sent what is no frame: {error}")
        if end:
            if (rest := self._parser.abandon()) and rest.type == Type.STREAM:
                self._frames.append(rest)
            self._lose(end)

    def _deliver(self) -> None:
        """Hand out what was read; what a callback raises leaves the rest to who comes next."""
        try:
            while self._frames:
                self._dispatch(self._frames.popleft())
        except ProxyError as error:
            self._frames.clear()
            self._lose(str(error))

    def _dispatch(self, frame: Frame) -> None:
        if frame.type != Type.RESPONSE:
            self._take(frame)
            return
        # Answers come in the order of the commands.
        if not self._calls or self._calls[0].opcode != frame.opcode:
            raise ProxyError(f"the proxy sent an answer to no command (opcode {frame.opcode})")
        call = self._calls.popleft()
        call.answer = frame
        if call.on_answer:
            call.on_answer(call)

    def _lose(self, reason: str) -> None:
        self._lost = self._lost or reason
        self._turn.notify_all()

    # ---- sending

    @contextmanager
    def _send_turn(self, deadline: Deadline) -> Iterator[None]:
        try:
            with held(self._sending, deadline, _not_taken):
                yield
        finally:
            if self.closed:
                self._close_writer()

    def _send(self, frame: bytes, deadline: Deadline) -> None:
        if self._lost:
            raise ProxyLost(self._lost)
        rest = memoryview(frame)
        try:
            while rest:
                self._writer.settimeout(deadline.left_s())
                try:
                    rest = rest[self._writer.send(rest, socket.MSG_NOSIGNAL) :]
                except TimeoutError:
                    if deadline.passed():
                        raise self._stuck(deadline, midway=len(rest) < len(frame)) from None
        except OSError as error:
            raise self._refused(error) from None

    def _stuck(self, deadline: Deadline, midway: bool) -> ProxyError:
        error = _not_taken(deadline)
        if not midway:
            return error
        with self._turn:  # half a frame spoils all that comes behind it
            self._lose(str(error))
        return ProxyLost(str(error))

    def _refused(self, error: OSError) -> ProxyLost:
        """Read what the proxy has said before it went, so that nothing of it is lost."""
        self._attend = None  # nothing may end that before its time
        with suppress(ProxyError):
            self.wait(lambda: False, Deadline(LAST_WORDS_S))
        with self._turn:
            self._lose(f"the connection to the proxy is lost: {error.strerror}")
        return ProxyLost(self._lost)


def _connect(path: str, deadline: Deadline, attend: Attend | None) -> socket.socket:
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(deadline.left_s())
            connection.connect(path)
            return connection
        except BlockingIOError:
            connection.close()
        except OSError as error:
            connection.close()
            reason = error.strerror or str(error)
            raise ProxyLost(f"cannot connect to the proxy at {path}: {reason}") from None
        if deadline.passed():
            raise _not_taken(deadline)
        if attend:
            attend(None, QUEUE_RETRY_S)
        else:
            time.sleep(QUEUE_RETRY_S)


def _with_bytes(frame: Frame) -> Frame:
    return frame._replace(payload=bytes(frame.payload))


def _receive(source: socket.socket, patience_s: float) -> tuple[bytes, str]:
    """Return what has come, maybe nothing, and why there will be no more, if so."""
    try:
        source.settimeout(patience_s)
        data = source.recv(READ_BYTES)
    except (TimeoutError, BlockingIOError):
        return b"", ""
    except OSError as error:
        return b"", f"the connection to the proxy is lost: {error.strerror}"
    return data, "" if data else "the proxy has closed the connection"


def _not_taken(deadline: Deadline) -> ProxyTimeout:
    return ProxyTimeout(f"the proxy took nothing within {deadline.timeout_s:g} s")


def _message(payload: bytes) -> str:
    try:
        return str(decode(payload)["msg"])
    except (ValueError, LookupError, TypeError):
        return "the proxy refuses without a reason"
