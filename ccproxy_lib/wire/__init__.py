"""Floor 1: bytes to messages and back, without any I/O.

A parser is fed whatever arrived and yields whole messages; it raises
:class:`~ccproxy_lib.errors.ProtocolError` and nothing else.  No module in this
package imports gevent, socket or logging.
"""
