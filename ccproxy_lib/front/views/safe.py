"""Foreign text, such as ids and reasons, made harmless for a terminal."""

from __future__ import annotations

import unicodedata

ELLIPSIS = "…"


def plain(text: object) -> str:
    r"""Return ``text`` with all that a terminal could obey, or not show, as escapes.

    These are controls (``\x1b``), what changes the direction of text, lone
    surrogates, and marks that would sit on a neighbour.  Backslashes are left.
    """
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _shows(c) else c.encode("unicode_escape").decode() for c in text)


def _shows(character: str) -> bool:
    return character.isprintable() and unicodedata.category(character)[0] != "M"
