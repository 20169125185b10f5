"""The pieces in which bytes may come."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import strategies as st

CUTS = st.lists(st.integers(0, 1 << 16), max_size=12)


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in zip(edges, edges[1:], strict=False)]


def one_by_one(data: bytes) -> list[bytes]:
    return [data[pos : pos + 1] for pos in range(len(data))]
