"""Request bodies: limits, compression, forms and uploads."""
