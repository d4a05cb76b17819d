"""Offline export of trained networks into artifacts; importing this package loads no heavy library."""
