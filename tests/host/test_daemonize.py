"""What the process that was started makes of a daemon that does not come to serve."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHILD = """
import resource, signal, sys, time
from ccproxy_lib.errors import StartError
from ccproxy_lib.host import daemonize

daemonize.PATIENCE_S = {patience_s}
try:
    result = daemonize.detach()
except StartError as error:
    sys.exit(str(error))
if isinstance(result, int):
    sys.exit(result)
{child}
"""


@pytest.mark.parametrize(
    ("child", "patience_s", "status", "said"),
    [
        ("sys.exit(3)", 60, 3, ""),
        ("sys.exit('why')", 60, 1, "why\n"),
        ("sys.exit(0)", 60, 1, "the daemon ended before its socket answered\n"),
        ("signal.pause()", 0.01, 1, "the daemon's socket did not answer within 0.01 s\n"),
        ("result.serving(lambda: ''); print('x', file=sys.stderr)", 60, 0, ""),
    ],
)
def test_how_it_ends(child: str, patience_s: float, status: int, said: str) -> None:
    source = CHILD.format(patience_s=patience_s, child=child)
    result = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, encoding="utf-8", check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (status, "", said)


def test_no_descriptors_left() -> None:
    few = "3, resource.getrlimit(resource.RLIMIT_NOFILE)[1]"
    source = CHILD.format(patience_s=60, child="").replace(
        "try:", f"try:\n    resource.setrlimit(resource.RLIMIT_NOFILE, ({few}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, encoding="utf-8", check=False
    )
    # What coverage has to say of the same lack comes behind it.
    assert result.stderr.splitlines()[0] == "cannot go to the background: Too many open files"
