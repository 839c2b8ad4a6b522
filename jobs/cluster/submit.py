"""Jobs on the cluster: submit, follow, stop, list. A thin layer over Ray's Jobs client that speaks in words."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic, sleep
from typing import cast

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from jobs import paths
from jobs.cluster import access, ray_private
from jobs.cluster import local as cluster
from jobs.cluster.access import Cluster, ClusterError
from jobs.runs.program import told_to_jobs
from minimind.language import language, say

PACKAGE_LIMIT_BYTES = 50 * 1024 * 1024
"""Above this a working directory is refused: Ray would copy it for every job, and at 512 MiB give up itself."""

_RECONNECT_S = 60

_AGENT_STARTS_S = 180
"""How long Ray's job agent may take to start: on two cores with much else to do more than a minute was seen."""


@dataclass(frozen=True)
class Job:
    """What Ray knows of a job. `run` is the name of the run, or of the sweep or the pipeline if that is its
    `kind`.

    `status` is PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED; times are seconds since 1970.
    """

    submission_id: str
    run: str
    kind: str
    status: str
    message: str
    started_s: float | None
    ended_s: float | None


def submit(
    run_name: str,
    argv: Sequence[str],
    working_dir: Path | None = None,
    kind: str = "run",
    variables: Mapping[str, str] | None = None,
) -> str:
    """Run ``python -m jobs *argv`` on the cluster, in a copy of `working_dir` (default: this checkout).

    Gives the submission id, which starts with the name of the run. kind: "sweep" or "pipeline" where the name is
    one's. variables: more that the job has in its environment; no secrets, for Ray writes them into its logs.

    Raises ClusterError without a cluster, ValueError if the working directory is too large.
    """
    folder = working_dir or paths.checkout()
    refuse_large(folder)
    with _client() as client:
        stamp = base = f"{run_name}-{datetime.now(UTC):%m%d-%H%M%S}"
        count, end = 1, monotonic() + _AGENT_STARTS_S
        while True:
            try:
                return client.submit_job(
                    entrypoint=shlex.join(["python", "-m", "jobs", *argv]),
                    submission_id=stamp,
                    metadata={"run": run_name, "kind": kind},
                    runtime_env={
                        "working_dir": str(folder),
                        "env_vars": {
                            "MINIMIND_HOME": str(paths.home()),
                            "MINIMIND_LANG": language(),  # else that of the shell that started the cluster
                            "PYTHONUNBUFFERED": "1",
                            **told_to_jobs(),
                            **(variables or {}),
                        },
                    },
                )
            except RuntimeError as error:
                if ray_private.AGENT_STARTS in str(error) and monotonic() < end:
                    sleep(1)
                    continue
                # Somebody else may have taken the name in this second; Ray alone knows, and says it in its own words.
                if stamp not in {job.submission_id for job in client.list_jobs()}:
                    raise
                count += 1
                stamp = f"{base}-{count}"


def log(submission_id: str) -> str:
    """All that the job has said. Raises ClusterError if it is not known."""
    with _client() as client:
        _info(client, submission_id)
        text: str = client.get_job_logs(submission_id)
        return text


def follow(submission_id: str, write: Callable[[str], None], skip: int = 0) -> str:
    """Hand the job's log to `write`, from its beginning or behind so many characters, until the job ends; gives its
    last status.

    A connection that breaks is taken up again where it broke. Ctrl-C detaches: the job runs on, its status now
    (RUNNING) is given, and a line says how to come back.

    Raises ClusterError if the job is not known, or if the cluster is gone for a minute.
    """
    seen, run = skip, ""
    lost_at: float | None = None
    connected_at: float | None = None

    async def tail(client: JobSubmissionClient) -> None:
        nonlocal seen, lost_at
        skip = seen
        try:
            # The iterator is an async generator, which must be closed for the connection to end with it.
            async with aclosing(cast("AsyncGenerator[str]", client.tail_job_logs(submission_id))) as log:
                async for text in log:
                    fresh = text[skip:]
                    skip -= len(text) - len(fresh)
                    if fresh:
                        lost_at = None
                        seen += len(fresh)
                        write(fresh)
        except RuntimeError as error:  # what the client raises when the connection breaks
            raise _LostError(str(error)) from None
        finally:
            # asyncio makes of Ctrl-C a request to cancel, which the next wait obeys. Where what ends the tail comes
            # before that wait (the log was read and its connection lost at once), the request would be forgotten.
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError

    try:
        while True:
            try:
                with _client() as client:
                    run = _job(_info(client, submission_id)).run
                    connected_at = monotonic()
                    asyncio.run(tail(client))
                    status = _info(client, submission_id).status
                    if status.is_terminal():
                        return str(status)
            except _LostError as error:
                # A job may have nothing to say for hours: what counts is since when it cannot be followed.
                now = monotonic()
                if lost_at is None or (connected_at is not None and now - connected_at > _RECONNECT_S):
                    lost_at = now
                connected_at = None
                if now - lost_at >= _RECONNECT_S:
                    raise ClusterError(
                        say(
                            "{error} The log of {submission_id} broke off. Start the cluster with `minimind cluster "
                            "start`; what the run had saved is in its folder, and --from_resume 1 goes on from there.",
                            error=error,
                            submission_id=submission_id,
                        )
                    ) from None
            sleep(0.5)
    except KeyboardInterrupt:
        write(
            "\n"
            + say(
                "Detached; {job} runs on. Come back: minimind attach {job}. End it: minimind stop {name}",
                job=submission_id,
                name=run or submission_id,
            )
            + "\n"
        )
        return str(JobStatus.RUNNING)


def stop(submission_id: str, wait_s: float = 30) -> str:
    """End the job (SIGTERM, then SIGKILL) and wait until it has ended; gives its status.

    Raises ClusterError if the job is not known.
    """
    with _client() as client:
        _info(client, submission_id)
        client.stop_job(submission_id)
        end = monotonic() + wait_s
        while True:
            status = _info(client, submission_id).status
            if status.is_terminal() or monotonic() > end:
                return str(status)
            sleep(0.2)


def jobs() -> list[Job]:
    """Every job that was submitted to the cluster, newest first."""
    with _client() as client:
        known = [_job(details) for details in client.list_jobs() if details.submission_id]
    return sorted(known, key=lambda job: job.started_s or 0, reverse=True)


def job(submission_id: str) -> Job:
    """One job. Raises ClusterError, with the ids there are, if it is not known."""
    with _client() as client:
        return _job(_info(client, submission_id))


def refuse_large(folder: Path, limit_bytes: int = PACKAGE_LIMIT_BYTES) -> int:
    """The size in bytes of what Ray would copy of `folder`, by .gitignore and .rayignore.

    Raises ValueError that names the largest files if it is above the limit.
    """
    if not folder.is_dir():
        raise ValueError(say("working directory not found: {folder}", folder=folder))
    _quiet()
    sizes: dict[Path, int] = {}

    def weigh(path: Path) -> None:
        if path.is_file():
            sizes[path] = path.stat().st_size

    ray_private.for_each_packed(folder, weigh)
    total = sum(sizes.values())
    if total > limit_bytes:
        largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:5]
        named = "\n".join(f"  {sizes[path] / 1e6:8.1f} MB  {path.relative_to(folder)}" for path in largest)
        raise ValueError(
            say(
                "{folder} is {total:.0f} MB and Ray copies it for every job; allowed are "
                "{limit_bytes:.0f}. The largest files:\n{named}\nMove data to {data} and name it there, or "
                "add these to .rayignore.",
                folder=folder,
                total=total / 1e6,
                limit_bytes=limit_bytes / 1e6,
                named=named,
                data=paths.data(),
            )
        )
    return total


def _quiet() -> None:
    """The commands say in their own words what these would; what Ray leaves out of a copy, .rayignore says."""
    for name in ray_private.LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)


class _LostError(ClusterError):
    """The connection to the cluster is gone, perhaps for a moment."""


@contextmanager
def _client() -> Iterator[JobSubmissionClient]:
    """A client that carries the token, and errors in words."""
    there = cluster.find()
    if there is None:
        raise _LostError(say("No Ray cluster is running here. Start one: minimind cluster start."))
    _quiet()
    try:
        with _addressed(there):
            yield JobSubmissionClient(there.dashboard_url, headers={"Authorization": f"Bearer {access.token(there)}"})
    except AuthenticationError:
        raise ClusterError(access.refused(there)) from None
    except (ConnectionError, requests.RequestException, aiohttp.ClientError) as error:
        raise _LostError(
            say(
                "The Ray cluster at {dashboard_url} does not answer ({name}).",
                dashboard_url=there.dashboard_url,
                name=type(error).__name__,
            )
        ) from None
    except RuntimeError as error:
        if isinstance(error, ClusterError):
            raise
        # The client knows this one type for everything that the server answers.
        raise ClusterError(
            say("The Ray cluster at {dashboard_url} says: {error}", dashboard_url=there.dashboard_url, error=error)
        ) from None


@contextmanager
def _addressed(there: Cluster) -> Iterator[None]:
    """Ray's client lets RAY_API_SERVER_ADDRESS and RAY_ADDRESS win over its argument, and HTTP_PROXY over loopback."""
    wanted = access.environment(there)
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _info(client: JobSubmissionClient, submission_id: str) -> JobDetails:
    try:
        return client.get_job_info(submission_id)
    except RuntimeError as error:
        if not ray_private.is_unknown(error):
            raise
    known = [details.submission_id for details in client.list_jobs() if details.submission_id]
    raise ClusterError(
        say(
            "The Ray cluster knows no job {submission_id!r} (it forgets its jobs when it is "
            "restarted). It knows: {known}.",
            submission_id=submission_id,
            known=", ".join(sorted(known)) or "none",
        )
    )


def _job(details: JobDetails) -> Job:
    return Job(
        submission_id=details.submission_id or "",
        run=(details.metadata or {}).get("run", ""),
        kind=(details.metadata or {}).get("kind", "run"),
        status=str(details.status),
        message=details.message or "",
        started_s=None if details.start_time is None else details.start_time / 1000,
        ended_s=None if not details.end_time else details.end_time / 1000,
    )
