"""A repository of its own with the sources under test, so that nothing is built in the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import TOP

# What tools and tests have made, or what makes no difference.
NOT_COPIED = shutil.ignore_patterns(
    *(".git", ".venv", ".tox", "build", "dist", "*.egg-info", "_commit"),
    *("__pycache__", ".*_cache", ".hypothesis", ".coverage*", ".fuzz", "htmlcov", "corpus"),
)
# Whoever comes first waits for make, a compiler of policies, pip and its registry.
BUILD_TIMEOUT_S = 300
# A commit needs a name; the user's own settings may ask for a signature.
GIT = ("git", "-c", "user.name=x", "-c", "user.email=x", "-c", "commit.gpgsign=false")


class Failed(Exception):
    """A program did not succeed; the text is what it said."""


def run(*command, cwd: Path, env: dict[str, str] | None = None) -> str:
    """Run a program that must succeed, and return what it says."""
    done = subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        env=os.environ | (env or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise Failed(done.stdout)
    return done.stdout


def make(checkout: Path, *arguments: str) -> str:
    """Run make with the Python that runs the tests."""
    # What an outer make or tox has told its own programs is not for this one.
    env = {"MAKEFLAGS": "", "MAKELEVEL": ""}
    python = f"PYTHON={sys.executable}"
    return run("make", "--no-print-directory", *arguments, python, cwd=checkout, env=env)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory) -> Path:
    """The sources in a git repository with one commit."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    directory = tmp_path_factory.mktemp("checkout") / "sources"
    shutil.copytree(TOP, directory, ignore=NOT_COPIED)
    for arguments in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "x")):
        run(*GIT, *arguments, cwd=directory)
    return directory


@pytest.fixture(scope="session")
def tarball(checkout, tmp_path_factory) -> Path:
    """What somebody has who unpacks what make dist makes."""
    name = make(checkout, "dist").strip()
    directory = tmp_path_factory.mktemp("tarball")
    run("tar", "-xzf", checkout / name, cwd=directory)
    (unpacked,) = directory.iterdir()
    assert name == f"dist/{unpacked.name}.tar.gz"
    return unpacked


@pytest.fixture(scope="session")
def installed(tarball, tmp_path_factory) -> Iterator[Path]:
    """A system of its own, with the program and its packages in the place of an older version."""
    prefix = tmp_path_factory.mktemp("system") / "prefix"
    places = (f"PREFIX={prefix}", f"SYSCONFDIR={prefix}/etc", f"RUNDIR={prefix}/run")
    make(tarball, "install", *places, "NO_DEPS=1")
    old = prefix / "lib" / "cc-proxy" / "ccproxy_lib" / "old.py"
    old.write_text("")
    make(tarball, "install", *places)
    assert not old.exists()
    yield prefix
    make(tarball, "uninstall", *places)
    assert not prefix.exists()
