"""Tiles that wait, in shape buckets."""
