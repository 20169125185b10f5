"""Tokens stay out of errors, which end up in logs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from ccproxy_lib.errors import ProxyError

HIDDEN = "***"


@contextmanager
def hidden(*tokens: str) -> Iterator[None]:
    """Replace tokens in the text of a ProxyError that passes: the proxy echoes them."""
    try:
        yield
    except ProxyError as error:
        text = str(error)
        for token in filter(None, tokens):
            text = re.sub(rf"(?<![\w-]){re.escape(token)}(?![\w=-])", HIDDEN, text)
        raise type(error)(text) from None
