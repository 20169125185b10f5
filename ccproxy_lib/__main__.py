"""``python -m ccproxy_lib``: the same as the cc-proxy command."""

import sys

from ccproxy_lib.front.entry import main

sys.exit(main())
