from __future__ import annotations

from pathlib import Path

import pytest

from jobs import paths


def test_home_is_the_variable_or_a_folder_in_the_users_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MINIMIND_HOME", str(tmp_path / "here"))
    assert paths.home() == tmp_path / "here"
    monkeypatch.setenv("MINIMIND_HOME", "~/elsewhere")
    assert paths.home() == Path.home() / "elsewhere"
    for unset in ("", None):
        monkeypatch.delenv("MINIMIND_HOME") if unset is None else monkeypatch.setenv("MINIMIND_HOME", unset)
        assert paths.home() == Path.home() / "minimind"


def test_a_relative_home_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINIMIND_HOME", "mine")
    assert paths.home() == tmp_path / "mine"


def test_what_is_kept_lies_under_home(home: Path) -> None:
    assert (paths.runs(), paths.data(), paths.cache()) == (home / "runs", home / "data", home / "cache")
    assert not paths.runs().exists()


def test_checkout_holds_the_sources() -> None:
    assert (paths.checkout() / "pyproject.toml").is_file()
    assert (paths.checkout() / "jobs" / "paths.py").is_file()


def test_relative_paths_count_from_home_or_the_given_folder(home: Path, tmp_path: Path) -> None:
    assert paths.absolute("data/a.jsonl") == home / "data" / "a.jsonl"
    assert paths.absolute("data/a.jsonl", tmp_path) == tmp_path / "data" / "a.jsonl"
    assert paths.absolute("/a.jsonl", tmp_path) == Path("/a.jsonl")
    assert paths.absolute("~/a.jsonl", tmp_path) == Path.home() / "a.jsonl"


def test_existing_gives_the_path(home: Path) -> None:
    (home / "a.jsonl").touch()
    assert paths.existing("a.jsonl", "data file") == home / "a.jsonl"


def test_existing_says_where_it_looked_and_what_is_there(home: Path, tmp_path: Path) -> None:
    (home / "data").mkdir()
    (home / "data" / "b.jsonl").touch()
    with pytest.raises(ValueError, match="data file not found") as caught:
        paths.existing("data/a.jsonl", "data file")
    assert f"{home}/data/a.jsonl ('data/a.jsonl' counts from {home})" in str(caught.value)
    assert f"{home}/data holds: b.jsonl." in str(caught.value)
    with pytest.raises(ValueError, match="holds: home"):
        paths.existing(tmp_path / "no" / "folder", "folder")


def test_existing_keeps_a_long_listing_short(home: Path) -> None:
    for number in range(20):
        (home / f"{number:02}.jsonl").touch()
    with pytest.raises(ValueError, match=rf"11\.jsonl, …\. Put it there: mkdir -p {home} && cp FILE {home}/a\.jsonl$"):
        paths.existing("a.jsonl", "data file")


def test_a_path_has_a_slash_and_the_name_of_a_run_has_none() -> None:
    assert all(map(paths.is_path, ("./a", "a/b", "/a", "~", "~/a")))
    assert not any(map(paths.is_path, ("a", "a@best", "a.b", "")))


def test_a_home_is_made_for_its_user_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MINIMIND_HOME", str(tmp_path / "a" / "home"))
    assert paths.make(paths.runs() / "first").is_dir()
    assert paths.home().stat().st_mode & 0o777 == 0o700
    paths.home().chmod(0o755)  # whoever shares it has said so
    paths.make(paths.cache())
    assert paths.home().stat().st_mode & 0o777 == 0o755
    monkeypatch.setenv("MINIMIND_HOME", str(tmp_path / "other"))
    paths.make(tmp_path / "elsewhere")
    assert not paths.home().exists()


def test_a_path_below_home_is_kept_so_that_the_home_can_be_moved(home: Path) -> None:
    assert paths.kept(str(home / "data" / "a.jsonl")) == paths.kept("data/a.jsonl") == "data/a.jsonl"
    assert paths.kept("a.jsonl") == "./a.jsonl"  # else it would be the name of a run
    assert paths.kept("/elsewhere/a.jsonl") == "/elsewhere/a.jsonl"
    assert paths.absolute(paths.kept("data/a.jsonl")) == home / "data" / "a.jsonl"


def test_a_home_that_can_not_be_made_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MINIMIND_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(OSError, match="/file/home/runs can't be made: .*MINIMIND_HOME, which is .*/file/home: set"):
        paths.make(paths.runs())
