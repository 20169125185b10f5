"""The language of the connection target: who does what in a conversation.

An input is what client 0 sends, until a mark says otherwise.  A mark is two bytes
that no UTF-8 has and one that says what follows, or what happens:

    0 1 2 3     what follows is sent by that client, which connects if it has not
    f           what follows is sent on the last descriptor that was passed to the client
                of before; if nothing follows, the descriptor is closed
    i x         what follows is sent by the guest, on its I/O or control channel
    c h r       the client of before closes, closes its sending side, reads all it can
    d           the VM dies

So the plain bytes of a client are a script, too.  Tokens are numbered, so that a
script knows them before they are given out, and the agent's sockets are called
``ctl`` and ``io``.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

MARK = b"\xf5\xf5"

CLIENTS = (b"0", b"1", b"2", b"3")
GUEST_IO = MARK + b"i"
GUEST_CTL = MARK + b"x"
DESCRIPTOR = MARK + b"f"
CLOSE = MARK + b"c"
HALF_CLOSE = MARK + b"h"
READ = MARK + b"r"
DIE = MARK + b"d"


def client(number: int) -> bytes:
    """Return the mark behind which a client sends."""
    return MARK + CLIENTS[number]


def steps(script: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the letter of each mark and what follows it."""
    first, *marked = script.split(MARK)
    yield CLIENTS[0], first
    for piece in marked:
        yield piece[:1], piece[1:]


def token_bytes(number: int, count: int) -> bytes:
    """Return the bytes of a token."""
    return number.to_bytes(count, "big")


def token(number: int) -> str:
    """Return the text of a token."""
    return base64.urlsafe_b64encode(token_bytes(number, 32)).decode()
