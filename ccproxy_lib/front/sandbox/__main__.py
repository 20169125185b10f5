"""``python -m ccproxy_lib.front.sandbox [options] CTL_SOCKET IO_SOCKET``."""

from gevent import monkey

monkey.patch_all()

import sys  # noqa: E402

from ccproxy_lib.front.sandbox.main import main  # noqa: E402

sys.exit(main(["agent", *sys.argv[1:]]))
