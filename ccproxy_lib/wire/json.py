"""The only place that touches a JSON library, and its sharp edges.

ujson is fast and lenient: it takes NaN, recurses, reads an integer of any
length and reports errors of several classes.  What leaves this module is a
PayloadError with one sentence, or a plain Python value.

The proxy must hand JSON on as the client wrote it, so :func:`members` finds
where the members of an object lie in the text, and the text between is never
made anew.
"""

import json as stdlib_json
import re
from itertools import accumulate
from typing import Any, NamedTuple

import ujson

from ccproxy_lib.errors import PayloadError

MAX_DEPTH = 100

_BLANK = re.compile(r"[ \t\n\r]*")
# One of some characters, with the blanks around it.
_ONE_OF = {
    characters: re.compile(rf"[ \t\n\r]*([{characters}])[ \t\n\r]*")
    for characters in ("{", ":", ",}")
}
# A member's name up to its value, unless there are escapes in it.
_PLAIN_NAME = re.compile(r'"([^"\\\x00-\x1f]*)"[ \t\n\r]*:[ \t\n\r]*')
# How brackets pair up is found by three passes in C: a mebibyte of them holds
# nobody up.  With escapes removed a string ends at the next quote, or never.
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_STRING = re.compile(rb'"[^"]*"?')
_BRACKET_KINDS = bytes.maketrans(b"[{]}", b"\x00\x00\x01\x01")
_OTHER_BYTES = bytes(set(range(256)) - set(b"[{]}"))
_DEPTH_STEPS = (1, -1)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


# Numbers stay text: their values are never needed, and a number of a million
# digits would take for ever to convert.
_SCANNER = stdlib_json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse_constant)


def dumps(value: Any) -> bytes:
    """Return compact JSON, members in the order given."""
    # ASCII only: a lone surrogate that a client sent can go back in no other way.
    return ujson.dumps(value, escape_forward_slashes=False).encode()


def parse_object(payload: bytes | memoryview) -> dict[str, Any]:
    """Return the members of a JSON object, their names in lower case.

    Clients written in Go match names without regard to case, so the proxy does,
    too; of names that differ only in case the last one counts.  An empty payload
    is an empty object.  Raises PayloadError for anything else.
    """
    if not payload:
        return {}
    raw = bytes(payload)
    check_depth(raw)
    try:
        value = ujson.loads(raw)
    except (ValueError, OverflowError, RecursionError) as error:
        raise PayloadError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise PayloadError("the payload must be a JSON object")
    return {fold(name): member for name, member in value.items()}


def fold(name: str) -> str:
    """Return a name in lower case, as agents and clients in Go see it.

    To them the long s is an s, so a member that hides behind one must be found.
    """
    return name.lower().replace("\u017f", "s")


def check_depth(payload: bytes | memoryview, limit: int = MAX_DEPTH) -> None:
    """Raise PayloadError if arrays and objects nest deeper than ``limit`` levels."""
    raw = bytes(payload)
    # Counting brackets is enough for nearly every message, and cheap.
    if raw.count(b"[") + raw.count(b"{") > limit and nesting_depth(raw) > limit:
        raise PayloadError(f"JSON nested deeper than {limit} levels")


def nesting_depth(raw: bytes) -> int:
    """Return how deeply arrays and objects nest in JSON text."""
    brackets = _STRING.sub(b"", _ESCAPE.sub(b"", raw)).translate(_BRACKET_KINDS, _OTHER_BYTES)
    return max(accumulate(map(_DEPTH_STEPS.__getitem__, brackets)), default=0)


class Member(NamedTuple):
    """Where a member's value lies in the text of its object."""

    name: str
    start: int
    end: int


def decode_text(raw: bytes | memoryview) -> str:
    """Return JSON text as str; PayloadError if it is not UTF-8."""
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError as error:
        raise PayloadError(f"not JSON: {error}") from None


def members(text: str, start: int = 0) -> list[Member]:
    """Return the members of the object that opens at ``start`` (blanks allowed before it).

    Positions are indexes into ``text``.  Raises PayloadError if that is no
    object, or broken.
    """
    try:
        return _scan_object(text, start)
    except (ValueError, IndexError, StopIteration, RecursionError) as error:
        raise PayloadError(f"not JSON: {error}") from None


def _scan_object(text: str, start: int) -> list[Member]:
    found: list[Member] = []
    _, pos = _expect("{", text, start)
    if text.startswith("}", pos):
        return found
    while True:
        plain = _PLAIN_NAME.match(text, pos)
        name, value_start = (plain[1], plain.end()) if plain else _scan_name(text, pos)
        _, value_end = _SCANNER.raw_decode(text, value_start)
        found.append(Member(name, value_start, value_end))
        character, pos = _expect(",}", text, value_end)
        if character == "}":
            return found


def _scan_name(text: str, pos: int) -> tuple[str, int]:
    """Return the name that begins at ``pos``, and where its value does."""
    if not text.startswith('"', pos):
        raise ValueError(f"expected a member's name at character {pos}")
    name, end = _SCANNER.raw_decode(text, pos)
    _, value_start = _expect(":", text, end)
    return name, value_start


def _expect(characters: str, text: str, pos: int) -> tuple[str, int]:
    """Return which of ``characters`` comes first at ``pos``, and where text goes on behind it."""
    match = _ONE_OF[characters].match(text, pos)
    if match is None:
        expected = " or ".join(map(repr, characters))
        raise ValueError(f"expected {expected} at character {pos}")
    return match[1], match.end()


def value_of(text: str, member: Member) -> Any:
    """Return a member's value; numbers come as the text that they are written with."""
    return _SCANNER.raw_decode(text, member.start)[0]


def find(found: list[Member], name: str) -> Member | None:
    """Return the one member called ``name``, in any case, or None.

    Raises PayloadError where two have that name: agents differ in which of
    them counts, so neither may be taken for the other.
    """
    named = [member for member in found if fold(member.name) == name]
    if len(named) > 1:
        raise PayloadError(f"'{name}' stands twice in one object")
    return named[0] if named else None


def first_inside(text: str, member: Member) -> int:
    """Return where the first member of an object-valued member begins, or its closing brace."""
    match = _BLANK.match(text, member.start + 1)
    assert match is not None
    return match.end()
