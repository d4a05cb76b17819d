"""Workers that run batches on devices, and what happens when one fails."""
