"""The only place that touches a JSON library, and its sharp edges.

ujson is fast and lenient: it takes NaN, recurses, reads an integer of any
length and reports errors of several classes.  What leaves this module is a
PayloadError with one sentence, or a plain Python value.

The proxy must hand JSON on as the client wrote it, so :func:`members` finds
where the members of an object lie in the text, and the text between is never
made anew.
"""

from __future__ import annotations

import json as stdlib_json
import re
from typing import Any, NamedTuple

import ujson

from ccproxy_lib.errors import PayloadError

MAX_DEPTH = 100

_BLANK = re.compile(r"[ \t\n\r]*")
# A string that never ends matches up to the end of the text: were it to fail,
# the search would begin anew at each of its quotes.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.|\\\Z)*(?:"|\Z)|[\[{\]}]', re.DOTALL)


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
    if nesting_depth(raw) > MAX_DEPTH:
        raise PayloadError(f"JSON nested deeper than {MAX_DEPTH} levels")
    try:
        value = ujson.loads(raw)
    except (ValueError, OverflowError, RecursionError) as error:
        raise PayloadError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise PayloadError("the payload must be a JSON object")
    return {name.lower(): member for name, member in value.items()}


def nesting_depth(raw: bytes) -> int:
    """Return an upper bound of how deeply arrays and objects nest, cheaply where it is low.

    Counting all opening brackets is exact enough for any honest message; only
    text with many of them is scanned for how they pair up.
    """
    brackets = raw.count(b"[") + raw.count(b"{")
    if brackets <= MAX_DEPTH:
        return brackets
    depth = deepest = 0
    for match in _STRING_OR_BRACKET.finditer(raw.decode("utf-8", "replace")):
        token = match.group()
        if token in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token in "]}":
            depth -= 1
    return deepest


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


def _skip_blank(text: str, pos: int) -> int:
    match = _BLANK.match(text, pos)
    return match.end() if match else pos


def _scan_object(text: str, start: int) -> list[Member]:
    found: list[Member] = []
    pos = _expect(text, start, "{")
    if text[pos : pos + 1] == "}":
        return found
    while True:
        if text[pos : pos + 1] != '"':
            raise ValueError(f"expected a member's name at character {pos}")
        name, pos = _SCANNER.raw_decode(text, pos)
        value_start = _expect(text, pos, ":")
        _, value_end = _SCANNER.raw_decode(text, value_start)
        found.append(Member(name, value_start, value_end))
        pos = _skip_blank(text, value_end)
        if text[pos : pos + 1] == "}":
            return found
        pos = _expect(text, pos, ",")


def _expect(text: str, pos: int, character: str) -> int:
    """Return the first position behind ``character`` that is not blank."""
    pos = _skip_blank(text, pos)
    if text[pos : pos + 1] != character:
        raise ValueError(f"expected '{character}' at character {pos}")
    return _skip_blank(text, pos + 1)


def value_of(text: str, member: Member) -> Any:
    """Return a member's value; numbers come as the text that they are written with."""
    return _SCANNER.raw_decode(text, member.start)[0]


def find(found: list[Member], name: str) -> Member | None:
    """Return the one member called ``name``, in any case, or None.

    Raises PayloadError where two have that name: agents differ in which of
    them counts, so neither may be taken for the other.
    """
    named = [member for member in found if member.name.lower() == name]
    if len(named) > 1:
        raise PayloadError(f"'{name}' stands twice in one object")
    return named[0] if named else None


def first_inside(text: str, member: Member) -> int:
    """Return where the first member of an object-valued member begins, or its closing brace."""
    return _skip_blank(text, member.start + 1)
