"""Images: files to network-shaped pixels and back."""
