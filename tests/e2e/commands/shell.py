"""A shell that exec runs, and the user at its prompt."""

from __future__ import annotations

import contextlib

from tests.e2e.terminal import Terminal, on_terminal

PROMPT = "prompt> "


@contextlib.contextmanager
def shell(tools, *more: str):
    """A shell of exec at its prompt, on a terminal."""
    arguments = ("exec", "tools", "-t", *more, "--env", f"PS1={PROMPT}")
    with on_terminal(*arguments, "--socket-path", tools.path, "sh") as terminal:
        terminal.expect_exact(PROMPT)
        yield terminal


def answer(terminal: Terminal, line: str) -> str:
    """Type a line at the prompt; what is shown for it."""
    terminal.send(line + "\r")
    terminal.expect_exact(f"{line}\r\n")
    terminal.expect_exact(PROMPT)
    return terminal.before


def interrupt_cat(terminal: Terminal) -> None:
    """Run a program that ends with Ctrl-C only, and end it once it runs."""
    terminal.send("cat\r")
    terminal.expect_exact("cat\r\n")
    terminal.send("hello\r")
    terminal.expect_exact("hello\r\nhello\r\n")
    terminal.send("\x03")
    terminal.expect_exact(PROMPT)
