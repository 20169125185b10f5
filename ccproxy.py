#!/usr/bin/env python3
"""cc-proxy in a single file: runs from a checkout once the dependencies are there."""

import os
import sys

from ccproxy_lib.front.entry import main

# Where the Makefile puts them.
VENV_PYTHON = os.path.join(os.path.dirname(os.path.abspath(__file__)), ".venv", "bin", "python")


def use_venv() -> None:
    """Run on in the virtual environment, if there is one and this Python lacks what it has."""
    from importlib.util import find_spec

    if find_spec("gevent") is None and os.access(VENV_PYTHON, os.X_OK):
        os.execv(VENV_PYTHON, [VENV_PYTHON, *sys.argv])


if __name__ == "__main__":
    if sys.prefix == sys.base_prefix:
        use_venv()
    sys.exit(main())
