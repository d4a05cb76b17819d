"""Lazy import of Pillow's AVIF module."""

from typing import Any

from server.errors import UnsupportedImage


def plugin() -> Any:
    """Return Pillow's AVIF module with its own threads disabled; raises UnsupportedImage if Pillow lacks AVIF."""
    from PIL import AvifImagePlugin

    if not AvifImagePlugin.SUPPORTED:
        raise UnsupportedImage("This server was built without AVIF: use another format.")
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    return AvifImagePlugin
