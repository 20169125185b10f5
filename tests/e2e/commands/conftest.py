"""One VM on the shared daemon serves most tests of the commands."""

from __future__ import annotations

import pytest

from tests.e2e.commands.tools import Tools
from tests.e2e.harness import SandboxVm, container, wait_until


@pytest.fixture(scope="package")
def service(shared_daemon, tmp_path_factory):
    """A VM with the container "first" on the shared daemon, for all tests here."""
    descriptors, greenlets = shared_daemon.descriptors(), shared_daemon.greenlets()
    vm = SandboxVm(tmp_path_factory.mktemp("tools"))
    with shared_daemon.client() as runtime:
        runtime.register(vm, "tools")
        runtime.hyper("newcontainer", container("first", "sleep", "1000"))
        yield Tools(shared_daemon.path, "tools", runtime)
    vm.stop()
    wait_until(lambda: shared_daemon.descriptors() == descriptors, "everything is closed")
    wait_until(lambda: shared_daemon.greenlets() <= greenlets, "all greenlets have ended")


@pytest.fixture
def tools(service, daemon):
    """Afterwards the daemon has what it had before."""
    return service


@pytest.fixture
def own(start_daemon, sandbox):
    """The same on a daemon of the test's own, which it may kill."""
    daemon, vm = start_daemon(), sandbox()
    with daemon.client() as runtime:
        runtime.register(vm, "tools")
        runtime.hyper("newcontainer", container("first", "sleep", "1000"))
        tools = Tools(daemon.path, "tools", runtime)
        tools.daemon = daemon
        yield tools
