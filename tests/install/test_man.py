"""The man page as its readers' tools see it; what it says is compared in tests/test_docs.py."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.e2e.harness import TOP

pytestmark = pytest.mark.system

PAGE = TOP / "docs" / "cc-proxy.8"


def warnings_of(*command) -> list[str]:
    if not shutil.which(command[0]):
        pytest.skip(f"{command[0]} is not installed (Debian: mandoc, man-db)")
    # Neither the language nor the terminal decides on what there is to complain of.
    env = os.environ | {"LC_ALL": "C.UTF-8", "MANWIDTH": "80"}
    done = subprocess.run(
        [*command, PAGE], env=env, capture_output=True, encoding="utf-8", check=False
    )
    return (done.stderr if command[0] == "man" else done.stdout + done.stderr).splitlines()


def test_mandoc_finds_nothing_to_complain_of():
    said = warnings_of("mandoc", "-T", "lint")
    # Which other pages there are is the machine's affair.
    others = ("mandoc.db lacks", "referenced manual not found")
    assert [line for line in said if not any(other in line for other in others)] == []


def test_groff_finds_nothing_to_complain_of():
    assert warnings_of("man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8") == []
