"""Totals: what is counted, and under which name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ccproxy_lib.errors import (
    AgentError,
    AgentTimeout,
    CommandError,
    DeadlineMissed,
    LimitReached,
    PayloadError,
    VmGone,
)
from ccproxy_lib.host.tokens import new_token
from ccproxy_lib.state.counters import Counters, Histogram
from ccproxy_lib.state.registry import Registry


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (CommandError("x"), "command"),
        (PayloadError("x"), "payload"),
        (AgentError("x"), "agent"),
        (VmGone("x"), "vm-gone"),
        (LimitReached("full", "max-vms"), "max-vms"),
    ],
)
def test_refusals_are_counted_by_kind(error: CommandError, kind: str) -> None:
    counters = Counters()
    counters.refused(error)
    assert (counters.refusals, counters.deadlines) == ({kind: 1}, {})


@pytest.mark.parametrize(
    ("error", "flag"),
    [(DeadlineMissed("x", "shim-timeout"), "shim-timeout"), (AgentTimeout("x"), "command-timeout")],
)
def test_deadlines_are_counted_by_their_flag(error: CommandError, flag: str) -> None:
    counters = Counters()
    counters.refused(error)
    assert (counters.refusals, counters.deadlines) == ({}, {flag: 1})


def test_a_limits_error_names_the_flag_to_change() -> None:
    assert str(LimitReached("no more", "max-vms")) == "no more (-max-vms)"


@given(st.lists(st.floats(0, 1000)))
def test_a_histogram_puts_each_value_into_the_bucket_that_ends_at_or_above_it(
    values: list[float],
) -> None:
    histogram = Histogram((0.1, 1.0, 10.0))
    for value in values:
        histogram.observe(value)
    for upto, bound in enumerate(histogram.bounds, 1):
        assert sum(histogram.counts[:upto]) == sum(value <= bound for value in values)
    assert sum(histogram.counts) == len(values)
    assert histogram.sum_s == pytest.approx(sum(values))


def test_traffic_of_a_freed_session_stays_with_its_vm() -> None:
    registry = Registry(new_token)
    vm = registry.reserve("vm1")
    registry.publish(vm)
    (token, other) = registry.allocate(vm, 2)
    session = registry.session(token)
    session.output.add(1, memoryview(b"12345"))
    session.output.keep_unsent()
    registry.session(other).output.add(1, memoryview(b"123"))
    registry.session(other).output.keep_unsent()
    assert (vm.traffic.output_bytes, vm.traffic.output_messages) == (8, 2)
    registry.free(session)
    registry.free(session)
    assert (vm.traffic.output_bytes, vm.traffic.output_messages) == (8, 2)
