"""The other side of the socket: what a runtime or a shim needs, without gevent."""
