"""Figures in few characters: 4 for sizes and counts, 6 for times."""

from __future__ import annotations

NONE = "-"

_KIBI = 1024.0
_KILO = 1000.0
_SUFFIXES = ("", "K", "M", "G", "T", "P", "E")
# Where a fourth digit would begin, with rounding.
_THREE_DIGITS = 999.5
_ONE_DIGIT = 9.95

_MINUTE_S = 60
_HOUR_S = 60 * _MINUTE_S
_DAY_S = 24 * _HOUR_S
_MANY_DAYS = 100


def size(amount: float | None) -> str:
    """Return bytes, in units of 1024: 999, 1.0K, 12M."""
    return _scaled(amount, _KIBI)


def count(amount: float | None) -> str:
    """Return a count, in units of 1000: 999, 1.0K, 12M."""
    return _scaled(amount, _KILO)


def _scaled(amount: float | None, unit: float) -> str:
    if amount is None:
        return NONE
    if amount < _THREE_DIGITS:
        return f"{max(amount, 0):.0f}"
    for suffix in _SUFFIXES[1:]:
        amount /= unit
        if amount < _ONE_DIGIT:
            return f"{amount:.1f}{suffix}"
        if amount < _THREE_DIGITS:
            return f"{amount:.0f}{suffix}"
    return "huge"


def span(seconds: float | None) -> str:
    """Return a time span, its two largest units: 0.2s, 12s, 5m02s, 3h12m, 5d03h, 120d."""
    if seconds is None:
        return NONE
    if seconds < _ONE_DIGIT:
        return f"{max(seconds, 0):.1f}s"
    whole = int(seconds)
    if whole < _MINUTE_S:
        return f"{whole}s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S}m{whole % _MINUTE_S:02}s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S}h{whole % _HOUR_S // _MINUTE_S:02}m"
    days = whole // _DAY_S
    if days < _MANY_DAYS:
        return f"{days}d{whole % _DAY_S // _HOUR_S:02}h"
    return f"{days}d" if days < _MANY_DAYS**2 else "ages"


def number_of(amount: int, word: str) -> str:
    """Return ``1 session`` or ``2 sessions``."""
    return f"{amount} {word}" if amount == 1 else f"{amount} {word}s"
