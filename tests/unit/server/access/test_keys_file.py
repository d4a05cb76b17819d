"""Tests of the keys file: its syntax, and that it contains no key."""

import hashlib
from pathlib import Path

import pytest

from server.access.keys_file import KEY_PREFIX, Keys, Terms, new_key, read_keys
from server.errors import KeysUnavailable

A, B = "a" * 64, "b" * 64


def read(tmp_path: Path, text: str) -> Keys:
    path = tmp_path / "keys"
    path.write_text(text)
    return read_keys(path)


def test_a_new_key_is_long_and_its_line_has_the_hash_alone(tmp_path: Path) -> None:
    terms = Terms(requests_per_minute=60, megapixels_per_minute=2.5)
    (key, line), (other, _) = new_key("ada", terms), new_key("ada", terms)
    assert key != other
    assert key.startswith(KEY_PREFIX)
    assert len(key) >= len(KEY_PREFIX) + 43  # 256 bits in base64
    assert key not in line
    assert (
        line
        == f"ada sha256:{hashlib.sha256(key.encode()).hexdigest()} requests_per_minute=60 megapixels_per_minute=2.5"
    )
    keys = read(tmp_path, line)
    assert keys.terms == {"ada": terms}
    assert keys.clients == ((hashlib.sha256(key.encode()).digest(), "ada"),)


@pytest.mark.parametrize("limit", [0.06, 1, 2.5, 999_999, 1e6, 1_234_567.5, 1e16])
def test_every_limit_that_is_written_is_read_back(limit: float, tmp_path: Path) -> None:
    terms = Terms(requests_per_minute=limit)
    assert read(tmp_path, new_key("ada", terms)[1]).terms == {"ada": terms}


def test_a_client_has_several_keys_and_comments_are_passed_over(tmp_path: Path) -> None:
    keys = read(tmp_path, f"# ours\n\nada sha256:{A}\nada sha256:{B}\nbob.2 sha256:{'c' * 64} suspended\n")
    assert [name for _, name in keys.clients] == ["ada", "ada", "bob.2"]
    assert keys.terms == {"ada": Terms(), "bob.2": Terms(suspended=True)}
    assert read(tmp_path, "").clients == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ada", "line 1 is not NAME"),
        (f"\nada {A}", "line 2 is not NAME"),
        ("ada sha256:abc", "line 1 is not NAME"),
        (f"a/b sha256:{A}", "line 1 is not NAME"),
        (f"ada sha256:{A}\nbob sha256:{A}", "line 2: ada already has this hash"),
        (f"ada sha256:{A}\nada sha256:{B} suspended", "line 2: ada has different limits"),
        (f"ada sha256:{A} requests_per_minute=0", "requests_per_minute is not one of"),
        (f"ada sha256:{A} requests_per_minute=many", "requests_per_minute is not one of"),
        (f"ada sha256:{A} pixels=3", "pixels is not one of"),
        ("ada sha256:" + A + "\n# " + "x" * (1 << 20), "larger than"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(KeysUnavailable, match=reason):
        read(tmp_path, text)


def test_a_key_that_stands_there_by_mistake_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(KeysUnavailable) as refused:
        read(tmp_path, "ada promptir_secret")
    assert "secret" not in str(refused.value)
    with pytest.raises(KeysUnavailable, match="cannot be read: No such file"):
        read_keys(tmp_path / "none")
    with pytest.raises(KeysUnavailable, match="not a valid key name"):
        new_key("two words", Terms())


def test_a_line_ends_at_a_line_feed_and_at_nothing_else(tmp_path: Path) -> None:
    assert read(tmp_path, f"ada sha256:{A}\r\nbob sha256:{B}\r\n").terms == {"ada": Terms(), "bob": Terms()}
    for end in ("\x0b", "\x85", "\u2028"):
        assert read(tmp_path, f"ada sha256:{A} {end} suspended\n").terms == {"ada": Terms(suspended=True)}


def test_the_labels_of_two_clients_and_of_two_installations_differ(tmp_path: Path) -> None:
    text = f"ada sha256:{A}\nada sha256:{B}\nbob sha256:{'c' * 64}\n"
    labels = read(tmp_path, text).labels()
    assert len(set(labels.values())) == 2
    assert labels == read(tmp_path, f"# more\n{text}").labels()
    assert labels["ada"] != read(tmp_path, f"ada sha256:{'d' * 64}\n").labels()["ada"]
