"""The shim's side of a session: streams and signals in, streams and the exit status out."""

from __future__ import annotations

import io
import json
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from ccproxy_lib.client.address import DEFAULT_PATH
from ccproxy_lib.client.connection import DEFAULT_TIMEOUT_S, Attend, Call, Connection
from ccproxy_lib.client.deadline import Deadline, held
from ccproxy_lib.client.secret import hidden
from ccproxy_lib.client.streams import OutputReader, Pile, StdinWriter
from ccproxy_lib.errors import ProxyError, ProxyLost, ProxyTimeout
from ccproxy_lib.wire.frames import Command, Frame, Notification, Stream, Type

T = TypeVar("T")

# Small enough to fit wherever the kernel calls a socket writable.
STDIN_BYTES = 32 * 1024
# A stream that nobody reads stops the other one at this size.
PILE_BYTES = 1 << 20
DEFAULT_RECONNECT_S = 10.0
RETRY_S = 0.1
# A connection that is lost sooner was no way back.
SETTLED_S = 1.0
# The end of our last connection may not have got about yet.
STILL_CLAIMED = "token already claimed"


class Shim:
    """The shim of one session, from ConnectShim on, for any number of threads.

    ``stdin`` is a raw binary file to write to, ``stdout`` and ``stderr`` are
    buffered ones to read from.  Read both if the process may write to both: of
    what is not read, 1 MiB is kept, and then the other stream waits, too.

    When the connection is lost, whatever is done next connects again with the
    token, for ``reconnect_s`` seconds; 0 is not at all.  What is asked for while
    there is no connection waits for that.

    - Output comes once and in its order.  It is lost if it was on its way to
      a program that has gone.
    - Stdin is never sent twice.  What the proxy had not read yet when the
      connection ended is lost.
    - A signal whose answer is outstanding may have been delivered or not: its
      call raises ProxyLost, and it is not sent again.  The last size is.
    - The exit status comes in any case, as long as the proxy lives.

    ``timeout_s`` is for calls that are not told otherwise, in seconds.  ``attend``
    waits as for any Connection, also between attempts to connect.  ``sink``, if
    given, gets all output, as its stream's opcode and bytes in their order, instead
    of the two files; it must not call the shim, and what it raises passes through
    what was waited for.  ``tell`` gets a text when the connection
    is lost and when there is another one.  Raises
    ProxyLost if the proxy is not there, ProxyError if it does not know the token
    or another shim holds that.  It is a context manager that closes itself.
    """

    def __init__(
        self,
        address: str = DEFAULT_PATH,
        token: str = "",
        *,
        timeout_s: float | None = DEFAULT_TIMEOUT_S,
        reconnect_s: float = DEFAULT_RECONNECT_S,
        attend: Attend | None = None,
        sink: Callable[[int, bytes], None] | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.exit_status: int | None = None
        self._sink = sink
        self._tell = tell
        self._address = address
        self._token = token
        self._timeout_s = timeout_s
        self._reconnect_s = reconnect_s
        self._attend = attend
        self._pause = partial(attend, None) if attend else time.sleep
        self._piles = {Stream.STDOUT: Pile(), Stream.STDERR: Pile()}
        self._size: tuple[int, int] | None = None
        self._closed = False
        self._away = False
        self._settled = Deadline(0.0)
        self._patience = Deadline(0.0)
        self._restoring = threading.Lock()
        self._turn = threading.Condition()
        self.stdin = StdinWriter(self.send_stdin)
        self.stdout = self._file(Stream.STDOUT)
        self.stderr = self._file(Stream.STDERR)
        self._connection = self._connect(timeout_s)

    def __enter__(self) -> Shim:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Return the descriptor of the present connection, for poll."""
        return self._connection.fileno()

    def close(self) -> None:
        """Close the connection.

        Unless its process has ended, the session stays, and another shim may
        take it up with the token.
        """
        if self.exit_status is None:
            self._close()
        else:
            self.disconnect()

    def disconnect(self) -> None:
        """Let the session go: the process runs on, and its output is dropped."""
        with suppress(ProxyError):
            self._connection.send(
                Type.COMMAND, Command.DISCONNECT_SHIM, deadline=Deadline(self._timeout_s)
            )
        self._close()

    def _close(self) -> None:
        self._closed = True
        self._connection.close()

    # ---- the process

    def signal(self, number: int, *, timeout_s: float | None = None) -> None:
        """Send a signal, 0 to 30, and wait until it is delivered.

        A process that does not run yet gets it when it does.  For SIGWINCH see
        :meth:`resize`.
        """
        self._call_signal({"signalNumber": int(number)}, timeout_s)

    def resize(self, columns: int, rows: int, *, timeout_s: float | None = None) -> None:
        """Tell the process the terminal's size, each over 0."""
        self._size = (columns, rows)
        self._call_signal(_resize(columns, rows), timeout_s)

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the process's end and return its exit status.

        ``timeout_s`` is in seconds, None for as long as it takes; ProxyTimeout
        when it is over.  As the status comes behind all output, somebody must
        read that meanwhile if it may be over 1 MiB.
        """
        self._wait_for_end(Deadline(timeout_s), eager=False)
        assert self.exit_status is not None
        return self.exit_status

    def communicate(
        self, stdin: bytes = b"", timeout_s: float | None = None
    ) -> tuple[bytes, bytes, int]:
        """Send ``stdin`` and its end; return all of stdout, of stderr, and the exit status."""

        def feed() -> None:
            with suppress(ProxyError, BrokenPipeError):
                self.stdin.write(stdin)
                self.stdin.close()

        threading.Thread(target=feed, name="ccproxy stdin", daemon=True).start()
        self._wait_for_end(Deadline(timeout_s), eager=True)
        assert self.exit_status is not None
        out, err = (self._piles[each] for each in (Stream.STDOUT, Stream.STDERR))
        with self._turn:
            return out.take_all(), err.take_all(), self.exit_status

    # ---- for those who wait by themselves, with poll

    def read_at_hand(self) -> None:
        """Take what has come, without waiting."""
        self._lasting(lambda connection: connection.read_at_hand(), Deadline(None))

    def send_stdin(self, data: bytes | memoryview) -> None:
        """Send stdin; empty data closes it.  BrokenPipeError if the process has ended."""
        view = memoryview(data)
        for start in range(0, max(len(view), 1), STDIN_BYTES):
            self._send_stdin(bytes(view[start : start + STDIN_BYTES]))

    def post_signal(self, number: int, on_refusal: Callable[[str], None]) -> None:
        """Send a signal without waiting for its answer; ``on_refusal`` gets an error's text."""
        self._post_signal({"signalNumber": int(number)}, on_refusal)

    def post_size(self, columns: int, rows: int, on_refusal: Callable[[str], None]) -> None:
        """Send the terminal's size without waiting for the answer."""
        self._size = (columns, rows)
        self._post_signal(_resize(columns, rows), on_refusal)

    # ---- how it is done

    def _file(self, stream: Stream) -> io.BufferedReader:
        return io.BufferedReader(
            OutputReader(lambda most_bytes: self._read(self._piles[stream], most_bytes))
        )

    def _read(self, pile: Pile, most_bytes: int) -> bytes:
        def taken() -> tuple[bytes] | None:
            if pile.size_bytes or self.exit_status is not None:
                self._turn.notify_all()  # there is room again
                return (pile.take(most_bytes),)
            return None

        def read(connection: Connection) -> tuple[bytes] | None:
            return connection.wait(taken, Deadline(None), eager=False)

        data = self._lasting(read, Deadline(None))
        assert data is not None
        return data[0]

    def _wait_for_end(self, deadline: Deadline, eager: bool) -> None:
        def ended() -> bool:
            return self.exit_status is not None

        self._lasting(lambda connection: connection.wait(ended, deadline, eager), deadline)

    def _send_stdin(self, data: bytes) -> None:
        if self.exit_status is not None:
            raise BrokenPipeError("the process has ended")
        self._lasting(
            lambda connection: connection.send(Type.STREAM, Stream.STDIN, data), Deadline(None)
        )

    def _call_signal(self, members: dict[str, int], timeout_s: float | None) -> None:
        deadline = Deadline(self._timeout_s if timeout_s is None else timeout_s)

        def begin(connection: Connection) -> tuple[Connection, Call]:
            return connection, connection.begin(Command.SIGNAL, _json(members), deadline)

        connection, call = self._lasting(begin, deadline)
        try:
            connection.wait(lambda: call.answer is not None, deadline)
        except ProxyLost as error:
            number = members["signalNumber"]
            raise ProxyLost(f"{error}; signal {number} may have been delivered or not") from None
        with hidden(self._token):
            call.result()

    def _post_signal(self, members: dict[str, int], on_refusal: Callable[[str], None]) -> None:
        def answered(call: Call) -> None:
            try:
                with hidden(self._token):
                    call.result()
            except ProxyError as error:
                on_refusal(str(error))

        self._lasting(
            lambda connection: connection.begin(
                Command.SIGNAL, _json(members), Deadline(None), answered
            ),
            Deadline(None),
        )

    def _take(self, frame: Frame) -> None:
        """Sort in what has come; under the lock."""
        payload = bytes(frame.payload)
        if frame.type == Type.STREAM and frame.opcode in self._piles:
            if self._sink:
                self._sink(frame.opcode, payload)
            else:
                self._piles[Stream(frame.opcode)].put(payload)
        elif frame.type == Type.NOTIFICATION and frame.opcode == Notification.PROCESS_EXITED:
            if not payload:
                raise ProxyError("the proxy sent an empty exit status")
            self.exit_status = payload[0]

    def _room(self) -> bool:
        return all(pile.size_bytes < PILE_BYTES for pile in self._piles.values())

    # ---- connecting, and connecting again

    def _connect(self, timeout_s: float | None) -> Connection:
        connection = Connection(
            self._address,
            timeout_s,
            take=self._take,
            room=self._room,
            turn=self._turn,
            attend=self._attend,
        )
        try:
            with hidden(self._token):
                connection.call(Command.CONNECT_SHIM, _json({"token": self._token}))
        except BaseException:
            connection.close()
            raise
        return connection

    def _lasting(self, operation: Callable[[Connection], T], deadline: Deadline) -> T:
        """Do what may be done again on the next connection if this one is lost."""
        while True:
            connection = self._connection
            try:
                return operation(connection)
            except ProxyLost as error:
                self._restore(connection, error, deadline)

    def _restore(self, lost: Connection, loss: ProxyLost, deadline: Deadline) -> None:
        with held(self._restoring, deadline, _not_back):
            if self._connection is not lost:
                return  # somebody else has done it
            if self._closed or not self._reconnect_s:
                raise loss
            if not self._away:
                self._away = True
                self._tell(f"{loss}; connecting again")
                self._be_patient(loss)
            lost.close()  # all of it: the proxy may have closed one direction alone
            self._connection = self._try_again(loss, deadline)
            self._end_if_closed(loss)
            self._away = False
            self._settled = Deadline(SETTLED_S)
            self._tell("connected again")
        self._resend_size()

    def _be_patient(self, loss: ProxyLost) -> None:
        """Begin to count the time; connections that are lost at once have it in common."""
        if self._settled.passed():
            self._patience = Deadline(self._reconnect_s)
        elif self._patience.passed():
            raise self._no_way_back(loss, "each connection is lost at once")
        else:
            self._pause(RETRY_S)

    def _resend_size(self) -> None:
        if self._size:
            members = _resize(*self._size)
            with suppress(ProxyLost):  # who comes next notices that, and sends it anew
                self._connection.begin(Command.SIGNAL, _json(members), Deadline(None))

    def _try_again(self, loss: ProxyLost, deadline: Deadline) -> Connection:
        while True:
            self._end_if_closed(loss)
            try:
                return self._connect(min(self._patience.left_s(), deadline.left_s()))
            except ProxyError as error:
                reason = str(error)
                passing = isinstance(error, ProxyLost | ProxyTimeout) or STILL_CLAIMED in reason
            if not passing:
                self._reconnect_s = 0.0
                raise ProxyLost(f"{loss}; the session is gone: {reason}")
            if self._patience.passed():
                raise self._no_way_back(loss, reason)
            if deadline.passed():
                raise _not_back(deadline)
            self._pause(RETRY_S)

    def _end_if_closed(self, loss: ProxyLost) -> None:
        """Come back no more if another thread has closed the shim meanwhile."""
        if self._closed:
            self._connection.close()
            raise loss

    def _no_way_back(self, loss: ProxyLost, reason: str) -> ProxyLost:
        return ProxyLost(f"{loss}; no way back within {self._reconnect_s:g} s: {reason}")


def _not_back(deadline: Deadline) -> ProxyTimeout:
    return ProxyTimeout(f"no connection to the proxy within {deadline.timeout_s:g} s")


def _resize(columns: int, rows: int) -> dict[str, int]:
    return {"signalNumber": int(signal.SIGWINCH), "columns": columns, "rows": rows}


def _json(members: dict[str, int] | dict[str, str]) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode()
