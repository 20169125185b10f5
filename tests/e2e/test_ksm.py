"""KSM by the real daemon: on files of the test's own, and once on the kernel's."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ccproxy_lib.host.ksm import DEFAULT_ROOT, anonymous_pages
from ccproxy_lib.state.ksm import Settings
from tests.e2e.harness import PATIENCE_S, PROGRAM, TOP, exclusive, wait_until
from tests.e2e.steps import accept_soon

pytestmark = pytest.mark.lasting

HOSTS = Settings(1, 123, 45)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "ksm"
    root.mkdir()
    set_values(root, HOSTS)
    return root


@pytest.fixture
def memory(tmp_path):
    return tmp_path / "proxy.sock.ksm"


def set_values(root: Path, settings: Settings) -> None:
    for name, value in settings._asdict().items():
        (root / name).write_text(f"{value}\n")


def values(root: Path) -> Settings:
    return Settings(*(int((root / name).read_text() or -1) for name in Settings._fields))


def register(daemon, scripted) -> None:
    vm = scripted()
    accept_soon(vm)
    with daemon.client() as runtime:
        runtime.register(vm)


def register_and_wait_for_aggressive(daemon, scripted, root: Path) -> None:
    """The number of anonymous pages changes all the time, but not by orders of magnitude."""
    before = anonymous_pages()
    register(daemon, scripted)
    wait_until(lambda: values(root)[::2] == (1, 1), "KSM is on and its sleep short")
    after = anonymous_pages()
    assert min(before, after) / 2 < values(root).pages_to_scan * 10 < max(before, after) * 2


def test_off_switches_off_until_the_end(start_daemon, scripted, root):
    daemon = start_daemon("-ksm", "off", "-ksm-root", str(root))
    register(daemon, scripted)
    assert values(root) == HOSTS._replace(run=0)
    assert daemon.stop() == 0
    assert values(root) == HOSTS


def test_initial_changes_nothing(start_daemon, scripted, root, memory):
    daemon = start_daemon("-ksm", "initial", "-ksm-root", str(root))
    register(daemon, scripted)
    assert values(root) == HOSTS
    set_values(root, Settings(0, 1, 2))  # as an administrator may
    assert daemon.stop() == 0
    assert values(root) == Settings(0, 1, 2)
    assert not memory.exists()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_auto_is_aggressive_from_a_vm_on_until_the_end(start_daemon, scripted, root, memory, end):
    set_values(root, HOSTS._replace(run=0))
    daemon = start_daemon("-ksm=auto", "-ksm-root", str(root), "-ksm", "auto")
    assert values(root) == HOSTS._replace(run=0)
    assert not memory.exists()
    register_and_wait_for_aggressive(daemon, scripted, root)
    assert memory.exists()
    daemon.process.send_signal(end)
    assert daemon.process.wait(PATIENCE_S) == 0
    assert values(root) == HOSTS._replace(run=0)
    assert not memory.exists()


def test_ksm_files_are_found_again_after_a_crash(start_daemon, scripted, root, memory):
    daemon = start_daemon("-ksm", "auto", "-ksm-root", str(root))
    register_and_wait_for_aggressive(daemon, scripted, root)
    aggressive = values(root)
    daemon.process.kill()
    daemon.process.wait(PATIENCE_S)
    assert values(root) == aggressive
    daemon = start_daemon("-ksm", "auto", "-ksm-root", str(root))
    wait_until(lambda: values(root) == HOSTS, "the host has its values back")
    register_and_wait_for_aggressive(daemon, scripted, root)
    assert daemon.stop() == 0
    assert values(root) == HOSTS
    assert not memory.exists()


CRASH = """
import sys
from ccproxy_lib.front import entry
from ccproxy_lib.front.patch import patch
patch()
from ccproxy_lib.service.server import Daemon
def crash(self):
    raise RuntimeError("unforeseen")
Daemon._stop = crash
sys.exit(entry.main(sys.argv[1:]))
"""


def test_values_are_restored_when_the_daemon_dies_of_a_fault(tmp_path, root, memory):
    set_values(root, HOSTS)
    flags = ["-socket-path", str(tmp_path / "proxy.sock"), "-ksm", "off", "-ksm-root", str(root)]
    command = [sys.executable, "-c", CRASH, *flags]
    with subprocess.Popen(command, cwd=TOP, stderr=subprocess.PIPE, text=True) as daemon:
        wait_until(lambda: values(root).run == 0, "KSM is off")
        daemon.terminate()
        assert "RuntimeError: unforeseen" in daemon.communicate(timeout=PATIENCE_S)[1]
    assert daemon.returncode == 1
    assert values(root) == HOSTS
    assert not memory.exists()


@pytest.mark.parametrize("mode", ["off", "initial", "auto"])
def test_pod_mode_leaves_ksm_untouched_whatever_is_said(
    start_daemon, scripted, root, tmp_path, mode
):
    path = str(tmp_path / "pod.sock")
    daemon = start_daemon("-uri", path, "-ksm", mode, "-ksm-root", str(root), path=path)
    register(daemon, scripted)
    assert values(root) == HOSTS
    set_values(root, Settings(0, 1, 2))
    assert daemon.stop() == 0
    assert values(root) == Settings(0, 1, 2)


def test_without_ksm_vms_are_registered_all_the_same(start_daemon, scripted, tmp_path):
    daemon = start_daemon("-ksm", "auto", "-ksm-root", str(tmp_path / "missing"))
    register(daemon, scripted)
    assert daemon.stop() == 0
    (line,) = (line for line in daemon.log.splitlines() if "KSM is left alone" in line)
    assert f"{tmp_path}/missing/run: No such file or directory" in line
    assert "Errno" not in line


@pytest.mark.parametrize("mode", ["", "on", "OFF"])
@pytest.mark.parametrize("more", [[], ["-uri", "/nowhere/pod.sock"]])
def test_an_unknown_mode_is_a_usage_error(mode, more):
    command = [*PROGRAM, "-ksm", mode, *more]
    done = subprocess.run(
        command, check=False, cwd=TOP, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 2
    assert done.stderr == f"cc-proxy: flag -ksm needs off, initial or auto, got '{mode}'\n"


@pytest.fixture
def kernels_root():
    """The kernel's own files, as they were again afterwards."""
    root = Path(DEFAULT_ROOT)
    if not root.is_dir():
        pytest.skip("this kernel has no KSM")
    with exclusive(root):
        found = values(root)
        try:
            set_values(root, found)
        except OSError as error:
            pytest.skip(f"KSM cannot be set here: {error}")
        yield root
        set_values(root, found)


def test_auto_with_the_kernel_itself(start_daemon, scripted, kernels_root):
    found = values(kernels_root)
    daemon = start_daemon("-ksm", "auto")
    register_and_wait_for_aggressive(daemon, scripted, kernels_root)
    assert daemon.stop() == 0
    assert values(kernels_root) == found
