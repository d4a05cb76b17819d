"""ASGI middleware that stands before every route."""
