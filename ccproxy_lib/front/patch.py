"""The one thing that has to come before anything of gevent is used."""

from __future__ import annotations

OF_SOCKET = ("socket", "SocketType", "socketpair", "fromfd", "create_connection")


def patch() -> None:
    """Make sockets and sleeping cooperative; nothing else of the library waits in here.

    Piece by piece: patch_socket() tells the plugins of all packages that are
    installed, and looking for those takes half of the time that a start may take.
    """
    import socket
    import time

    import gevent
    from gevent import monkey
    from gevent import socket as cooperative

    gevent.config.track_greenlet_tree = False
    gevent.config.format_context = "builtins.repr"  # its default loads pprint and all that needs
    replace = monkey.patch_item  # type: ignore[attr-defined]
    for name in OF_SOCKET:
        replace(socket, name, getattr(cooperative, name))
    replace(time, "sleep", gevent.sleep)
