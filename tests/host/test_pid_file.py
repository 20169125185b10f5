"""The pid file: there as a whole, one daemon's, and gone with it."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from ccproxy_lib.errors import StartError
from ccproxy_lib.host.pid_file import PidFile
from tests.e2e.harness import TOP


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cc-proxy.pid"


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_it_is_there_until_the_end(path: Path) -> None:
    before = os.umask(0o077)
    try:
        with closing(PidFile(str(path))):
            assert path.read_text() == f"{os.getpid()}\n"
            assert path.stat().st_mode & 0o777 == 0o644
            assert os.listdir(path.parent) == [path.name]
    finally:
        os.umask(before)
    assert os.listdir(path.parent) == []


@pytest.mark.parametrize("content", ["", "{}\n", "{}", " {} \n"])
def test_a_stale_one_is_replaced(path: Path, dead_pid: int, content: str) -> None:
    path.write_text(content.format(dead_pid))
    with closing(PidFile(str(path))):
        assert path.read_text() == f"{os.getpid()}\n"
        assert os.listdir(path.parent) == [path.name]


def test_one_whose_process_id_another_program_has_by_now_is_stale(path: Path) -> None:
    path.write_text(f"{os.getppid()}\n")
    with closing(PidFile(str(path))):
        assert path.read_text() == f"{os.getpid()}\n"


def test_a_live_one_is_refused(path: Path) -> None:
    with closing(PidFile(str(path))):
        with pytest.raises(
            StartError, match=rf"^the pid file {path} .* running daemon \(process {os.getpid()}\)"
        ):
            PidFile(str(path))
        assert path.read_text() == f"{os.getpid()}\n"


def test_that_of_a_proxy_without_a_lock_is_refused(path: Path) -> None:
    sleeper = [sys.executable, "-c", "print(flush=True); input()", "cc-proxy"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(sleeper, **pipes) as other:
        other.stdout.readline()  # the kernel has its name from now on
        path.write_text(f"{other.pid}\n")
        try:
            with pytest.raises(StartError, match=rf"running daemon \(process {other.pid}\)"):
                PidFile(str(path))
        finally:
            other.communicate(b"\n")


OURS = """
import os, sys
from pathlib import Path
from ccproxy_lib.host.pid_file import PidFile
Path(sys.argv[2]).write_text(f"{getattr(os, sys.argv[1])()}\\n")
PidFile(sys.argv[2]).close()
"""
# What has the name of a proxy, and a child.
PARENT = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, *sys.argv[1:]]))"


@pytest.mark.parametrize("whose", ["getpid", "getppid"])
def test_one_with_the_process_id_that_we_have_now_is_stale(path: Path, whose: str) -> None:
    ours = ("-c", OURS, whose, str(path), "cc-proxy")
    done = subprocess.run([sys.executable, "-c", PARENT, *ours], cwd=TOP, check=False)
    assert done.returncode == 0
    assert not path.exists()


def test_what_is_no_pid_file_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(StartError, match=f"^{path} exists and is no pid file: "):
        PidFile(str(path))
    assert path.read_text() == "precious"
    assert os.listdir(path.parent) == [path.name]


def test_a_symbolic_link_is_not_followed(tmp_path: Path, path: Path) -> None:
    (tmp_path / "target").write_text("1\n")
    path.symlink_to("target")
    with pytest.raises(StartError, match=f"^cannot write the pid file {path}: "):
        PidFile(str(path))
    assert (tmp_path / "target").read_text() == "1\n"


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="^cannot write the pid file .*: No such file or dir"):
        PidFile(str(tmp_path / "x" / "cc-proxy.pid"))


def test_one_that_took_its_place_is_left_alone(path: Path) -> None:
    first = PidFile(str(path))
    path.unlink()
    with closing(PidFile(str(path))):
        first.close()
        assert path.exists()


def test_of_daemons_that_start_at_once_one_wins(path: Path, dead_pid: int) -> None:
    def start(_: int) -> PidFile | None:
        try:
            return PidFile(str(path))
        except StartError:
            return None

    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            path.write_text(f"{dead_pid}\n")
            winners = [each for each in pool.map(start, range(8)) if each]
            assert len(winners) == 1
            winners[0].close()
            assert os.listdir(path.parent) == []
