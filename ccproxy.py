#!/usr/bin/env python3
"""cc-proxy in a single file: runs from a checkout once the dependencies are there."""

import sys

from ccproxy_lib.front.entry import main

if __name__ == "__main__":
    sys.exit(main())
