"""Figures in few characters, and foreign text that cannot play with a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lib.front.views import figures
from ccproxy_lib.front.views.safe import plain

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (None, "-"),
        (0, "0"),
        (999, "999"),
        (999.6, "1.0K"),
        (1000, "1.0K"),
        (1024, "1.0K"),
        (10 * 1024 - 1, "10K"),
        (999 * 1024, "999K"),
        (1 << 20, "1.0M"),
        (5 << 40, "5.0T"),
        (1e30, "huge"),
        (-1, "0"),
    ],
)
def test_size(amount, shown):
    assert figures.size(amount) == shown


@pytest.mark.parametrize(("amount", "shown"), [(1000, "1.0K"), (1024, "1.0K"), (25e6, "25M")])
def test_counts_are_in_thousands(amount, shown):
    assert figures.count(amount) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0, "0.0s"),
        (9.94, "9.9s"),
        (9.96, "9s"),
        (59.99, "59s"),
        (60, "1m00s"),
        (3599, "59m59s"),
        (3600, "1h00m"),
        (86399, "23h59m"),
        (86400, "1d00h"),
        (100 * 86400, "100d"),
        (1e12, "ages"),
    ],
)
def test_span(seconds, shown):
    assert figures.span(seconds) == shown


@given(FINITE)
def test_figures_keep_to_their_columns(amount):
    assert len(figures.size(amount)) <= 4
    assert len(figures.count(amount)) <= 4
    assert len(figures.span(amount)) <= 6


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pod-1.example_[bold]", "pod-1.example_[bold]"),
        ("büro-容器", "büro-容器"),
        ("\x1b[2Jx", r"\x1b[2Jx"),
        ("a\nb\tc\x7f\x9b", r"a\nb\tc\x7f\x9b"),
        ("a\u202eb\u200d", r"a\u202eb\u200d"),
        ("e\u0301\ufe0f", r"e\u0301\ufe0f"),
        ("\ud800", r"\ud800"),
        ("\u2028", r"\u2028"),
        (None, "None"),
    ],
)
def test_plain(text, shown):
    assert plain(text) == shown


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_plain(text):
    assert not {unicodedata.category(character)[0] for character in plain(text)} & {"C", "M"}
