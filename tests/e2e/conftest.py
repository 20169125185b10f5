"""One daemon serves most tests, so that each also shows that the ones before left no mark."""

from __future__ import annotations

import itertools
import os
import threading

import pytest

from tests.e2e.harness import Daemon, SandboxVm, ScriptedVm, wait_until
from tests.e2e.steps import accept_soon

UNDER_COVERAGE = "COVERAGE_RUN" in os.environ


@pytest.fixture(scope="session")
def shared_daemon(tmp_path_factory):
    daemon = Daemon(tmp_path_factory.mktemp("daemon"))
    daemon.at_rest = -1, -1
    yield daemon
    daemon.forget_log(begin=0)
    assert daemon.stop() == 0, daemon.log
    assert "Traceback" not in daemon.log, daemon.log


@pytest.fixture
def daemon(shared_daemon):
    """The shared daemon; afterwards it has the descriptors and greenlets that it had before."""
    descriptors = shared_daemon.descriptors()
    # Counting greenlets is slow, and what comes between tests, a VM say, has descriptors.
    # Under coverage it is slower still, and the other runs do it.
    if shared_daemon.at_rest[0] != descriptors and not UNDER_COVERAGE:
        shared_daemon.at_rest = descriptors, shared_daemon.greenlets()
    greenlets = shared_daemon.at_rest[1]
    shared_daemon.forget_log()  # what it said in other tests must not be taken for this one's
    yield shared_daemon
    assert shared_daemon.process.poll() is None, shared_daemon.log
    wait_until(lambda: shared_daemon.descriptors() == descriptors, "everything is closed")
    shared_daemon.wait_until_idle()  # what it says of that is not for the next test
    if not UNDER_COVERAGE:
        wait_until(lambda: shared_daemon.greenlets() <= greenlets, "all greenlets have ended")
    assert not shared_daemon.children()


@pytest.fixture
def start_daemon(tmp_path):
    """Start a daemon with flags of the test's own."""
    started = []

    def start(*flags, **options):
        daemon = Daemon(tmp_path, *flags, **options)
        started.append(daemon)
        return daemon

    yield start
    for daemon in started:
        daemon.stop()
        assert "Traceback" not in daemon.log, daemon.log


@pytest.fixture
def sandbox(tmp_path):
    """Start a sandbox agent; each call another VM."""
    started = []

    def start(*flags):
        vm = SandboxVm(tmp_path / f"sandbox{len(started)}", *flags)
        started.append(vm)
        return vm

    yield start
    for vm in started:
        vm.stop()


@pytest.fixture
def vm(daemon, sandbox):
    """A sandbox agent, not yet registered; the daemon must outlive it."""
    return sandbox()


@pytest.fixture
def scripted(tmp_path):
    """Make a scripted VM; each call another one."""
    made = []

    def make():
        vm = ScriptedVm(tmp_path, f"vm{len(made)}")
        made.append(vm)
        return vm

    yield make
    for vm in made:
        vm.close()


_ids = itertools.count(1)


@pytest.fixture
def vm_id():
    """An id that no other test uses on the shared daemon."""
    return f"vm-{next(_ids)}"


@pytest.fixture
def registered(daemon, scripted, vm_id):
    """A scripted VM, registered; returns it and the runtime's connection."""
    vm = scripted()
    accepting = threading.Thread(target=vm.accept)
    accepting.start()
    with daemon.client() as runtime:
        runtime.register(vm, vm_id)
        accepting.join()
        yield vm, runtime
    vm.hang_up()


@pytest.fixture
def pair(start_daemon, scripted):
    """Start a daemon with flags, register a VM; returns daemon, VM and runtime."""
    runtimes = []

    def make(*flags):
        daemon = start_daemon(*flags)
        vm = scripted()
        accepting = accept_soon(vm)
        runtime = daemon.client()
        runtimes.append(runtime)
        runtime.register(vm)
        accepting.join()
        return daemon, vm, runtime

    yield make
    for runtime in runtimes:
        runtime.close()
