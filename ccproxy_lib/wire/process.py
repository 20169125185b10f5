"""The process of a newcontainer or execcmd: read a little, patched in two places.

Old C agents refuse members that they do not know, and numbers and unknown
members must reach the agent as the client wrote them.  So the JSON is not made
anew: two numbers are written into the text, and nothing else of it changes.
"""

from typing import NamedTuple

from ccproxy_lib.errors import CommandError, PayloadError
from ccproxy_lib.wire import json
from ccproxy_lib.wire.ctl import Code

# The member that names the container, by the command that starts a process in it.
_CONTAINER_MEMBER = {Code.NEW_CONTAINER: "id", Code.EXEC_CMD: "container"}


class ProcessStart(NamedTuple):
    """A command that starts a process, before it has its stream numbers.

    ``text`` is the JSON for the agent.  ``present`` are the numbers that stand
    in it already, as (start, end, name), the last one first; ``absent`` are the
    names of those that don't and are inserted at ``inside``, where the object's
    first member begins.
    """

    text: str
    container_id: str
    terminal: bool
    is_exec: bool
    present: tuple[tuple[int, int, str], ...]
    absent: tuple[str, ...]
    inside: int

    def with_numbers(self, stdio: int, stderr: int) -> bytes:
        """Return the JSON with its stream numbers; ``stderr`` is not used with a terminal."""
        numbers = {"stdio": stdio, "stderr": stderr}
        text = self.text
        for start, end, name in self.present:
            text = f"{text[:start]}{numbers[name]}{text[end:]}"
        added = ",".join(f'"{name}":{numbers[name]}' for name in self.absent)
        head, tail = text[: self.inside], text[self.inside :]
        comma = "," if added and not tail.startswith("}") else ""
        return f"{head}{added}{comma}{tail}".encode()


def parse_process_start(code: Code, text: str) -> ProcessStart:
    """Find the places of the stream numbers in the data of newcontainer or execcmd.

    Raises CommandError where there is no process, where the client has set a
    stream number itself, or where a member that decides stands twice.
    """
    command = "newcontainer" if code is Code.NEW_CONTAINER else "execcmd"
    if not text:
        raise CommandError(f"{command} needs 'data' with a 'process'")
    top = json.members(text)
    process = json.find(top, "process")
    if process is None or text[process.start] != "{":
        raise CommandError(f"{command} needs a 'process' object in its data")
    inner = json.members(text, process.start)
    terminal = _flag(text, inner, "terminal")
    numbers = {name: json.find(inner, name) for name in ("stdio", "stderr")}
    for name, member in numbers.items():
        _refuse_chosen_number(text, name, member)
    if terminal:
        del numbers["stderr"]
    present = [(found.start, found.end, name) for name, found in numbers.items() if found]
    return ProcessStart(
        text=text,
        container_id=_container_id(text, top, _CONTAINER_MEMBER[code]),
        terminal=terminal,
        is_exec=code is Code.EXEC_CMD,
        present=tuple(sorted(present, reverse=True)),
        absent=tuple(name for name, found in numbers.items() if found is None),
        inside=json.first_inside(text, process),
    )


def _refuse_chosen_number(text: str, name: str, member: json.Member | None) -> None:
    chosen = text[member.start : member.end] if member else "0"
    if chosen not in ("0", "null"):
        raise CommandError(f"expected process.{name.capitalize()} to be 0, got {chosen[:32]}")


def _flag(text: str, inner: list[json.Member], name: str) -> bool:
    member = json.find(inner, name)
    value = json.value_of(text, member) if member else None
    if value not in (None, True, False):
        raise PayloadError(f"'{name}' must be true or false")
    return bool(value)


def _container_id(text: str, top: list[json.Member], name: str) -> str:
    member = json.find(top, name)
    if member is None or text[member.start] != '"':
        return ""
    return str(json.value_of(text, member))
