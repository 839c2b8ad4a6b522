from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from jobs import paths
from jobs.cluster import access, ray_private, submit
from jobs.cluster.access import Cluster, ClusterError

FAKE_JOBS = """
import os, sys, time
verb, *rest = sys.argv[1:]
print("arguments", rest)
print("home", os.environ["MINIMIND_HOME"], "python", sys.executable)
if verb == "fail":
    raise SystemExit(3)
if verb == "count":
    for number in range(30):
        print("line", number)
        time.sleep(0.1)
if verb == "wait":
    time.sleep(600)
"""


@pytest.fixture
def working_dir(tmp_path: Path) -> Path:
    """A checkout whose `python -m jobs` only talks."""
    package = tmp_path / "checkout" / "jobs"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(FAKE_JOBS)
    return package.parent


@pytest.fixture
def flaky(ray_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The way to the cluster leads through a relay that cuts the first connection which has carried 'line 3'."""
    target = urlsplit(ray_cluster.dashboard_url)
    cuts: list[int] = []
    closed = threading.Event()

    def relay(client: socket.socket) -> None:
        with closing(client), socket.create_connection((target.hostname, target.port)) as server:
            while not closed.is_set():
                for source in select.select([client, server], [], [], 0.2)[0]:
                    piece = source.recv(65536)
                    if not piece:
                        return
                    (server if source is client else client).sendall(piece)
                    if not cuts and b"line 3" in piece:
                        cuts.append(1)
                        return

    def accept(listener: socket.socket) -> None:
        while not closed.is_set():
            with suppress(TimeoutError):
                client, _ = listener.accept()
                threads.append(threading.Thread(target=relay, args=(client,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        threads = [threading.Thread(target=accept, args=(listener,))]
        threads[0].start()
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield cuts
        closed.set()
        for thread in threads:
            thread.join()


def test_the_literal_command_line(ray_cluster: Cluster, ray_home: Path, working_dir: Path) -> None:
    done = subprocess.run(
        ["ray", "job", "submit", "--working-dir", ".", "--", "python", "-m", "jobs", "hello", "--batch_size", "2"],
        cwd=working_dir,
        env=os.environ | access.environment(ray_cluster),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "arguments ['--batch_size', '2']" in done.stdout
    assert f"home {ray_home} python {sys.prefix}" in done.stdout


def test_submit_and_follow_through_a_broken_connection(flaky: list[int], ray_home: Path, working_dir: Path) -> None:
    submission_id = submit.submit("my-run", ["count", "a b", "--x"], working_dir)
    assert re.fullmatch(r"my-run-\d{4}-\d{6}", submission_id)
    pieces: list[str] = []
    assert submit.follow(submission_id, pieces.append) == "SUCCEEDED"
    text = "".join(pieces)
    assert flaky == [1]
    assert re.findall(r"line (\d+)\n", text) == [str(number) for number in range(30)]
    assert "arguments ['a b', '--x']" in text
    assert f"home {ray_home} " in text
    job = submit.job(submission_id)
    assert (job.run, job.status) == ("my-run", "SUCCEEDED")
    assert job.started_s is not None
    assert job.ended_s is not None
    assert job.ended_s > job.started_s > 1.7e9
    assert job in submit.jobs()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C means what it does in a terminal: what a shell starts with `&` ignores it, and would follow for ever."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_detach_leaves_the_job_and_stop_ends_it(ray_cluster: Cluster, working_dir: Path, interruptible: None) -> None:
    submission_id = submit.submit("waiting", ["wait"], working_dir)
    pieces: list[str] = []

    def interrupt_once(text: str) -> None:
        pieces.append(text)
        if "home" in "".join(pieces) and "Detached" not in text:
            signal.raise_signal(signal.SIGINT)

    assert submit.follow(submission_id, interrupt_once) == "RUNNING"
    assert f"minimind attach {submission_id}. End it: minimind stop waiting" in pieces[-1]
    assert submit.job(submission_id).status == "RUNNING"
    assert submit.stop(submission_id) == "STOPPED"
    assert submit.follow(submission_id, pieces.append) == "STOPPED"  # attaching to what has ended shows its log


def test_a_job_that_fails_says_so(ray_cluster: Cluster, working_dir: Path) -> None:
    submission_id = submit.submit("failing", ["fail"], working_dir)
    assert submit.follow(submission_id, lambda text: None) == "FAILED"
    assert "exit code 3" in submit.job(submission_id).message


def test_an_unknown_job_is_named(ray_cluster: Cluster) -> None:
    for call in (submit.job, submit.stop, lambda name: submit.follow(name, print)):
        with pytest.raises(ClusterError, match="knows no job 'nothing'.* It knows: "):
            call("nothing")


def test_without_a_cluster_the_command_that_starts_one_is_named(home: Path, working_dir: Path) -> None:
    for call in (submit.jobs, lambda: submit.submit("run", [], working_dir)):
        with pytest.raises(ClusterError, match="minimind cluster start"):
            call()


def test_a_cluster_that_is_gone_ends_the_following(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "_RECONNECT_S", 0)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = f"http://127.0.0.1:{listener.getsockname()[1]}"
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", nobody)
    with pytest.raises(ClusterError, match=f"{nobody} does not answer.*The log of run-1 broke off.*--from_resume 1"):
        submit.follow("run-1", print)


def test_a_large_working_directory_is_refused_with_its_largest_files(working_dir: Path) -> None:
    small = submit.refuse_large(working_dir)
    assert small == len(FAKE_JOBS)
    (working_dir / ".rayignore").write_text("*.pth\n")
    for name in ("ignored.pth", "big.bin", "bigger.bin"):
        (working_dir / name).write_bytes(bytes(2000 + len(name)))
    with pytest.raises(ValueError, match="allowed are 0") as caught:
        submit.refuse_large(working_dir, limit_bytes=3000)
    message = str(caught.value)
    assert message.index("bigger.bin") < message.index("big.bin")
    assert "ignored.pth" not in message
    with pytest.raises(ValueError, match="not found"):
        submit.refuse_large(working_dir / "nowhere")


def test_this_checkout_is_small_enough() -> None:
    assert submit.refuse_large(paths.checkout()) < submit.PACKAGE_LIMIT_BYTES / 10


def test_a_job_is_given_every_source() -> None:
    # An ignore file whose `.*` means the folder itself leaves all of it at home, and a job finds the program that
    # happens to be installed.
    packed: list[Path] = []
    ray_private.for_each_packed(paths.checkout(), packed.append)
    for package in ("data", "jobs", "minimind", "service", "tune_spaces"):
        folder = paths.checkout() / package
        sources = {path for path in folder.rglob("*") if path.suffix in (".py", ".c", ".html", ".js")}
        assert sources
        assert sources <= set(packed)
    assert not any(part.startswith(".") for path in packed for part in path.relative_to(paths.checkout()).parts)
