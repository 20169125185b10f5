"""The HTTP endpoint for metrics and debugging; loaded with -pprof only.

server -> routes -> metrics, report, page, greenlets, memory, profile

All of it runs in the daemon's one thread, so whatever looks at every session or
at every object does so in turns with the proxying.
"""
