"""Long work: restorations that are stored, run later and kept for a while."""
