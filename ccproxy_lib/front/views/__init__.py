"""Commands that look into a running daemon: status, top, events, log-level.

From a Status answer to a picture, each step in its own room:

    answer     what the answer says, whatever version of the daemon gave it
    rates      two answers: how much per second
    rows       VMs and sessions as rows, those first that are stuck or busy
    columns    which columns a width has room for, and how wide each is
    picture    the whole: summary, VMs, sessions, and what has no room
    figures    sizes, counts and times in a few characters
    safe       foreign text that cannot play with the terminal

and then out, with ``output`` onto paper or ``screen`` onto a live terminal.
"""
