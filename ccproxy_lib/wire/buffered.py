"""The common part of parsers for short messages: collect, and cut what is complete."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Generic, TypeVar

Message = TypeVar("Message")


class BufferedParser(ABC, Generic[Message]):
    """Cuts a byte stream into messages, whatever the chunks it comes in.

    A subclass says how long a header is, and from it how long the message is,
    before anything is kept for that.
    """

    __slots__ = ("_buffer", "_max_message_bytes", "completed")

    HEADER_BYTES: int

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._buffer = bytearray()
        # How many messages have come whole.
        self.completed = 0

    @property
    def midway(self) -> bool:
        """Whether part of a message has come and the rest has not."""
        return bool(self._buffer)

    def feed(self, data: bytes | memoryview) -> Iterator[Message]:
        """Yield the messages that ``data`` completes.

        Fed again before that has come to its end, it goes on in the new iterator.
        Raises ProtocolError for a header that is no message's.
        """
        buffer = self._buffer
        if not buffer and len(data) >= self.HEADER_BYTES and self._length(data) == len(data):
            # Nearly always one message comes, and comes whole.
            self.completed += 1
            yield self._message(bytes(data))
            return
        buffer += data
        while len(buffer) >= self.HEADER_BYTES:
            length = self._length(buffer)
            if len(buffer) < length:
                break
            raw = bytes(buffer[:length])
            del buffer[:length]
            self.completed += 1
            yield self._message(raw)

    @abstractmethod
    def _length(self, buffer: bytes | bytearray | memoryview) -> int:
        """Return the whole message's length from its header; ProtocolError if that is none."""
        ...

    @abstractmethod
    def _message(self, raw: bytes) -> Message:
        """Return the message that ``raw`` is."""
        ...
