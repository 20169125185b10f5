"""Floor 4: the greenlets.

One per client connection, and a reader and a writer per VM channel, over the
shared registry.  The code reads as blocking; whatever waits lets others run.
"""
