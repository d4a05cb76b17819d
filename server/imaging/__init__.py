"""Conversion between image files and network inputs."""
