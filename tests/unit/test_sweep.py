from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from jobs import paths
from jobs.fit.card import this_card
from jobs.fit.needs import Needs
from jobs.fit.plan import Planner
from jobs.runs.directory import RunDirectory, RunStateError, RunTakenError
from jobs.stages.origin import new_spec
from jobs.sweeps import sweep as sweeps
from jobs.sweeps.feasible import OWN, Group, groups, space_of
from jobs.sweeps.report import ranked
from jobs.sweeps.sweep import (
    DIED,
    Halving,
    PointSearch,
    SweepSpec,
    attempt,
    best_settings,
    extended,
    make_search,
    remove_dead,
    require_feasible,
    score,
    sweep,
    trial_folder,
)
from jobs.sweeps.view import begun_trials, trials_of
from jobs.training.request import JobRequest, SweepOptions
from jobs.training.run import resolve, start
from minimind.config import override
from minimind.events import EventLog
from tests.disk import files_limited_to
from tests.small import SETTINGS, Screen, small_spec
from tune_spaces.distribution import Choices, LogUniform, Space

SPACE: Space = {"data.max_seq_len": Choices(choices=(16, 32)), "loop.batch_size": Choices(choices=(1, 2, 4))}
SPEC = SweepSpec(
    name="s",
    run=override(small_spec(), {"name": "s", "scaling.workers": None}),
    space=SPACE,
    objective="tokens_per_s",
    trials=9,
)
FOUND = groups(SPEC.run, SPACE, lambda run: run.loop.batch_size * run.data.max_seq_len <= 64)
MEASURED = {"outcome": "measured", "bits_per_byte": 3.0, "tokens_per_s": 100.0, "time_total_s": 1.0}


def asked(settings: dict[str, Any], space: str | None = None, **how: Any) -> JobRequest:
    """A sweep of pretraining."""
    return JobRequest(stage="pretrain", settings=settings, sweep=SweepOptions(space=space), **how)


@pytest.fixture
def folder(home: Path) -> RunDirectory:
    folder = RunDirectory(paths.sweeps() / "s", "sweep")
    folder.create(SPEC.model_dump(mode="json"))
    return folder


def search_of(folder: RunDirectory, log: EventLog, spec: SweepSpec = SPEC, found: list[Group] = FOUND) -> PointSearch:
    return make_search(spec, found, trials_of(folder), log, Screen())


def play(search: PointSearch, result: dict[str, Any] | None, *, error: bool = False) -> dict[str, Any]:
    trial_id = str(search.number)
    drawn = search.suggest(trial_id)
    assert isinstance(drawn, dict)
    search.on_trial_complete(trial_id, result, error)
    return drawn


def test_it_survives_a_round_through_its_folder(folder: RunDirectory) -> None:
    assert SweepSpec.model_validate(folder.spec()) == SPEC
    ranges = SPEC.model_copy(update={"space": {"optim.learning_rate": LogUniform(low=1e-4, high=1e-2)}})
    assert SweepSpec.model_validate(json.loads(ranges.model_dump_json())) == ranges


def test_every_feasible_point_is_tried_once_and_no_other(folder: RunDirectory) -> None:
    with EventLog(folder.events_path) as log:
        search = search_of(folder, log)
        for _ in range(5):
            play(search, MEASURED)
        assert search.suggest("more") == Searcher.FINISHED
    tried = [trial["settings"] for trial in trials_of(folder)]
    feasible = [point for group in FOUND for point in group.feasible]
    assert sorted(map(str, tried)) == sorted(map(str, feasible))
    assert trials_of(folder)[0]["tokens_per_s"] == 100.0
    assert "time_total_s" not in trials_of(folder)[0]


def test_what_was_tried_before_a_kill_counts_and_is_not_tried_again(folder: RunDirectory) -> None:
    with EventLog(folder.events_path) as log:
        search = search_of(folder, log)
        play(search, MEASURED)
        play(search, {**MEASURED, "tokens_per_s": 300.0})
        search.suggest("killed while it ran")
    with EventLog(folder.events_path) as log:
        again = search_of(folder, log)
        assert again.number == 3
        seen = [play(again, MEASURED)["settings"] for _ in range(3)]
        assert again.suggest("more") == Searcher.FINISHED
        study = again.inner._ot_study  # type: ignore[attr-defined]
        assert [trial.value for trial in study.get_trials()[:2]] == [100.0, 300.0]
    assert all(settings not in seen for settings in (trial["settings"] for trial in trials_of(folder)[:2]))


def test_a_loss_that_an_older_program_wrote_as_nan_is_none(folder: RunDirectory) -> None:
    with EventLog(folder.events_path) as log:
        for loss in (float("nan"), 2.5):
            log.note("trial", "", **{"trial": 1, "settings": {}, **MEASURED, "bits_per_byte": loss})
    assert [trial["bits_per_byte"] for trial in trials_of(folder)] == [None, 2.5]
    assert [trial["bits_per_byte"] for trial in ranked(trials_of(folder), "bits_per_byte")] == [2.5]


def test_the_count_of_trials_holds_over_attempts(folder: RunDirectory) -> None:
    spec = SPEC.model_copy(update={"trials": 2})
    with EventLog(folder.events_path) as log:
        play(search_of(folder, log, spec), MEASURED)
        search = search_of(folder, log, spec)
        play(search, MEASURED)
        assert search.suggest("more") == Searcher.FINISHED


def test_out_of_memory_is_a_result_that_closes_what_needs_no_less(folder: RunDirectory) -> None:
    with EventLog(folder.events_path) as log:
        search = search_of(folder, log)
        point = play(search, {"outcome": "infeasible", "reason": "no memory"})["settings"]
        later = []
        while isinstance(search.suggest("x"), dict):
            later.append(search.running["x"][1])
            search.on_trial_complete("x", MEASURED)
            search.inner._completed_trials.clear()  # type: ignore[attr-defined]
            del search.inner._ot_trials["x"]  # type: ignore[attr-defined]
    assert trials_of(folder)[0]["outcome"] == "infeasible"
    for settings in later:
        same = settings["data.max_seq_len"] == point["data.max_seq_len"]
        assert not (same and settings["loop.batch_size"] >= point["loop.batch_size"])
    with EventLog(folder.events_path) as log:
        assert len(search_of(folder, log).pool) == 0


def test_what_dies_or_ends_early_is_written_down_and_the_others_go_on(folder: RunDirectory) -> None:
    with EventLog(folder.events_path) as log:
        search = search_of(folder, log)
        play(search, None, error=True)
        play(search, {"outcome": "failed", "reason": "a bug"})
        play(search, {"bits_per_byte": 4.0, "tokens_per_s": 10.0})
        assert isinstance(search.suggest("next"), dict)
    outcomes = [(trial["outcome"], trial.get("reason", "")[:16]) for trial in trials_of(folder)]
    assert outcomes == [("failed", "its process died"), ("failed", "a bug"), ("ended early", "")]


def test_a_full_disk_ends_the_search(folder: RunDirectory) -> None:
    with EventLog(folder.events_path) as log:
        search = search_of(folder, log)
        play(search, {"outcome": "disk full", "reason": "no space"})
        assert search.suggest("more") == Searcher.FINISHED
        assert "the disk is full, trial 1" in search.problem
        search = search_of(folder, log)
        search.suggest("2")
        with files_limited_to(folder.events_path.stat().st_size + 10):
            search.on_trial_complete("2", MEASURED)
        assert "trial 2 could not be written down" in search.problem
        assert search.suggest("more") == Searcher.FINISHED


def test_a_range_is_drawn_beside_the_point(folder: RunDirectory) -> None:
    space = {
        "optim.learning_rate": LogUniform(low=1e-4, high=1e-2),
        "optim.schedule": Choices(choices=("wsd", "cosine")),
    }
    spec = SPEC.model_copy(update={"space": space})
    found = groups(spec.run, spec.space, lambda run: True)
    with EventLog(folder.events_path) as log:
        search = search_of(folder, log, spec, found)
        rates = {play(search, MEASURED)["settings"]["optim.learning_rate"] for _ in range(4)}
        assert len(rates) == 4
        assert all(1e-4 <= rate <= 1e-2 for rate in rates)
        assert search_of(folder, log, spec, found).number == 5


def test_what_measured_nothing_is_worse_than_anything() -> None:
    assert score("tokens_per_s", {"outcome": "failed"}) < score("tokens_per_s", MEASURED)
    assert score("bits_per_byte", {"outcome": "failed"}) > score("bits_per_byte", MEASURED)


def test_a_space_by_its_name_or_its_file(home: Path) -> None:
    (home / "mine.json").write_text('{"loop.batch_size": [1, 2]}')
    assert list(space_of("mine.json", SPEC.run)) == ["loop.batch_size"]
    assert "optim.schedule" in space_of("rate", SPEC.run)
    with pytest.raises(ValueError, match="space 'bach': there are batch, rate, rank"):
        space_of("bach", SPEC.run)
    with pytest.raises(ValueError, match="space not found"):
        space_of("gone.json", SPEC.run)


def test_a_continued_sweep_takes_more_trials_and_nothing_else() -> None:
    assert extended(SPEC, "pretrain", {}, SweepOptions(trials=30)).trials == 30
    assert extended(SPEC, "pretrain", {"loop.batch_size": 4}, SweepOptions(objective="tokens_per_s")) == SPEC
    with pytest.raises(ValueError, match="keeps its settings") as caught:
        extended(SPEC, "pretrain", {"optim.learning_rate": 9}, SweepOptions(space="rank", objective="bits_per_byte"))
    assert all(path in str(caught.value) for path in ("run.optim.learning_rate", "objective", "space"))
    with pytest.raises(ValueError, match="stage sft, not pretrain"):
        extended(SPEC, "sft", {}, SweepOptions())


def test_a_continued_sweep_knows_the_weights_it_was_started_with_by_their_name(home: Path) -> None:
    start(small_spec(loop__max_steps=1), Screen())
    run, _ = resolve(override(SPEC.run, {"init_from": "small"}), None, Screen())
    stored = SPEC.model_copy(update={"run": run})
    assert run.init_from == "small@1"
    assert extended(stored, "pretrain", {"init_from": "small"}, SweepOptions()) == stored


def test_an_empty_space_says_what_stands_in_the_way_and_what_helps() -> None:
    planner = Planner(this_card("1MB"), Needs())
    space: Space = {"loop.batch_size": Choices(choices=(8,))}
    found = groups(SPEC.run, space, planner.fits)
    with pytest.raises(ValueError, match=r"no point of the space fits CPU, limited to 1 MB") as caught:
        require_feasible(SPEC, found, planner)
    text = str(caught.value)
    assert "--batch_size 8 --max_seq_len 32" in text
    assert "most of it: " in text
    assert "The nearest that fits" in text
    require_feasible(SPEC, FOUND, planner)


def test_the_best_point_is_a_spec_that_train_takes() -> None:
    point = {"loop.batch_size": 2, "loop.accumulation_steps": 4}
    settings = best_settings(SPEC, point)
    assert "name" not in settings
    assert settings.items() >= point.items()
    made = override(small_spec(), {"scaling.workers": 1, **point})
    again = new_spec("pretrain", {**settings, "name": made.name})
    assert again == made


def test_the_best_point_names_its_weights_and_what_else_would_be_chosen_for_it(home: Path) -> None:
    start(small_spec(loop__max_steps=1), Screen())
    named = {"init_from": "small", "roles.teacher": "small@1"}
    usual = new_spec("distill", named)  # and on policy these would be others
    own = {"optim.learning_rate": usual.optim.learning_rate, "loop.accumulation_steps": usual.loop.accumulation_steps}
    for given, point in (
        ({"stage.on_policy": True, **own}, {"loop.batch_size": 4}),
        ({}, {"stage.on_policy": True}),
        ({}, {"loop.batch_size": 4}),
    ):
        run, _ = resolve(override(new_spec("distill", {**named, **given}), {"name": "s"}), None, Screen())
        made = override(run, {"scaling.workers": 1, **point})
        settings = best_settings(SPEC.model_copy(update={"run": run}), point)
        assert new_spec("distill", {**settings, "name": "s"}) == made


def test_sweeps_that_cannot_begin(home: Path, folder: RunDirectory) -> None:
    given = {path: value for path, value in SETTINGS.items() if path not in ("scaling.workers", *OWN)}
    screen = Screen()
    for path in OWN:
        with pytest.raises(ValueError, match=f"{path}.*: a sweep decides this for each of its trials"):
            sweep(asked(given | {path: "1"}), screen)
    with pytest.raises(RunStateError, match="the sweep 's' exists already"):
        sweep(asked(given | {"name": "s"}), screen)
    with folder.hold(), pytest.raises(RunStateError, match="the sweep 's' is running already"):
        sweep(asked(given | {"name": "s"}, from_resume=True), screen)
    with pytest.raises(ValueError, match="no sweep 'other'.*leave --from_resume out"):
        sweep(asked({"name": "other"}, from_resume=True), screen)
    with pytest.raises(ValueError, match="--model 30m: a continued sweep keeps its model"):
        sweep(
            JobRequest(stage="pretrain", settings={"name": "s"}, sweep=SweepOptions(), from_resume=True, model="30m"),
            screen,
        )
    with pytest.raises(ValueError, match="--workers 0: a sweep needs Ray Tune"):
        sweep(
            JobRequest(stage="pretrain", settings=given | {"name": "t", "scaling.workers": 0}, sweep=SweepOptions()),
            screen,
        )
    (home / "bad.json").write_text('{"loop.batchsize": [1]}')
    with pytest.raises(ValueError, match="no setting 'batchsize' in 'loop'; names there: batch_size"):
        sweep(asked(given | {"name": "t"}, space="bad.json"), screen)
    assert not (paths.sweeps() / "t").exists()


def test_the_states_of_a_sweep_are_those_it_went_through(folder: RunDirectory) -> None:
    """SUCCEEDED is said when best.json and the report are there, and whatever goes wrong is said too."""
    seen: list[str] = []

    def body(log: EventLog) -> bool:
        seen.append(folder.state().word)
        return len(seen) > 1

    assert not attempt(folder, folder.identity, 9, body)
    assert folder.state().word == "STOPPED"
    folder.leave_stop()
    assert attempt(folder, folder.identity, 9, body)
    assert folder.state().word == "SUCCEEDED"
    assert not folder.stop_requested()  # an old wish to stop does not stop the new attempt
    assert seen == ["RUNNING", "RUNNING"]

    def broken(log: EventLog) -> bool:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        attempt(folder, folder.identity, 9, broken)
    assert (folder.state().word, folder.state().reason) == ("FAILED", "'a bug'")
    with pytest.raises(RunTakenError, match="the sweep 's' was created anew"):
        attempt(folder, "another", 9, body)
    assert folder.state().word == "FAILED"


def test_a_stop_begins_no_more_trials(folder: RunDirectory) -> None:
    with EventLog(folder.events_path) as log:
        search = make_search(SPEC, FOUND, [], log, Screen(), stop=folder.stop_requested)
        play(search, MEASURED)
        search.suggest("it runs")
        folder.leave_stop()
        assert search.suggest("one more") == Searcher.FINISHED
        assert not search.whole
        search.on_trial_complete("it runs", MEASURED)
        assert not search.whole
        whole = make_search(SPEC.model_copy(update={"trials": 2}), FOUND, trials_of(folder), log, Screen())
        assert whole.whole


def test_no_number_is_given_twice(folder: RunDirectory) -> None:
    """A trial of a driver that was killed may still be writing into its folder."""
    with EventLog(folder.events_path) as log:
        search = search_of(folder, log)
        play(search, MEASURED)
        search.suggest("killed")
        (killed,) = begun_trials(folder)
        assert killed["trial"] == 2
        again = make_search(SPEC, FOUND, trials_of(folder), log, Screen(), begun=killed["trial"])
        assert play(again, MEASURED)["number"] == 3


def test_what_a_killed_trial_left_is_removed_unless_it_lives(folder: RunDirectory) -> None:
    with EventLog(folder.events_path) as log:
        search = search_of(folder, log)
        search.suggest("dead")
        search.suggest("alive")
    for number in (1, 2):
        run = RunDirectory(trial_folder(folder, number))
        run.create({})
        (run.checkpoints / "step_00000001").mkdir(parents=True)
    with RunDirectory(trial_folder(folder, 2)).hold():
        remove_dead(folder, begun_trials(folder))
    assert not trial_folder(folder, 1).exists()
    assert trial_folder(folder, 2).exists()


ERRORS = {
    "an import": ("ray::_trial()\n  File x\nImportError: No module named 'jobs'\n", "ImportError: No module"),
    "a class of its own": ("Traceback\nray.exceptions.RaySystemError: System error: x\n(pid)", "ray.exceptions"),
    "a process": ("The actor died unexpectedly.\n\tpid: 3\nWorker exit detail: SIGKILL", f"{DIED}: Worker"),
    "nothing": ("", DIED),
    "other words": ("something\nelse", "else"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_the_words_of_an_error_are_kept(folder: RunDirectory, case: str) -> None:
    text, words = ERRORS[case]

    class Failed:
        trial_id = "1"

        def get_error(self) -> str:
            return text

    with EventLog(folder.events_path) as log:
        search = search_of(folder, log)
        search.suggest("1")
        Halving(search).on_trial_error(None, Failed())
        search.on_trial_complete("1", None, error=True)
    (trial,) = trials_of(folder)
    assert trial["outcome"] == "failed"
    assert trial["reason"].startswith(words)


def test_a_machine_without_the_folder_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIMIND_HOME", str(home))
    config = {"sweep": "/none", "home": str(home), "threads": 1, "objective": "tokens_per_s", "number": 1}
    result = sweeps._trial(config | {"settings": {}})
    assert result["outcome"] == "failed"
    assert result["reason"].startswith(f"{socket.gethostname()}: /none/spec.json cannot be read")
    assert result["score"] == 0.0
