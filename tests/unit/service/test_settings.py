from __future__ import annotations

from pathlib import Path

import pytest

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
    with pytest.raises(ValueError, match="MINIMIND_API_KEY and MINIMIND_API_KEY_FILE are both set"):
        Settings.read({"MINIMIND_API_KEY_FILE": str(file), "MINIMIND_API_KEY": "another-key"})
    with pytest.raises(ValueError, match="MINIMIND_API_KEY_FILE = .*none' cannot be read"):
        Settings.read({"MINIMIND_API_KEY_FILE": str(tmp_path / "none")})


def test_a_key_is_never_repeated() -> None:
    with pytest.raises(ValueError, match="api_key") as told:
        Settings.read({"MINIMIND_API_KEY": "short-1"})
    assert "short-1" not in str(told.value)
