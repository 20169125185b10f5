"""What a shim that was lost had not read comes again, once."""

from __future__ import annotations

import pytest

from tests.e2e.harness import Refused, wait_until
from tests.e2e.steps import MIB, assert_alive, flood, one_session

pytestmark = pytest.mark.lasting


def test_replay_is_in_order_and_nothing_comes_twice(daemon, registered, vm_id):
    vm, runtime = registered
    token, shim, stdio = one_session(daemon, runtime, vm, vm_id)
    sent = b""
    got = b""
    for number in range(5):
        piece = b"%d" % number * 10_000
        vm.output(stdio, piece)
        sent += piece
        while len(got) < len(sent):
            got += shim.frame().payload
        shim.close()
        daemon.wait_for_log("shim lost", number + 1)
        piece = b"lost %d" % number * 1000
        vm.output(stdio, piece)
        sent += piece
        shim = daemon.shim(token)
    with shim:
        vm.exit(stdio, 0)
        assert got + shim.collect()[0] == sent


def test_a_shim_lost_in_the_middle_of_a_frame(pair):
    daemon, vm, runtime = pair()
    token, shim, stdio = one_session(daemon, runtime, vm, "c1")
    sent = flood(vm, stdio, 4 * MIB)
    vm.exit(stdio, 0)
    assert_alive(vm, runtime)
    taken = b""
    while len(taken) < MIB:
        taken += shim.frame().payload
    shim.close()
    daemon.wait_for_log("shim lost")
    with daemon.shim(token) as again:
        rest, _, status = again.collect()
    # What was in the dead shim's socket is gone with it; the rest is whole and in order.
    assert sent.startswith(taken)
    assert sent.endswith(rest)
    assert len(rest) > MIB
    assert status == 0


def test_exit_status_unread_by_a_lost_shim_is_delivered_again(daemon, registered, vm_id):
    vm, runtime = registered
    token, shim, stdio = one_session(daemon, runtime, vm, vm_id)
    vm.exit(stdio, 77)
    daemon.wait_for_log("status=77")
    shim.close()
    daemon.wait_for_log("shim lost")
    with daemon.shim(token) as again:
        assert again.collect() == (b"", b"", 77)


def test_a_shim_that_has_read_everything_leaves_nothing_behind(daemon, registered, vm_id):
    vm, runtime = registered
    token, shim, stdio = one_session(daemon, runtime, vm, vm_id)
    vm.exit(stdio, 0)
    with shim:
        assert shim.collect()[2] == 0

    def unknown() -> bool:
        try:
            daemon.shim(token).close()
        except Refused as refusal:
            return "unknown token" in str(refusal)
        return False

    wait_until(unknown, "the session is freed")
