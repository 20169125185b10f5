"""KSM's files, in a directory of the test's own, and their memory."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from ccproxy_lib.host.ksm import Ksm, anonymous_pages
from ccproxy_lib.state.ksm import Settings
from tests.host import ksm_files
from tests.host.ksm_files import HOSTS

OURS = Settings(1, 5000, 1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return ksm_files.make(tmp_path)


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "proxy.sock.ksm"


@pytest.fixture
def ksm(root: Path, memory: Path) -> Ksm:
    return Ksm(str(root), str(memory))


def test_values_are_set_and_restored(ksm, memory):
    assert ksm.read() == HOSTS
    ksm.apply(OURS)
    assert ksm.read() == OURS
    ksm.apply(OURS._replace(sleep_millisecs=10))
    ksm.restore()
    assert ksm.read() == HOSTS
    assert not memory.exists()


def test_without_a_change_there_is_nothing_to_restore(ksm, root, memory):
    (root / "run").write_text("2\n")
    ksm.restore()
    assert not ksm.recover()
    assert ksm.read().run == 2
    assert not memory.exists()


def test_the_memory_is_private_whole_and_there_only_while_needed(ksm, memory):
    ksm.apply(OURS)
    assert stat.S_IMODE(memory.stat().st_mode) == 0o600
    members = json.loads(memory.read_text())
    assert members.pop("boot")
    assert members == {"version": 1, "run": 0, "pages_to_scan": 100, "sleep_millisecs": 20}
    assert sorted(each.name for each in memory.parent.iterdir()) == ["ksm", memory.name]


def test_what_another_has_set_before_a_later_change_is_what_is_restored(ksm, root):
    ksm.apply(OURS)
    ksm.restore()
    (root / "pages_to_scan").write_text("77\n")
    ksm.apply(OURS)
    ksm.restore()
    assert ksm.read() == HOSTS._replace(pages_to_scan=77)


def test_after_a_crash_the_hosts_values_are_found_again(ksm, root, memory):
    ksm.apply(OURS)
    again = Ksm(str(root), str(memory))
    assert again.recover()
    assert again.read() == HOSTS
    assert not memory.exists()


def test_a_memory_from_before_a_reboot_is_of_no_use(ksm, root, memory):
    ksm.apply(OURS)
    members = json.loads(memory.read_text())
    memory.write_text(json.dumps(members | {"boot": "another"}))
    again = Ksm(str(root), str(memory))
    assert not again.recover()
    assert again.read() == OURS
    assert not memory.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"version": 2, "boot": "x", "run": 0, "pages_to_scan": 1, "sleep_millisecs": 1}',
        b'{"version": 1, "boot": "x", "run": 0, "pages_to_scan": 1}',
        b'{"version": 1, "boot": "x", "run": true, "pages_to_scan": 1, "sleep_millisecs": 1}',
        b'{"version": 1, "boot": "x", "run": 0, "pages_to_scan": -1, "sleep_millisecs": 1}',
        b'{"version": 1, "boot": "x", "run": 0, "pages_to_scan": 1, "sleep_millisecs": 5e9}',
        b'{"version": 1, "boot": "x", "run": 0, "pages_to_scan": 4294967296, "sleep_millisecs": 1}',
        b" " * 513 + b"{}",
    ],
)
def test_a_damaged_memory_changes_nothing(ksm, memory, content):
    memory.write_bytes(content)
    with pytest.raises(ValueError):
        ksm.recover()
    assert ksm.read() == HOSTS


def test_a_planted_memory_is_not_followed(ksm, memory, tmp_path):
    (tmp_path / "elsewhere").write_text("{}")
    memory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        ksm.recover()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_memory_of_somebody_else_is_refused(ksm, root, memory):
    ksm.apply(OURS)
    os.chown(memory, 65534, -1)
    with pytest.raises(ValueError, match="somebody else"):
        Ksm(str(root), str(memory)).recover()


def test_without_a_place_for_the_memory_nothing_is_changed(root, tmp_path):
    ksm = Ksm(str(root), str(tmp_path / "missing" / "memory"))
    with pytest.raises(FileNotFoundError):
        ksm.apply(OURS)
    ksm.restore()
    assert ksm.read() == HOSTS


def test_a_value_that_is_there_already_is_not_written(ksm, root):
    ksm.apply(OURS)
    before = (root / "run").stat().st_mtime_ns
    ksm.apply(OURS._replace(pages_to_scan=50))
    assert ksm.read().pages_to_scan == 50
    assert (root / "run").stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["pages_to_scan", "sleep_millisecs"])
def test_the_scanner_is_not_switched_on_with_values_that_the_kernel_refuses(ksm, root, name):
    (root / name).unlink()
    (root / name).symlink_to("/proc/self/oom_score_adj")  # takes 1000 at most
    with pytest.raises(OSError, match="Invalid argument"):
        ksm.apply(Settings(1, 5000, 5000))
    assert (root / "run").read_text() == "0\n"


def test_odd_content_and_missing_files_are_told(ksm, root):
    (root / "run").write_text("on\n")
    with pytest.raises(ValueError):
        ksm.read()
    (root / "run").unlink()
    with pytest.raises(FileNotFoundError):
        ksm.apply(OURS)


def test_anonymous_pages_come_from_meminfo(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       8000000 kB\nAnonPages:        210332 kB\n")
    assert anonymous_pages(str(meminfo)) == 210332 * 1024 // os.sysconf("SC_PAGE_SIZE")
    meminfo.write_text("MemTotal:       8000000 kB\n")
    with pytest.raises(ValueError, match="no AnonPages"):
        anonymous_pages(str(meminfo))
    assert anonymous_pages() > 0
