"""Tiles that wait: buckets, admission and backlog."""
