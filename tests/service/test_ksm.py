"""The tuner in this process, on files of the test's own and with phases that are soon over."""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

import gevent
import pytest

from ccproxy_lib.host.ksm import Ksm
from ccproxy_lib.service.ksm import KsmTuner
from ccproxy_lib.state.ksm import STAGES, Mode, Phase, Settings
from tests.host import ksm_files
from tests.host.ksm_files import HOSTS


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return ksm_files.make(tmp_path)


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "proxy.sock.ksm"


@pytest.fixture
def start(root, memory):
    """Start a tuner; it is stopped after the test."""
    started = []

    def start(mode, stages=STAGES):
        tuner = KsmTuner(mode, Ksm(str(root), str(memory)), stages)
        started.append(tuner)
        tuner.start()
        return tuner

    yield start
    for tuner in started:
        tuner.stop()
    gevent.idle()  # lets their greenlets end


@pytest.fixture
def log(caplog, monkeypatch):
    """The package's log from info on."""
    monkeypatch.setattr(logging.getLogger("ccproxy_lib"), "propagate", True)
    caplog.set_level(logging.INFO, "ccproxy_lib")
    return caplog


@pytest.fixture
def warnings(log):
    """The messages of warnings so far."""
    return lambda: [each.getMessage() for each in log.records if each.levelname == "WARNING"]


def values(root: Path) -> Settings:
    return Settings(*(int((root / name).read_text() or -1) for name in Settings._fields))


def wait_until(done) -> None:
    deadline_s = time.monotonic() + 30
    while not done():
        assert time.monotonic() < deadline_s
        gevent.sleep(0.001)


PHASES = [Phase.AGGRESSIVE, Phase.STANDARD, Phase.SLOW, Phase.FOUND]


@pytest.mark.parametrize("goal", PHASES)
def test_phases_follow_one_another(start, root, memory, log, goal):
    soon_over = PHASES[: PHASES.index(goal)]
    stages = {
        phase: stage._replace(lasts_s=0.02 if phase in soon_over else 1e6)
        for phase, stage in STAGES.items()
    }
    start(Mode.AUTO, stages).vm_registered()
    wait_until(lambda: log.records and log.records[-1].fields["phase"] == goal.value)
    if goal is Phase.FOUND:
        assert values(root) == HOSTS
        assert not memory.exists()
    else:
        assert values(root)[::2] == (1, STAGES[goal].sleep_millisecs)
        assert memory.exists()


def test_each_vm_counts_the_pages_anew(start, root):
    tuner = start(Mode.AUTO)
    tuner.vm_registered()
    wait_until(lambda: values(root).run == 1)
    (root / "pages_to_scan").write_text("7\n")
    tuner.vm_registered()
    wait_until(lambda: values(root).pages_to_scan != 7)
    assert values(root).sleep_millisecs == STAGES[Phase.AGGRESSIVE].sleep_millisecs


def test_a_vm_just_before_the_end_changes_nothing_after_it(start, root):
    tuner = start(Mode.AUTO)
    gevent.idle()
    tuner.vm_registered()
    tuner.stop()
    tuner.vm_registered()
    gevent.idle()
    assert values(root) == HOSTS


@pytest.mark.parametrize("mode", [Mode.OFF, Mode.AUTO])
def test_without_ksm_there_is_one_warning(start, root, warnings, mode):
    shutil.rmtree(root)
    tuner = start(mode)
    tuner.vm_registered()
    gevent.idle()
    tuner.stop()
    assert warnings() == ["KSM is left alone, as it cannot be set"]


def test_without_a_place_for_the_memory_there_is_one_warning(start, root, memory, warnings):
    memory.mkdir()
    start(Mode.AUTO).vm_registered()
    assert warnings() == ["KSM is left alone, as it cannot be set"]
    assert values(root) == HOSTS


def test_what_the_kernel_refuses_is_one_warning_and_undone(start, root, memory, warnings):
    (root / "sleep_millisecs").unlink()
    (root / "sleep_millisecs").symlink_to("/proc/self/oom_score_adj")  # takes 1000 at most
    refused = {Phase.AGGRESSIVE: STAGES[Phase.AGGRESSIVE]._replace(sleep_millisecs=5000)}
    tuner = start(Mode.AUTO, refused)
    tuner.vm_registered()
    wait_until(warnings)
    tuner.vm_registered()
    tuner.stop()
    assert warnings() == ["KSM is left alone, as it cannot be set"]
    assert values(root)._replace(sleep_millisecs=20) == HOSTS
    assert not memory.exists()


def test_values_that_cannot_be_restored_are_told_and_kept_in_memory(start, root, memory, warnings):
    tuner = start(Mode.OFF)
    shutil.rmtree(root)
    tuner.stop()
    assert warnings() == ["cannot restore KSM's settings"]
    assert memory.exists()


def test_a_damaged_memory_is_one_warning_and_the_mode_holds(start, root, memory, warnings):
    memory.write_text("damaged")
    (root / "run").write_text("1\n")
    tuner = start(Mode.OFF)
    assert values(root).run == 0
    tuner.stop()
    assert values(root).run == 1
    assert warnings() == ["the memory of KSM's settings is damaged and ignored"]


def test_mode_initial_gives_back_what_a_crashed_daemon_left(start, root, memory, warnings):
    Ksm(str(root), str(memory)).apply(Settings(1, 5000, 1))
    start(Mode.INITIAL)
    assert values(root) == HOSTS
    assert not memory.exists()
    assert warnings() == ["KSM's settings restored, which a daemon before us had left behind"]


def test_a_fault_of_our_own_ends_the_tuning_only(start, root, log):
    start(Mode.AUTO, {}).vm_registered()
    wait_until(lambda: log.messages)
    assert log.messages == ["tuning KSM failed"]
    assert values(root) == HOSTS
