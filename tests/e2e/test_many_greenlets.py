"""The stacks of all greenlets, asked for while there are many."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

CLIENTS = 200


@pytest.mark.lasting
def test_those_at_one_place_are_told_together(daemon) -> None:
    with contextlib.ExitStack() as clients:
        for _ in range(CLIENTS):
            clients.enter_context(daemon.client())
        daemon.wait_for_log("client connected", CLIENTS)
        os.kill(daemon.pid, signal.SIGUSR1)
        daemon.wait_for_log(f'msg="{CLIENTS} x"')
