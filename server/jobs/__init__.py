"""Stored jobs: restorations that are written to disk, run later, and whose results are kept for a while."""
