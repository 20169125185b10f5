"""How much has gone through: of one session, or summed up."""

from collections.abc import Iterable
from typing import NamedTuple


class Traffic(NamedTuple):
    """Bytes and messages each way, payloads only.

    stdin goes to the agent; output is stdout and stderr, on their way to the shim.
    Output that nobody wants is not counted.
    """

    stdin_bytes: int = 0
    stdin_messages: int = 0
    output_bytes: int = 0
    output_messages: int = 0


def sum_up(all: Iterable[Traffic]) -> Traffic:
    """Return the sum of any number of them."""
    columns = zip(*all, strict=True)
    return Traffic(*map(sum, columns))
