"""Docstrings name things as Sphinx does, ``:class:`~package.Thing```; pages show the name alone."""

import re
from typing import Any

_ROLE = re.compile(r":(?:class|func|meth|attr|mod):<code>(~?)([\w.]+)</code>")


def on_page_content(html: str, **_: Any) -> str:
    """Show ``Thing`` for ``~package.Thing``, and other names whole."""
    return _ROLE.sub(lambda m: f"<code>{m[2].rpartition('.')[2] if m[1] else m[2]}</code>", html)
