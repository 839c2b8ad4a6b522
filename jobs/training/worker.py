"""What each training process runs, on a Ray Train worker or in the user's own process: build, resume, train, record."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import nn

import minimind.checkpoints.checkpoint as checkpoints
from jobs.fit.card import this_card, worker_share
from jobs.runs import samples
from jobs.runs.directory import RunDirectory, RunStateError, RunTakenError
from jobs.runs.tensorboard import TensorBoard
from jobs.stages.spec import RunSpec, other_results
from jobs.stages.stage import HeldOut
from jobs.stages.table import STAGES
from jobs.text.prepare import Prepared
from jobs.training.build import Built, build
from jobs.training.environment import environment
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.checkpoint import Lineage
from minimind.checkpoints.manifest import CheckpointError, weights_sha256
from minimind.device.distributed import Parallel
from minimind.device.limit import limited_memory
from minimind.events import Event, EventLog, all_series, best_first, read_events, validations, went_back
from minimind.language import phrase, say
from minimind.network.lora import adapter_state, load_adapter
from minimind.network.model import MiniMind
from minimind.training.batch import Batch
from minimind.training.evaluate import Validation, continuation, validate
from minimind.training.gate import Fall, Measured, fallen
from minimind.training.loop import NonFiniteLossError, is_over, train
from minimind.training.objectives import Objective, next_token_loss
from minimind.training.out_of_memory import DoesNotFitError, beyond_rungs
from minimind.training.policy import Examined, JudgedBatch
from minimind.training.recipe import GeneratingSource, RemarkingSource, ReturningSource
from minimind.training.train_state import TrainState
from minimind.units import duration

ENOUGH_MEASURED = {
    "dpo": (20, "pairs of answers"),
    "kto": (20, "answers"),
    "rl": (20, "prompts"),
    "pretrain": (200, "tokens"),
}
"""Kind of rows -> how much of what has to be held out, below which a run says that its validation tells little; other
kinds are as plain text. Of 20 pairs one is 5 points of accuracy.
"""

FEW_FACTS = 30
"""Questions that are answered right; of fewer, chance hides what is forgotten."""

FEW_STEPS = 10
"""Below so many, a run that learns by trying says that they are few."""

EXPECTED_FAILURES = (ValueError, CheckpointError, DoesNotFitError, NonFiniteLossError, RunStateError)
"""Failures that would come again: they end the run with their message instead of starting workers anew."""

FAILED_TOGETHER_S = 20.0
"""How long another rank waits for rank 0 to record the failure that both should have."""

ALARMS = ("alarm", "calm")
"""Kinds of notes that have a cause, and are made once in a run."""

NOTE_S = 10.0
"""Between two notes on how far it is with something that takes long."""

PATIENCE_S = 30.0
"""How long a worker that is started anew waits for the lock of the one before, which may still be dying."""


def work(
    spec: RunSpec,
    prepared: Prepared,
    run: RunDirectory,
    parallel: Parallel,
    listener: Callable[[Event], None] | None = None,
) -> None:
    """Train until done, stopped or failed. Rank 0 holds the run's lock and is the only one that writes into its folder.

    Failures of `EXPECTED_FAILURES` are recorded and end normally (the state says FAILED); others are recorded and
    raised, so that whoever started the process may try again. listener: told of each event that is written.

    Raises RunTakenError, on every rank, where the run is another process's: nothing is written into its folder then.
    """
    with ExitStack() as stack:
        _claim(run, spec, prepared.identity, parallel, stack)
        log = stack.enter_context(EventLog(run.events_path, listener=listener)) if parallel.rank == 0 else None
        try:
            with (
                limited_memory(parallel.device, limit_bytes(spec, parallel)),
                beyond_rungs(say("outside the steps of training")),
            ):
                hooks, state, finished = _train(spec, prepared, run, parallel, log, stack)
        except BaseException as error:
            if log is not None:
                log.state("FAILED", reason=str(error) or type(error).__name__, traceback=traceback.format_exc())
            if not isinstance(error, EXPECTED_FAILURES) or (log is None and not _failed_together(run)):
                raise
        else:
            if log is not None:
                log.state("SUCCEEDED" if finished else "STOPPED")
            if finished:
                with limited_memory(parallel.device, limit_bytes(spec, parallel)):
                    hooks.write_samples(state)


def _claim(run: RunDirectory, spec: RunSpec, identity: str | None, parallel: Parallel, stack: ExitStack) -> None:
    """Let rank 0 hold the run, if it is the one that this training was prepared for: by its identity, or where that is
    not known by its settings.
    """
    problem = ""
    if parallel.rank == 0:
        try:
            stack.enter_context(run.hold(PATIENCE_S))
            if identity is not None:
                run.require_identity(identity)
            elif changed := other_results(RunSpec.model_validate(run.spec()), spec):
                raise RunTakenError(
                    say(
                        "{path} is not what is to be trained: it has other {changed}",
                        path=run.spec_path,
                        changed=", ".join(changed),
                    )
                )
        except RunTakenError as error:
            problem = str(error)
    # A rank that did not know would wait in its first collective for ever.
    if problem := parallel.gather(problem)[0]:
        raise RunTakenError(problem)


def limit_bytes(spec: RunSpec, parallel: Parallel) -> int | None:
    """What tensors may take: of a GPU what is left beside context and display, of a CPU what is to be emulated."""
    if parallel.device.type != "cuda" and spec.memory.vram is None:
        return None
    share = worker_share(spec.scaling, parallel.device)
    return this_card(spec.memory.vram, device=parallel.device, share=share).tensor_bytes


def _train(
    spec: RunSpec, prepared: Prepared, run: RunDirectory, parallel: Parallel, log: EventLog | None, stack: ExitStack
) -> tuple[RunHooks, TrainState, bool]:
    """The hooks that have watched, where the run stands, and whether nothing is left to learn."""
    built = build(spec, prepared, parallel, _noting(log) if log is not None else None)
    recipe = built.recipe
    hooks = RunHooks(spec, prepared, run, parallel, built, log)
    state = hooks.resume()
    if log is not None:
        hooks.tensorboard = stack.enter_context(TensorBoard(run.path / "tensorboard", state.step + 1))
        log.state(
            "RUNNING",
            step=state.step,
            total_steps=recipe.total_steps,
            world=parallel.world,
            environment={**environment(parallel, prepared.command, prepared.typed), "dtype": recipe.precision.name},
        )
    hooks.recall_validations()
    train(recipe, state, hooks, parallel)
    finished = is_over(recipe, state)
    if finished:
        hooks.remark(state)
    return hooks, state, finished


def _noting(log: EventLog) -> Callable[[str, int, int], None]:
    """Notes how far it is with what frozen models are asked before the training, every few seconds."""
    started = last = time.monotonic()

    def progress(role: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < NOTE_S:
            return
        last = now
        text = say(
            "what roles.{role} says of the rows: {percent:.0f} %, {left} left",
            role=role,
            percent=100 * done / total,
            left=duration((now - started) * (total - done) / done),
        )
        log.note("annotating", text)

    return progress


def _failed_together(run: RunDirectory) -> bool:
    """Whether rank 0 has failed as well. If only another rank did, raising there is what frees rank 0 from waiting."""
    deadline = time.monotonic() + FAILED_TOGETHER_S
    while time.monotonic() < deadline:
        if run.state().word == "FAILED":
            return True
        time.sleep(0.2)
    return False


class RunHooks:
    """What the loop calls around its steps, written into the run's folder by rank 0."""

    def __init__(
        self,
        spec: RunSpec,
        prepared: Prepared,
        run: RunDirectory,
        parallel: Parallel,
        built: Built,
        log: EventLog | None,
    ) -> None:
        self.spec = spec
        self.run = run
        self.parallel = parallel
        self.built = built
        self.recipe = built.recipe
        self.event_log = log
        self.lineage = Lineage(
            run_id=spec.name,
            parent_run=prepared.parent_run,
            parent_step=prepared.parent_step,
            data_fingerprint=prepared.data_fingerprint,
        )
        self._sampling = STAGES[spec.stage.kind].sampling(spec.model)
        self.validations: dict[int, dict[str, float]] = {}
        self.series: dict[str, tuple[list[int], list[float]]] = {}
        self.raised: set[str] = set()
        self.returns: dict[int, int] = {}
        self._saved: int | None = None
        self.tensorboard: TensorBoard | None = None

    def resume(self) -> TrainState:
        """Continue from the newest checkpoint that verifies, on every rank; a fresh state where there is none."""
        folder, skipped = checkpoint_folders.newest(self.run.checkpoints)
        if self.event_log is not None:
            for text in skipped:
                self.event_log.note("checkpoint_skipped", text)
        if folder is None:
            return TrainState()
        loaded = checkpoints.load(folder, expect=self.spec.model)
        saved = cast(dict[str, Any], loaded.train_state)
        self.built.tokenizer.require_same(loaded.tokenizer_fingerprint, str(folder))
        if loaded.lineage.data_fingerprint != self.lineage.data_fingerprint:
            raise ValueError(
                say(
                    "{folder} was trained on other data: its fingerprint is {then}, that of {path} is now {now}. Bring "
                    "the old file back, or start a new run from these weights with --name OTHER --from_weight "
                    "{name}@latest",
                    folder=folder,
                    then=loaded.lineage.data_fingerprint,
                    path=self.spec.data.path,
                    now=self.lineage.data_fingerprint,
                    name=self.spec.name,
                )
            )
        self.lineage, self._saved = loaded.lineage, loaded.step
        own = self.recipe.precision.name
        self._learnt(loaded, saved)
        if (kept := self.recipe.precision.name) != own:
            text = say(
                "the run goes on in {kept}, as it began; on what it has now a new run would take {own}",
                kept=kept,
                own=own,
            )
            self.note("precision", text, dtype=kept)
        self.recipe.batches.load_state_dict(self._own_source_state(saved["batches"]))
        if self.parallel.rank < len(saved["rng"]):
            self.parallel.set_rng_state(saved["rng"][self.parallel.rank])
        return TrainState(**saved["state"])

    def _learnt(self, loaded: checkpoints.Checkpoint, saved: dict[str, Any]) -> None:
        """Let weights, optimizer and loss scale be those of a checkpoint."""
        self._load(loaded)
        for role, weights in saved.get("modules", {}).items():
            self.recipe.models[role].load_state_dict(weights)
        self.recipe.optimizer.load_state_dict(saved["optimizer"])
        self.recipe.precision.load_state_dict(saved)

    def _own_source_state(self, saved: Any) -> dict[str, Any]:
        """What this rank's source was saved as. Raises ValueError where there were more or fewer ranks and each had
        made batches of its own.
        """
        states: list[dict[str, Any]] = saved if isinstance(saved, list) else [saved]  # there was one for all ranks once
        if not isinstance(self.recipe.batches, GeneratingSource):
            return states[0]
        if len(states) != self.parallel.world:
            raise ValueError(
                say(
                    "scaling.workers = {world}: the run's {count} had each made batches that are not trained on yet, "
                    "so it goes on with as many: --workers {count}",
                    world=self.parallel.world,
                    count=len(states),
                )
            )
        return states[self.parallel.rank]

    def _load(self, loaded: checkpoints.Checkpoint) -> None:
        """Weights of every role that is trained. Raises CheckpointError where a frozen role had other ones."""
        if self.built.adapter is None:
            self.built.policy.load_state_dict(loaded.weights)
        else:
            load_adapter(self.built.policy, loaded.weights)
        for role, weights in loaded.roles.items():
            self.recipe.models[role].load_state_dict(weights)
        for role, was in loaded.references.items():
            if role in self.spec.stage.does_without:  # older runs kept it all the same
                continue
            now = self.built.references.get(role)
            if now is None or now.weights_sha256 != was.weights_sha256:
                raise CheckpointError(
                    say(
                        "{folder}: roles.{role} was step {step} of the run {run_id!r} in {was}, and is {now} now; a "
                        "run keeps its models",
                        folder=loaded.folder,
                        role=role,
                        step=was.step,
                        run_id=was.run_id,
                        was=was.folder,
                        now=say("{folder}, with other weights", folder=now.folder) if now else say("not named"),
                    )
                )

    def recall_validations(self) -> None:
        """What earlier attempts measured up to where this one starts; its RUNNING event has cut off the rest."""
        known: dict[int, dict[str, float]] = {}
        if self.event_log is not None:
            events = read_events(self.run.events_path)
            self.series, self.returns = all_series(events), went_back(events)
            known = validations(self.series)
            back = max(self.returns, default=-1)
            self._forget(back)
            alarms = [event for event in events if event["type"] == "note" and event["kind"] in ALARMS]
            self.raised = {event["cause"] for event in alarms if event["step"] > back}
        self.validations = self.parallel.gather(known)[0]

    def log(self, state: TrainState, metrics: dict[str, float]) -> None:
        """One row of training metrics."""
        self._metrics(state.step, {**metrics, "train/tokens": state.tokens})

    def note(self, kind: str, text: str, **details: Any) -> None:
        """One note in the run's events."""
        if self.event_log is not None:
            self.event_log.note(kind, text, **details)

    def evaluate(self, state: TrainState) -> None:
        """What held-out rows show at this step, unless an earlier attempt has measured it."""
        if state.step in self.validations:
            return
        answers: list[Examined] = []
        found = self._validate(self.recipe.objective, self.built.held_out, state, answers)
        if not found.tokens:
            return
        values = {"val/loss": found.loss}
        if found.text_bytes:
            values["val/bits_per_byte"] = found.bits_per_byte
        values |= {f"val/{name}": value for name, value in found.metrics.items()}
        if self.built.text is not None:
            values["val/pretrain_bits_per_byte"] = self._validate(next_token_loss, self.built.text, state).bits_per_byte
        if self.built.facts is not None:
            asked = self._validate(self.recipe.objective, self.built.facts, state).metrics
            if "right" in asked:  # of none could it be told where no right answer has text
                values["val/facts"] = asked["right"]
        best = self.spec.eval.best
        if best not in values and not self.validations:  # later it may be that nobody could tell
            raise ValueError(
                say(
                    "eval.best = {best!r}: what is measured on held-out rows is {names}",
                    best=best,
                    names=", ".join(sorted(values)),
                )
            )
        if not self.validations:
            self._note_few(found.tokens)
            self._note_unknown(values)
            self._note_few_steps(self.built.recipe.total_steps)
        self.validations[state.step] = values
        everyone = [one for of_rank in self.parallel.gather(answers) for one in of_rank]
        if self.event_log is not None and everyone:
            samples.keep(self.run, state.step, everyone, self.spec.seed)
        self._metrics(state.step, values)

    def judge(self, state: TrainState) -> None:
        """Go back to the best checkpoint, at a lower rate, where what is held out became too much worse; at first see
        to it that there is one. After the last return that is allowed the run ends there. Where nobody could tell what
        is right, nothing is decided.
        """
        gate, values = self.spec.stage.held_to, self.validations.get(state.step, {})
        if gate is None or "val/right" not in values or state.judged == state.step:
            return
        state.judged = state.step
        prompts = round(self.built.held_out.rows * values.get("val/right_known", 1.0))
        now = Measured(
            values["val/right"],
            prompts,
            values.get("val/pretrain_bits_per_byte"),
            values.get("val/facts"),
            self.built.facts.rows if self.built.facts is not None else 0,
        )
        if state.good < 0:
            state.text, state.facts = now.text or 0.0, now.facts or 0.0
        fall = fallen(gate, state.right, state.text, state.facts, now) if state.good >= 0 else None
        if fall is None:
            if state.good < 0 or now.right >= state.right:
                state.good, state.right = state.step, now.right
                if self._saved != state.step:
                    self.save(state)
            return
        self._go_back(state)
        state.ended = is_over(self.recipe, state) or state.returns >= gate.returns
        if not state.ended:
            state.returns += 1
            state.rate *= gate.slower
        self._note_return(state, fall, now)
        self.returns[state.step] = state.good
        self._forget(state.step)
        self.save(state)

    def _forget(self, step: int) -> None:
        """What was drawn up to this step was drawn by a policy that is no more: alarms look at what comes, and may be
        raised again.
        """
        self.raised = set()
        for name, (steps, values) in self.series.items():
            if not name.startswith("val/"):
                kept = [(at, value) for at, value in zip(steps, values, strict=True) if at > step]
                self.series[name] = ([at for at, _ in kept], [value for _, value in kept])

    def _go_back(self, state: TrainState) -> None:
        """Learn from the good checkpoint on, with the data that comes now: what came was tried by a policy that is no
        more, and the steps of the schedule that it took are gone.
        """
        loaded = checkpoints.load(checkpoint_folders.folder_of(self.run.checkpoints, state.good), self.spec.model)
        saved = cast(dict[str, Any], loaded.train_state)
        self._learnt(loaded, saved)
        source = self.recipe.batches
        assert isinstance(source, ReturningSource), f"{type(source).__name__} cannot go back"
        source.go_back(self._own_source_state(saved["batches"]))
        state.empty = 0

    def _note_return(self, state: TrainState, fall: Fall, now: Measured) -> None:
        """What became worse, and what is done about it."""
        if fall == "right":
            cause = say(
                "right answers to held-out prompts fell from {before:.1f} to {now:.1f} %",
                before=100 * state.right,
                now=100 * now.right,
            )
        elif fall == "facts":
            assert now.facts is not None
            cause = say(
                "right answers to questions of eval.facts_path fell from {before:.1f} to {now:.1f} %",
                before=100 * state.facts,
                now=100 * now.facts,
            )
        else:
            assert now.text is not None
            cause = say(
                "held-out plain text went from {before:.3f} to {now:.3f} bits per byte",
                before=state.text,
                now=now.text,
            )
        if fall != "right" and not self.spec.data.mix:
            cause += say(" (a run with --set data.mix=0.1 replays what was learnt before)")
        if state.ended:
            text = say(
                "step {step}: {cause}. The run ends here, after {returns} returns, at its best checkpoint, that of "
                "step {good}. Look at minimind show RUN --samples: the reward may pay for something else than you "
                "want.",
                step=state.step,
                cause=cause,
                returns=state.returns,
                good=state.good,
            )
        else:
            text = say(
                "step {step}: {cause}. The run goes back to the weights of step {good}, and on with {rate:g} times the "
                "learning rate.",
                step=state.step,
                cause=cause,
                good=state.good,
                rate=state.rate,
            )
        self.note("return", text, step=state.step, good=state.good, fall=fall, rate=state.rate, ended=state.ended)

    def _note_few(self, measured: float) -> None:
        """A note where what is held out is too little to tell anything. measured: how much, in the loss's own unit."""
        rows = STAGES[self.spec.stage.kind].rows
        least, unit = ENOUGH_MEASURED.get(rows, ENOUGH_MEASURED["pretrain"])
        if measured < least:
            text = say(
                "Validation has only {count:.0f} {unit} to measure on: its numbers tell little. Name a file of "
                "held-out rows with --set eval.path=FILE",
                count=measured,
                unit=phrase(unit),
            )
            # Of few prompts as many are held out as there may be.
            text += "." if self.spec.eval.least_documents else say(", or hold out more: --set eval.fraction=0.1.")
            self.note("few_held_out", text)

    def _note_unknown(self, values: dict[str, float]) -> None:
        """A note where the questions of `eval.facts_path` cannot be held against the run."""
        count = self.built.facts.rows if self.built.facts is not None else 0
        if count and (known := values.get("val/facts", 0.0) * count) < FEW_FACTS:
            text = say(
                "Of the {count} questions of eval.facts_path {known:.0f} are answered right: too few for the gate to "
                "see what is forgotten. Name questions that the weights know, some dozens or more.",
                count=count,
                known=known,
            )
            self.note("few_facts", text)

    def _note_few_steps(self, steps: int) -> None:
        """A note where a run that learns by trying has too few prompts for more than some steps."""
        loop = self.spec.loop
        if STAGES[self.spec.stage.kind].rows == "rl" and steps < FEW_STEPS and steps != loop.max_steps:
            text = say(
                "The prompts are enough for {steps} steps only, and trying learns little in each. More of them, or "
                "more passes over them (--epochs {epochs}), make a longer run.",
                steps=steps,
                epochs=loop.epochs * math.ceil(2 * FEW_STEPS / steps),
            )
            self.note("few_steps", text)

    def _validate(
        self, objective: Objective, held_out: HeldOut, state: TrainState, answers: list[Examined] | None = None
    ) -> Validation:
        """answers: takes those of this rank that were examined."""
        recipe = self.recipe

        def batches() -> Iterator[Batch]:
            for batch in held_out.batches():
                if answers is not None and isinstance(batch, JudgedBatch):
                    answers.extend(batch.examined)
                yield batch

        return validate(
            recipe.models,
            objective,
            batches(),
            held_out.text_bytes,
            recipe.precision,
            self.parallel,
            rows_at_once=state.rows_at_once,
        )

    def save(self, state: TrainState) -> None:
        """A checkpoint of this step, then the old ones that nobody needs are removed."""
        rng = self.parallel.gather(self.parallel.rng_state())
        batches = [self.recipe.batches.state_dict()]
        if isinstance(self.recipe.batches, GeneratingSource):
            batches = self.parallel.gather(batches[0])
        problem, self._saved = "", state.step
        if self.event_log is not None:
            try:
                self._save(state, rng, batches, self.event_log)
            except CheckpointError as error:
                problem = str(error)
        # A rank that went on alone would wait for ever for one that could not save.
        if problem := next(filter(None, self.parallel.gather(problem)), ""):
            raise CheckpointError(problem)

    def should_stop(self, state: TrainState) -> bool:
        """Whether somebody has put a STOP file into the run's folder."""
        return self.parallel.rank == 0 and self.run.stop_requested()

    def remark(self, state: TrainState) -> None:
        """A note of what the stage has to say of its metrics, from the first validation to the last, or to that of the
        checkpoint that a gate has ended the run at.
        """
        remark = STAGES[self.spec.stage.kind].remark
        if self.event_log is None or remark is None:
            return
        measured = {
            name.removeprefix("val/"): values
            for name, (_, values) in all_series(read_events(self.run.events_path, {"metrics"})).items()
            if name.startswith("val/")
        }
        first, last = ({name: values[at] for name, values in measured.items()} for at in (0, -1))
        if state.ended:
            last = {name.removeprefix("val/"): value for name, value in self.validations[state.good].items()}
        if text := remark(first, last):
            self.note("remark", text)

    def write_samples(self, state: TrainState) -> None:
        """Continue the spec's prompts with the final weights, into samples.jsonl. The run has succeeded whatever
        becomes of them: a failure is a note.
        """
        if self.event_log is None:
            return
        try:
            self._write_samples(state)
        except Exception as error:  # noqa: BLE001  # all has been learnt and saved by now
            text = say("no samples were written: {error}", error=str(error) or type(error).__name__)
            self.note("no_samples", text, traceback=traceback.format_exc())

    def _write_samples(self, state: TrainState) -> None:
        tokenizer, config, written_after = self.built.tokenizer, self.spec.eval, STAGES[self.spec.stage.kind].prompt
        if written_after is None:
            return
        lines = []
        for prompt in config.prompts if config.sample_tokens else ():
            ids = continuation(
                self.built.policy,
                written_after(tokenizer, prompt),
                max_tokens=config.sample_tokens,
                eos_id=tokenizer.eos_id,
                temperature=self._sampling.temperature,
                seed=self.spec.seed,
            )
            # A model that has hardly learnt anything writes ids that no text has: their names would hide the rest.
            special = set(tokenizer.special_ids.values())
            text = tokenizer.decode(token for token in ids if token not in special)
            lines.append({"step": state.step, "prompt": prompt, "continuation": text})
        samples.write(self.run, [one for one in samples.read(self.run) if samples.KEPT in one] + lines)

    def _save(
        self, state: TrainState, rng: list[dict[str, torch.Tensor]], batches: list[dict[str, Any]], log: EventLog
    ) -> None:
        started = time.perf_counter()
        trained = self._trained_roles()
        folder = checkpoints.save(
            self.run.checkpoints,
            state.step,
            model_config=self.spec.model,
            weights=adapter_state(self.built.policy) if self.built.adapter else self.built.policy.state_dict(),
            roles={role: model for role, model in trained.items() if isinstance(model, MiniMind)},
            references=self.built.references,
            tokenizer=self.built.tokenizer,
            train_state={
                "state": state.state_dict(),
                "optimizer": self.recipe.optimizer.state_dict(),
                **self.recipe.precision.state_dict(),
                "batches": batches,
                "rng": rng,
                "modules": {
                    role: dict(model.state_dict()) for role, model in trained.items() if not isinstance(model, MiniMind)
                },
            },
            lineage=self.lineage,
            adapter=self.built.adapter,
            sampling=self._sampling,
            architecture=self.built.policy.architecture,
        )
        seconds = round(time.perf_counter() - started, 2)
        digest = weights_sha256(folder)  # what remains of a checkpoint that is removed: another run can be held to it
        log.checkpoint(state.step, folder.relative_to(self.run.path), save_s=seconds, weights_sha256=digest)
        there = checkpoint_folders.steps(self.run.checkpoints)
        best = self.spec.eval.best
        # A kill may have left a return that is noted and not made, so what was measured stays beside it.
        stand = {step: self.validations.get(self.returns.get(step, step), {}) for step in self.validations}
        judged = {step: values[best] for step, values in stand.items() if best in values}
        on_disk = [step for step in best_first(judged, self.spec.eval.best_is) if step in there]
        loop = self.recipe.loop
        checkpoint_folders.prune(self.run.checkpoints, loop.keep_last, [*on_disk[: loop.keep_best], state.good])

    def _trained_roles(self) -> dict[str, nn.Module]:
        """What is trained beside the policy, by role. Models lie in the checkpoint as such; anything else is of use to
        nobody but the run that goes on.
        """
        return {
            role: model
            for role, model in self.recipe.models.items()
            if role != "policy" and any(parameter.requires_grad for parameter in model.parameters())
        }

    def _metrics(self, step: int, values: dict[str, float]) -> None:
        if self.event_log is not None and self.tensorboard is not None:
            self.event_log.metrics(step, values)
            self.tensorboard.add(step, values)
            self._raise_alarms(step, values)

    def _raise_alarms(self, step: int, values: dict[str, float]) -> None:
        """Note what these metrics, after all before them, are to be warned of for the first time."""
        alarms = STAGES[self.spec.stage.kind].alarms
        if alarms is None:
            return
        for name, value in values.items():
            steps, known = self.series.setdefault(name, ([], []))
            steps.append(step)
            known.append(value)
        source = self.recipe.batches
        problems = source.problems() if isinstance(source, RemarkingSource) else {}
        for alarm in alarms(self.series, self.built.held_out.rows, problems):
            if alarm.cause not in self.raised:
                self.raised.add(alarm.cause)
                self.note("calm" if alarm.calm else "alarm", alarm.text, cause=alarm.cause, step=step)
