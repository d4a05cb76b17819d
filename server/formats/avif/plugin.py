"""Pillow's AVIF module, imported when the first AVIF is read or written."""

from typing import Any

from server.errors import UnsupportedImage


def plugin() -> Any:
    """Return Pillow's AVIF module with its own threads disabled; raises UnsupportedImage if Pillow lacks AVIF."""
    from PIL import AvifImagePlugin

    if not AvifImagePlugin.SUPPORTED:
        raise UnsupportedImage("AVIF is not part of this server's build: use another format.")
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    return AvifImagePlugin
