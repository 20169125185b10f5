"""The one thing that has to come before anything of gevent is used."""

from __future__ import annotations


def patch() -> None:
    """Make sockets and sleeping cooperative; nothing else of the library waits in here."""
    import gevent
    from gevent import monkey

    gevent.config.track_greenlet_tree = False
    monkey.patch_socket(dns=False)
    monkey.patch_time()
