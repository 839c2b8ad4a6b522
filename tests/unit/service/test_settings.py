from __future__ import annotations

from pathlib import Path

import pytest

from jobs.serving import server as serving
from service.settings import Settings


def test_the_environment_is_read_with_its_types() -> None:
    settings = Settings.read(
        {"MINIMIND_SERVE_SLOTS": "3", "MINIMIND_SERVE_DTYPE": "int8", "MINIMIND_API_KEY": "a-long-key", "PATH": "/bin"}
    )
    assert (settings.slots, settings.dtype, settings.api_key) == (3, "int8", "a-long-key")
    assert settings.memory_bytes > 1e8
    assert Settings.read({"MINIMIND_API_KEY": ""}).api_key is None


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("MINIMIND_SERVE_SLOTS", "none", "slots = 'none'"),
        ("MINIMIND_SERVE_SLOTS", "0", "slots = '0'"),
        ("MINIMIND_SERVE_DTYPE", "float8", "'auto', 'float32', 'bfloat16' or 'int8'"),
        ("MINIMIND_SERVE_SLOT", "4", "MINIMIND_SERVE_SLOT: there is no such setting; .*MINIMIND_SERVE_SLOTS"),
        ("MINIMIND_SERVE_API_KEY", "12345678", "no such setting"),
    ],
)
def test_a_bad_variable_is_named(variable: str, value: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Settings.read({variable: value})


def test_a_key_may_lie_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("a-long-key\n")
    assert Settings.read({"MINIMIND_API_KEY_FILE": str(file), "MINIMIND_API_KEY": ""}).api_key == "a-long-key"
    assert Settings.read({"MINIMIND_API_KEY_FILE": "", "MINIMIND_SERVE_SLOTS": ""}).api_key is None
    file.write_bytes("\ufeffa-long-key\r\n".encode())
    assert Settings.read({"MINIMIND_API_KEY_FILE": str(file)}).api_key == "a-long-key"
    file.write_text("\n")
    with pytest.raises(ValueError, match="holds no key"):
        Settings.read({"MINIMIND_API_KEY_FILE": str(file)})
    with pytest.raises(ValueError, match="MINIMIND_API_KEY and MINIMIND_API_KEY_FILE are both set"):
        Settings.read({"MINIMIND_API_KEY_FILE": str(file), "MINIMIND_API_KEY": "another-key"})
    with pytest.raises(ValueError, match="MINIMIND_API_KEY_FILE = .*none' cannot be read"):
        Settings.read({"MINIMIND_API_KEY_FILE": str(tmp_path / "none")})


def test_a_key_is_never_repeated() -> None:
    with pytest.raises(ValueError, match="api_key") as told:
        Settings.read({"MINIMIND_API_KEY": "short-1"})
    assert "short-1" not in str(told.value)


@pytest.mark.parametrize("key", ["a-long-key\r", " a-long-key", "a-long-key\n", "\ta-long-key  "])
def test_blanks_at_the_ends_of_a_key_are_none_of_it(key: str) -> None:
    """A file with Windows' line ends leaves one there, in WSL."""
    assert Settings.read({"MINIMIND_API_KEY": key}).api_key == "a-long-key"
    assert Settings.read({"MINIMIND_API_KEY": " \r\n"}).api_key is None
    assert Settings.read({"MINIMIND_API_KEY": "with a blank"}).api_key == "with a blank"


@pytest.mark.parametrize(
    "key",
    ["我的密钥一二三四五", "right\u200bright", "ｒｉｇｈｔｒｉｇｈｔ", "“rightright”", "a-long-k\x7fey", "clé-secrète"],
)
def test_a_key_that_no_client_can_send_is_refused_with_the_name_of_its_variable(key: str) -> None:
    with pytest.raises(ValueError, match=r"^MINIMIND_API_KEY: sign \d+ of the key is not printable ASCII") as told:
        Settings.read({"MINIMIND_API_KEY": key})
    assert key not in str(told.value)
    with pytest.raises(ValueError, match="^MINIMIND_API_KEY: "):
        serving.application(serving.ServeFlags(), {"MINIMIND_API_KEY": key})


def test_replicas_share_what_nobody_gave_them() -> None:
    alone, shared = Settings.read({}), Settings.read({}, replicas=3)
    assert shared.memory_bytes == alone.memory_bytes // 3
    assert shared.threads == max(1, alone.threads // 3)
    given = {"MINIMIND_SERVE_THREADS": "5", "MINIMIND_SERVE_MEMORY_BYTES": "1000"}
    told = Settings.read(given, replicas=3)
    assert (told.threads, told.memory_bytes) == (5, 1000)
    assert Settings.read({}, replicas=10_000).threads == 1
