"""The page for humans: one file without any other, and the policy that keeps it so."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from pathlib import Path


@functools.cache
def html() -> bytes:
    """Return the page."""
    return Path(__file__).with_name("page.html").read_bytes()


@functools.cache
def policy() -> str:
    """Return the content security policy: only the page's own script and style count."""
    script, style = (_hash(html(), tag) for tag in (b"script", b"style"))
    return (
        f"default-src 'none'; script-src {script}; style-src {style}; connect-src 'self';"
        " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(page: bytes, tag: bytes) -> str:
    (text,) = re.findall(b"<%b>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"
