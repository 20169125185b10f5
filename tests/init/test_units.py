"""The init files, as systemd and the shell see them when they are filled in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

INIT = Path(__file__).resolve().parents[2] / "init"
SERVICES = ("cc-proxy.service", "cc-proxy@.service")
UNITS = (*SERVICES, "cc-proxy.socket", "cc-proxy-metrics.socket")
# On a scale from 0 to 10; systemd-analyze wants it times ten.
MOST_EXPOSURE = 2.0
DIRECTORIES = {"RUNDIR": "/run", "SYSCONFDIR": "/etc"}

needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed (Debian: systemd)"
)


def analyze(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments],
        cwd=cwd,
        # The language decides on the marks that it shows.
        env=os.environ | {"LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=30,
        check=False,
    )


def set_directives(text: str) -> set[str]:
    return set(re.findall(r"^(\w+)=", text, re.M))


@pytest.fixture
def filled_in(tmp_path: Path) -> Path:
    """A directory with all of them, and a program where they say."""
    directories = DIRECTORIES | {"LIBEXECDIR": str(tmp_path)}
    for template in INIT.glob("*.in"):
        text = re.sub(r"@(\w+)@", lambda it: directories[it[1]], template.read_text())
        (tmp_path / template.stem).write_text(text)
    program = tmp_path / "cc-proxy"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return tmp_path


@needs_systemd
def test_systemd_finds_nothing_wrong(filled_in: Path) -> None:
    result = analyze("verify", "--man=no", *(f"./{unit}" for unit in UNITS), cwd=filled_in)
    assert (result.returncode, result.stdout) == (0, "")


@needs_systemd
@pytest.mark.parametrize("unit", SERVICES)
def test_a_service_is_hardly_exposed(filled_in: Path, unit: str) -> None:
    threshold = f"--threshold={MOST_EXPOSURE * 10:.0f}"
    result = analyze("security", "--offline=yes", threshold, f"./{unit}", cwd=filled_in)
    assert result.returncode == 0, result.stdout
    assert "Overall exposure level" in result.stdout


@needs_systemd
@pytest.mark.parametrize("unit", SERVICES)
def test_what_exposes_a_service_has_a_reason(filled_in: Path, unit: str) -> None:
    result = analyze("security", "--offline=yes", "--no-pager", f"./{unit}", cwd=filled_in)
    exposing = re.findall(r"^✗ (\w+)=", result.stdout, re.M)
    assert exposing
    text = (filled_in / unit).read_text()
    explained = set(re.findall(r"^# (\w+)=[\w=, ]* {2}\w", text, re.M))
    assert set(exposing) - {"RestrictAddressFamilies"} <= explained
    assert not explained & set_directives(text)


def test_the_pods_service_has_what_the_hosts_has() -> None:
    host, pod = ((INIT / f"{unit}.in").read_text() for unit in SERVICES)
    missing = set_directives(host) - set_directives(pod)
    assert missing == {"Requires", "After", "Restart", "RestartSec", "ReadWritePaths", "Also"}


def test_a_shell_can_read_the_openrc_script(filled_in: Path) -> None:
    subprocess.run(["sh", "-n", filled_in / "cc-proxy.openrc"], check=True)
