from __future__ import annotations

import subprocess
import sys

from jobs import paths


def test_every_benchmark_can_be_loaded() -> None:
    folder = paths.checkout() / "bench"
    # As Python starts a script: the script's folder comes first where modules are looked for.
    load = "import runpy, sys; sys.path.insert(0, sys.argv[1]); [runpy.run_path(file) for file in sys.argv[2:]]"
    # A peer runs in the environment of the clients, which has its library.
    files = sorted(str(file) for file in folder.glob("*.py") if not file.stem.endswith("_peer"))
    assert files
    subprocess.run([sys.executable, "-c", load, str(folder), *files], check=True, timeout=300)


def test_every_benchmark_measures_the_checkout_that_it_lies_in() -> None:
    # Also where the environment's editable install is another checkout: to compare two commits is what they are for.
    first = "sys.path.insert(0, str(Path(__file__).resolve().parent.parent))\n"
    for file in (paths.checkout() / "bench").glob("*.py"):
        before, _, after = file.read_text("utf-8").partition("\nfrom jobs ")
        assert not after or first in before, file
