"""Waiting, grouping and running: the way from a job to its answer."""
