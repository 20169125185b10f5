#!/usr/bin/env python3
"""cc-proxy in a single file: runs from a checkout once the dependencies are there."""

import importlib.util
import os
import sys

from ccproxy_lib.front.entry import main

# Where the Makefile puts them.
VENV_PYTHON = os.path.join(os.path.dirname(os.path.abspath(__file__)), ".venv", "bin", "python")

if __name__ == "__main__":
    bare = sys.prefix == sys.base_prefix and importlib.util.find_spec("gevent") is None
    if bare and os.access(VENV_PYTHON, os.X_OK):
        os.execv(VENV_PYTHON, [VENV_PYTHON, *sys.argv])
    sys.exit(main())
