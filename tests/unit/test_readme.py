"""The README's tree is the tree."""

from __future__ import annotations

from jobs.paths import checkout


def test_the_tree_in_the_readme_names_every_source_file() -> None:
    text = (checkout() / "README.md").read_text("utf-8")
    tree = text.split("## The tree")[1].split("```")[1]
    folder, told = "", set()
    for line in tree.strip().splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = name
        told.add(name if not line.startswith(" ") else folder + name)
    for package in ("minimind", "data", "jobs", "service", "tune_spaces", "bench"):
        there = {f"{package}/{path.name}" for path in (checkout() / package).glob("*.py") if path.name != "__init__.py"}
        assert there == {name for name in told if name.startswith(f"{package}/") and name.endswith(".py")}
