"""What the memory is used for: the process, the garbage collector, our objects, buffers."""

from __future__ import annotations

import gc
import heapq
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from ccproxy_lib.service.debug.greenlets import OBJECTS_IN_A_ROW
from ccproxy_lib.service.proxy import Proxy
from ccproxy_lib.service.turns import in_turns

PACKAGE = "ccproxy_lib."
SESSIONS_IN_A_ROW = 500
BIGGEST = 20
MOST_TYPES = 200
# Lines of /proc/self/status, all in KiB but the last two.
PROCESS = ("VmRSS", "VmHWM", "RssAnon", "VmSwap", "Threads", "FDSize")


def report(proxy: Proxy) -> str:
    """Return the whole of it as text."""
    sections = {
        "Process": _process(),
        "Garbage collector": _collector(),
        "Biggest buffers (bytes)": _buffers(proxy),
        "Objects": _objects(),
        "Allocations": _allocations(),
    }
    return "\n".join(
        f"{title}\n" + "".join(f"    {line}\n" for line in lines)
        for title, lines in sections.items()
    )


def _process() -> Iterator[str]:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").split("\n"):
        name, _, value = line.partition(":")
        if name in PROCESS:
            yield f"{name:<8} {value.strip()}"


def _collector() -> Iterator[str]:
    yield f"enabled {gc.isenabled()}, thresholds {gc.get_threshold()}, counts {gc.get_count()}"
    for number, numbers in enumerate(gc.get_stats()):
        yield f"generation {number}: " + ", ".join(f"{k} {v}" for k, v in numbers.items())


def _buffers(proxy: Proxy) -> Iterator[str]:
    """Name the sessions that hold most; what their spools hold is on disk and not counted."""
    sessions = (
        (session.output.kept_bytes - session.output.spooled_bytes, link.vm.id, session)
        for link in tuple(proxy.links.values())
        for session in tuple(link.vm.sessions)
    )
    biggest: list[tuple[int, str, int, str]] = []
    for size, vm_id, session in in_turns(sessions, SESSIONS_IN_A_ROW):
        if size:
            each = (size, vm_id, session.stdio, session.container_id)
            (heapq.heappushpop if len(biggest) == BIGGEST else heapq.heappush)(biggest, each)
    if not biggest:
        yield "none: no session holds output"
    for size, vm_id, stdio, container_id in sorted(biggest, reverse=True):
        yield f"{size:>12,}  output of VM {vm_id!r}, container {container_id!r}, stdio {stdio}"


def _objects() -> Iterator[str]:
    counts: Counter[type] = Counter()
    for each in in_turns(gc.get_objects(), OBJECTS_IN_A_ROW):
        counts[type(each)] += 1
    yield f"{counts.total():>12,}  all that the garbage collector knows, of them:"
    ours = [
        kind
        for kind in counts
        if str(kind.__module__).startswith(PACKAGE) and not issubclass(kind, Enum)
    ]
    for kind in heapq.nlargest(MOST_TYPES, ours, key=lambda kind: counts[kind]):
        yield f"{counts[kind]:>12,}  {kind.__module__}.{kind.__qualname__}"


def _allocations() -> Iterator[str]:
    if not tracemalloc.is_tracing():
        yield "not traced: start the daemon with PYTHONTRACEMALLOC=1 for where they are made"
        return
    now, most = tracemalloc.get_traced_memory()
    yield f"{now:>12,}  bytes are traced; {most:,} at most"
    for each in tracemalloc.take_snapshot().statistics("lineno")[:BIGGEST]:
        frame = each.traceback[0]
        yield f"{each.size:>12,}  in {each.count} blocks: {frame.filename}:{frame.lineno}"
