"""Tests of the paths of requests behind proxies."""

import pytest

from server.http.middleware.target import own_path
from server.settings import HttpSettings


@pytest.mark.parametrize(
    ("path", "root", "own"),
    [
        ("/restore", "", "/restore"),
        ("/restore/", "", "/restore"),
        ("/restore//", "", "/restore"),
        ("/", "", "/"),
        ("//", "", "/"),
        ("/photos/restore", "/photos", "/restore"),
        ("/restore", "/photos", "/restore"),  # the proxy has taken it off
        ("/photos", "/photos", "/"),
        ("/photos/", "/photos", "/"),
        ("/photos2/restore", "/photos", "/photos2/restore"),
        ("/a/b/v1/jobs/x/", "/a/b", "/v1/jobs/x"),
        ("/photos/photos/restore", "/photos", "/photos/restore"),
    ],
)
def test_the_root_path_and_final_slashes_are_taken_off_once(path: str, root: str, own: str) -> None:
    assert own_path(path, root) == own


@pytest.mark.parametrize("given", ["/photos", "/photos/", "/a/b", "", "/"])
def test_a_root_path_may_end_in_a_slash(given: str) -> None:
    assert (HttpSettings(root_path=given).root_path or "") == given.rstrip("/")


@pytest.mark.parametrize(
    "given", ["photos", "/a b", "//a", "/../a", "/a?b", "/restore", "/v1/x", "http://x/a", "/\u00e9"]
)
def test_what_is_no_root_path_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="root_path"):
        HttpSettings(root_path=given)
