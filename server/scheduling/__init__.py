"""Waiting, grouping and running: the way from a tile to its answer."""
