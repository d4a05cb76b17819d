"""The HTTP front: what the network sees of the server."""
