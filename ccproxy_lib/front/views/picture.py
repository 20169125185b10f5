"""The whole picture of a Status answer: a summary, the VMs, their sessions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len
from rich.text import Text

from ccproxy_lib.front.views import answer, columns, figures
from ccproxy_lib.front.views.answer import Members
from ccproxy_lib.front.views.columns import Column, cut
from ccproxy_lib.front.views.rates import Change
from ccproxy_lib.front.views.rows import Row, session_rows, vm_rows
from ccproxy_lib.front.views.safe import plain

# From here on something deserves a look.
_CROWDED = 0.8
_HUB_LAG_S = 0.1

WARNING = "yellow"
NO_VMS = "No VM is registered."


class Frame(NamedTuple):
    """What a picture must fit; None is as much as needed.

    ``hint`` says where the rest can be seen.
    """

    width: int | None = None
    height: int | None = None
    hint: str = ""


def picture(
    status: Members, frame: Frame, change: Change | None = None, whole: bool = True
) -> list[Text]:
    """Return the lines of the picture, with rates if there is a ``change``.

    Without ``whole`` the answer has not all VMs, so they are not counted.
    """
    with_rates = change is not None
    change = change or Change(None, status)
    vms, sessions = vm_rows(status, change), session_rows(status, change)
    lines = summary(status, change, frame.width, whole)
    if not vms:
        return [*lines, Text(), Text(cut(NO_VMS, frame.width or len(NO_VMS)))][: frame.height]
    with_vm = frame.width is None or len(vms) > 1
    tables = [
        (columns.vm_columns(with_rates), vms, "VM"),
        (columns.session_columns(with_rates, with_vm), sessions, "session"),
    ]
    rooms = _rooms(frame.height, len(lines), len(vms), len(sessions))
    for (table, rows, word), room in zip(tables, rooms, strict=True):
        if rows:
            lines += [Text(), *_cut_table(table, rows, room, word, frame)]
    return lines[: frame.height]


def _rooms(
    height: int | None, above: int, vms: int, sessions: int
) -> tuple[int | None, int | None]:
    """Return how many lines each table may have, heads and what is told included."""
    if height is None:
        return None, None
    room = height - above - 1
    if not sessions:
        return room, 0
    for_vms = min(vms + 1, max(room - sessions - 2, (room - 1) // 2))
    return for_vms, room - for_vms - 1


def _cut_table(
    table: Sequence[Column], rows: Sequence[Row], room: int | None, word: str, frame: Frame
) -> list[Text]:
    """Return as much of the table as there is room for, and a line that tells the rest."""
    if room is None or len(rows) + 1 <= room:
        return columns.lines(table, rows, frame.width)
    shown = room - 2
    if shown < 1:
        told = f"{figures.number_of(len(rows), word)} not shown{frame.hint}"
        return [_told(told, frame.width)]
    told = f"... and {len(rows) - shown} more {word}s{frame.hint}"
    return [*columns.lines(table, rows[:shown], frame.width), _told(told, frame.width)]


def _told(text: str, width: int | None) -> Text:
    return Text(text if width is None else cut(text, width), style="dim")


# ---- the summary


Item = tuple[str, str]  # text and style


def summary(status: Members, change: Change, width: int | None, whole: bool = True) -> list[Text]:
    """Return what concerns the daemon as a whole, in lines of ``width`` at most."""
    groups = (
        _identity(status),
        _numbers(status, whole),
        _states(status) if whole else [],
        _load(status, change, whole),
        _troubles(status),
    )
    return [line for group in groups for line in _wrapped(group, width)]


def _identity(status: Members) -> list[Item]:
    lag_s = answer.amount(status, "hubLagSeconds")
    return [
        (f"cc-proxy {answer.text(status, 'version')}".rstrip(), "bold"),
        (f"pid {answer.amount(status, 'pid'):.0f}", ""),
        (f"up {figures.span(answer.figure(status, 'uptimeSeconds'))}", ""),
        *([("pod mode", "")] if status.get("pod") else ()),
        (f"log level {answer.text(status, 'logLevel')}", ""),
        (f"hub lag {lag_s * 1000:.1f} ms", WARNING if lag_s >= _HUB_LAG_S else ""),
    ]


def _numbers(status: Members, whole: bool) -> list[Item]:
    limits = answer.inner(status, "limits")
    vms = answer.vms(status)
    most_clients = answer.amount(limits, "maxClients")
    sessions = int(sum(answer.amount(vm, "sessionCount") for vm in vms))
    tokens = int(answer.amount(status, "tokens"))
    unclaimed = int(answer.amount(status, "unclaimedTokens"))
    found = [
        _limited(len(vms), "VM", answer.amount(limits, "maxVms")),
        (figures.number_of(sessions, "session"), ""),
    ]
    return [
        *(found if whole else ()),
        (figures.number_of(tokens, "token") + (f" ({unclaimed} unclaimed)" if tokens else ""), ""),
        _limited(int(answer.amount(status, "clients")), "client", most_clients),
        (figures.number_of(int(answer.amount(status, "subscribers")), "subscriber"), ""),
    ]


def _states(status: Members) -> list[Item]:
    """Return how many sessions are in which state, if that is more than one."""
    states = Counter(
        answer.text(session, "state").replace("_", " ")
        for vm in answer.vms(status)
        for session in answer.sessions(vm)
    )
    told = [(f"{number} {state}", "") for state, number in states.most_common()]
    return [("sessions:", ""), *told] if told[1:] else []


def _limited(number: int, word: str, limit: float) -> Item:
    text = figures.number_of(number, word)
    if limit and number >= _CROWDED * limit:
        return f"{text} of {limit:.0f} at most", WARNING
    return text, ""


def _load(status: Members, change: Change, whole: bool) -> list[Item]:
    totals = answer.inner(status, "totals")
    buffered = sum(answer.amount(vm, "bufferedBytes") for vm in answer.vms(status))
    return [
        (_traffic("in", totals, "stdin", change), ""),
        (_traffic("out", totals, "output", change), ""),
        (f"buffered {figures.size(buffered)}" if whole else "", WARNING if buffered else ""),
        (f"memory {figures.size(answer.figure(status, 'rssBytes'))}", ""),
        (_cpu(status, change), ""),
    ]


def _traffic(way: str, totals: Members, counted: str, change: Change) -> str:
    if change.total is None:
        return f"{way} {figures.size(answer.figure(totals, f'{counted}Bytes'))}"
    bytes_s = getattr(change.total, f"bytes_{way}")
    messages_s = getattr(change.total, f"messages_{way}")
    return f"{way} {figures.size(bytes_s)}/s, {figures.count(messages_s)} msg/s"


def _cpu(status: Members, change: Change) -> str:
    if change.cpu_share is None:
        return f"CPU {figures.span(answer.figure(status, 'cpuSeconds'))}"
    return f"CPU {change.cpu_share:.0%}"


def _troubles(status: Members) -> list[Item]:
    found = []
    for name, word in (("refusals", "refused"), ("deadlines", "timed out"), ("drops", "dropped")):
        counts = answer.inner(status, name)
        told = ", ".join(
            f"{plain(reason)} {answer.amount(counts, reason):.0f}"
            for reason in counts
            if answer.amount(counts, reason)
        )
        if told:
            found.append((f"{word}: {told}", WARNING))
    return found


def _wrapped(items: Iterable[Item], width: int | None) -> list[Text]:
    """Return the items as lines; one that has no room for any more begins a new one."""
    lines: list[Text] = []
    for whole, style in items:
        text = whole if width is None else cut(whole, width)
        if not text:
            continue
        needed = len(columns.GAP) + cell_len(text)
        if lines and (width is None or lines[-1].cell_len + needed <= width):
            lines[-1].append(columns.GAP)
        else:
            lines.append(Text())
        lines[-1].append(text, style=style)
    return lines
