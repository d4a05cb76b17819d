"""Restoration: from the bytes of a photo to the bytes of its restored copy."""
