"""Paths: where a request leads, whatever stands before or behind the path."""


def own_path(path: str, root: str) -> str:
    """The path as the routes know it: without final slashes, and the root path where no proxy has taken it off.

    To redirect from `/restore/` to `/restore` would lose the photo: many clients send it again as a GET, if at all.
    """
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return path.rstrip("/") or "/"
