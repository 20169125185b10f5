"""Floor 2: what the proxy knows, without any I/O or waiting.

VMs, tokens, sessions, stream numbers, and the queues between the two ends of a
session.  Nothing here blocks, switches greenlets, reads a socket or logs.
"""
