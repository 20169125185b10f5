"""Columns of the tables: what is in them, and which of them a width has room for.

rich draws tables, too, but needs 40 µs for each cell, squeezes all columns
where some should go, and cuts ids at the end, where they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from ccproxy_lib.front.views import answer, figures
from ccproxy_lib.front.views.rows import Row, Trouble
from ccproxy_lib.front.views.safe import ELLIPSIS

GAP = "  "
STATE = "STATE"
_STYLES = {
    Trouble.STUCK: "bold red",
    Trouble.WAITING: "yellow",
    Trouble.NONE: "",
    Trouble.OVER: "dim",
}


class Column(NamedTuple):
    """One column; those with the highest ``goes`` go first where room is short.

    ``width`` is the least that it takes, so that a live picture stands still.
    An id is cut to ``cut_to`` before any column goes.
    """

    head: str
    goes: int
    cell: Callable[[Row], str]
    width: int = 0
    cut_to: int | None = None
    left: bool = False


class Place(NamedTuple):
    """A column in a picture, and how wide it is there."""

    column: Column
    width: int


def lines(columns: Sequence[Column], rows: Sequence[Row], width: int | None) -> list[Text]:
    """Return the head and the rows, none of them wider than ``width`` (None: as wide as needed)."""
    cells = [[column.cell(row) for column in columns] for row in rows]
    natural = [
        max(column.width, *map(cell_len, (column.head, *(row[i] for row in cells))))
        for i, column in enumerate(columns)
    ]
    places = place(columns, natural, width)
    head = Text(style="bold")
    for _, at in places:
        _append(head, at.column.head, at)
    found = [head]
    for row, texts in zip(rows, cells, strict=True):
        line = Text(style=_STYLES[row.trouble] if row.trouble == Trouble.OVER else "")
        for i, at in places:
            _append(line, texts[i], at, _STYLES[row.trouble] if at.column.head == STATE else "")
        found.append(line)
    for line in found:
        line.rstrip()
    return found


def place(
    columns: Sequence[Column], natural: Sequence[int], width: int | None
) -> list[tuple[int, Place]]:
    """Return the columns that stay, with their index and width.

    Ids shrink first, then columns go, and what is left over goes back to the ids.
    """
    kept = list(range(len(columns)))
    widths = list(natural)
    if width is not None:
        for i, column in enumerate(columns):
            widths[i] = min(widths[i], column.cut_to or widths[i])
        while len(kept) > 1 and _sum(widths, kept) > width:
            kept = _without_the_next(columns, kept)
        spare = width - _sum(widths, kept)
        # Who needs least is served first, so that all get the same or what they need.
        by_need = sorted(kept, key=lambda i: natural[i] - widths[i])
        for still, i in zip(range(len(kept), 0, -1), by_need, strict=True):
            more = max(min(natural[i] - widths[i], spare // still), -widths[i])
            widths[i] += more
            spare -= more
    return [(i, Place(columns[i], widths[i])) for i in kept]


def _without_the_next(columns: Sequence[Column], kept: list[int]) -> list[int]:
    """Return the indexes without those that go next: in and out go together."""
    last = max(columns[i].goes for i in kept)
    return [i for i in kept if columns[i].goes < last] or kept[:-1]


def _sum(widths: Sequence[int], kept: Sequence[int]) -> int:
    return sum(widths[i] for i in kept) + len(GAP) * (len(kept) - 1)


def _append(line: Text, text: str, at: Place, style: str = "") -> None:
    if cell_len(text) > at.width:
        text = cut_middle(text, at.width) if at.column.cut_to else cut(text, at.width)
    blanks = " " * (at.width - cell_len(text))
    if line:
        line.append(GAP)
    if not at.column.left:
        line.append(blanks)
    line.append(text, style=style)
    if at.column.left:
        line.append(blanks)


def cut(text: str, width: int) -> str:
    """Return the beginning of ``text``, in ``width`` cells at most."""
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, width - 1).rstrip() + ELLIPSIS if width > 0 else ""


def cut_middle(text: str, width: int) -> str:
    """Return both ends of ``text``, in ``width`` cells at most: ids often differ at the end."""
    if cell_len(text) <= width:
        return text
    end = (width - 1) // 2
    # Only ASCII can be cut from behind by counting.
    if not text.isascii() or end < 1:
        return cut(text, width)
    return text[: width - 1 - end] + ELLIPSIS + text[-end:]


# ---- what is in them


def _size(name: str) -> Callable[[Row], str]:
    return lambda row: figures.size(answer.figure(row.members, name))


def _count(name: str) -> Callable[[Row], str]:
    return lambda row: figures.count(answer.figure(row.members, name))


def _span(name: str) -> Callable[[Row], str]:
    return lambda row: figures.span(answer.figure(row.members, name))


def _rate(field: str, show: Callable[[float | None], str]) -> Callable[[Row], str]:
    return lambda row: show(getattr(row.rates, field, None))


def _text(name: str) -> Callable[[Row], str]:
    return lambda row: answer.text(row.members, name) or figures.NONE


def _streams(row: Row) -> str:
    numbers = (answer.amount(row.members, name) for name in ("stdio", "stderr"))
    return "/".join(f"{number:.0f}" for number in numbers if number) or figures.NONE


def _yes(name: str) -> Callable[[Row], str]:
    return lambda row: "yes" if row.members.get(name) else "no"


_RATES = (
    Column("IN/s", 1, _rate("bytes_in", figures.size), 5),
    Column("OUT/s", 1, _rate("bytes_out", figures.size), 5),
    Column("INMSG/s", 3, _rate("messages_in", figures.count)),
    Column("OUTMSG/s", 3, _rate("messages_out", figures.count)),
)


def vm_columns(with_rates: bool) -> list[Column]:
    """Return the columns of the table of VMs."""
    return [
        Column("VM", 0, lambda row: row.vm, cut_to=21, left=True),
        Column(STATE, 0, lambda row: row.state, 9, left=True),
        Column("AGE", 5 if with_rates else 2, _span("ageSeconds"), 6),
        Column("SESS", 4, _count("sessionCount"), 4),
        *(_RATES if with_rates else ()),
        Column("IN", 6 if with_rates else 1, _size("stdinBytes"), 4),
        Column("OUT", 6 if with_rates else 1, _size("outputBytes"), 4),
        Column("BUFFER", 2, _size("bufferedBytes"), 4),
        Column("SPOOL", 9, _size("spooledBytes"), 4),
        Column("CMDS", 10, _count("commands"), 4),
        Column("QUEUE", 7, _count("commandsWaiting"), 4),
        Column("AGENT", 8, _span("commandOutstandingSeconds"), 6),
        Column("INMSGS", 11, _count("stdinMessages"), 4),
        Column("OUTMSGS", 11, _count("outputMessages"), 4),
    ]


def session_columns(with_rates: bool, with_vm: bool) -> list[Column]:
    """Return the columns of the table of sessions."""
    vm = Column("VM", 1, lambda row: row.vm, cut_to=14, left=True)
    return [
        *((vm,) if with_vm else ()),
        Column("CONTAINER", 0, _text("container"), cut_to=16, left=True),
        Column(STATE, 0, lambda row: row.state, 9, left=True),
        Column("FOR", 4, _span("sinceSeconds"), 6),
        Column("EXIT", 5, _count("exitStatus")),
        Column("AGE", 6, _span("ageSeconds"), 6),
        Column("SHIM", 8, _yes("shim")),
        Column("EXEC", 10, _yes("exec")),
        Column("STREAMS", 9, _streams),
        *(_RATES if with_rates else ()),
        Column("IN", 7 if with_rates else 2, _size("stdinBytes"), 4),
        Column("OUT", 7 if with_rates else 2, _size("outputBytes"), 4),
        Column("UNREAD", 9, _size("inputWaitingBytes"), 4),
        Column("BUFFER", 2, _size("bufferedBytes"), 4),
        Column("SPOOL", 10, _size("spooledBytes"), 4),
        Column("INMSGS", 11, _count("stdinMessages"), 4),
        Column("OUTMSGS", 11, _count("outputMessages"), 4),
    ]
