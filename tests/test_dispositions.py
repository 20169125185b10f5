"""However the tests were started, the programs under test start as from a terminal."""

from __future__ import annotations

import subprocess
import sys

from tests.dispositions import CARELESS, NOTHING, TELLER, told
from tests.e2e.harness import TOP

TESTS = """
import subprocess, sys, tests.conftest
subprocess.run(sys.argv[1:], check=True)
"""


def test_what_the_tests_starter_ignores_is_no_matter():
    command = [*CARELESS, sys.executable, "-c", TESTS, *TELLER]
    output = subprocess.run(command, cwd=TOP, capture_output=True, check=True).stdout
    assert told(output) == NOTHING
