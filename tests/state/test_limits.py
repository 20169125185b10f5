"""Limits have units in their names, and values that mean something."""

from __future__ import annotations

import pytest

from ccproxy_lib.state.limits import Limits


def test_every_limit_is_above_zero_and_says_what_it_counts() -> None:
    for name, value in Limits()._asdict().items():
        assert value > 0, name
        assert name.endswith(("_s", "_bytes")) or name.startswith("max_"), name


def test_limits_do_not_change_while_the_proxy_runs() -> None:
    limits = Limits(max_payload_bytes=5)
    assert limits.max_payload_bytes == 5
    with pytest.raises(AttributeError):
        limits.max_payload_bytes = 6  # type: ignore[misc]
