"""The server: bytes of a photo in, bytes of its restored copy out."""
