"""The training loop. There is one, for every stage: nothing else calls `backward` or `optimizer.step`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from minimind.device.deterministic import deterministic
from minimind.device.distributed import Parallel
from minimind.device.limit import count_tensors, is_limited, is_out_of_memory
from minimind.language import say
from minimind.training.batch import Batch
from minimind.training.meter import Meter, RowsLoss, Sums
from minimind.training.out_of_memory import (
    DoesNotFitError,
    Ladder,
    Shortage,
    beyond_rungs,
    generate_less,
    release,
    shortage_in,
    shortage_of,
)
from minimind.training.precision import Precision
from minimind.training.recipe import BatchSource, GeneratingSource, Recipe, RemarkingSource
from minimind.training.train_state import TrainState


class Hooks(Protocol):
    """What a run does around its steps. Each is called on every rank, at the same steps."""

    def log(self, state: TrainState, metrics: dict[str, float]) -> None:
        """Metrics of the steps since the last call."""
        ...

    def note(self, kind: str, text: str, **details: Any) -> None:
        """Something happened that changes or explains the run. kind: one word to search for."""
        ...

    def evaluate(self, state: TrainState) -> None:
        """Measure the weights as they are; change nothing."""
        ...

    def judge(self, state: TrainState) -> None:
        """Look at what was measured at this step, which is one that a run that was never stopped measures. It may put
        the models and the optimizer back to a checkpoint, lower `state.rate`, or end the run by `state.ended`.
        """
        ...

    def save(self, state: TrainState) -> None:
        """Write a checkpoint."""
        ...

    def should_stop(self, state: TrainState) -> bool:
        """Whether this rank has been asked to stop; one rank is enough to stop all."""
        ...


NOTED_WHEN_EMPTY = 8
"""Steps in a row without anything to learn from that are noted, and again whenever they are twice as many."""


class NonFiniteLossError(RuntimeError):
    """Too many steps in a row had a loss or gradient that is not a number."""


def train(recipe: Recipe, state: TrainState, hooks: Hooks, parallel: Parallel) -> TrainState:
    """Step until the data ends, `recipe.total_steps` is reached or a hook asks to stop. The last step is always saved.

    The gradient is that of sum(total) / sum(weight) over all micro-batches and workers of the step. A step whose loss
    or gradient is not finite is refused on all ranks alike and noted with its rows; its data is not seen again. A step
    without a single unit of weight changes nothing and does not count; after some in a row what is held out is looked
    at. A step that runs out of memory on any rank is taken again by all of them with less in memory at once
    (`minimind.training.out_of_memory`). Where memory is limited the worst there can be is computed, and nothing learnt
    from it, before the first step and, when the optimizer has made its state, after it: so memory runs out in the first
    minute or not at all.

    Raises NonFiniteLossError after `loop.max_bad_steps` refused steps in a row, DoesNotFitError where memory runs out
    and nothing is left that would spare some.
    """
    stepper = _Stepper(recipe, state, hooks, parallel)
    config, meter = recipe.loop, stepper.meter
    last = is_over(recipe, state)
    if not last:
        stepper.try_worst()
    hooks.evaluate(state)
    if last or _due(state.step, config.eval_interval):
        hooks.judge(state)
        last = is_over(recipe, state)
    first = True
    while not last:
        accepted, asked_to_stop = stepper.step()
        if accepted and first:
            stepper.try_worst()
            first = False
        finished = is_over(recipe, state)
        last = finished or asked_to_stop
        if last:
            stepper.note_end()
        if meter.steps and (last or state.step % config.log_interval == 0):
            hooks.log(state, meter.read(state, recipe.precision))
        if last or (accepted and _due(state.step, config.save_interval)):
            hooks.save(state)
            stepper.saved = True
        if finished or (accepted and _due(state.step, config.eval_interval)) or _is_empty(state):
            hooks.evaluate(state)
            hooks.judge(state)
            stepper.saved = stepper.saved or state.good >= 0
            if not last and is_over(recipe, state):
                last = True
                if meter.steps:
                    hooks.log(state, meter.read(state, recipe.precision))
    return state


def _is_empty(state: TrainState) -> bool:
    """Whether it is time to say that there is nothing to learn from, and to see whether all has been lost."""
    return state.empty >= NOTED_WHEN_EMPTY and state.empty.bit_count() == 1


def is_over(recipe: Recipe, state: TrainState) -> bool:
    """Whether nothing is left to learn."""
    return recipe.batches.done or state.step >= recipe.total_steps or state.ended


class _Stepper:
    """Optimizer steps of one run on one rank. saved: whether there is a checkpoint to go back to."""

    def __init__(self, recipe: Recipe, state: TrainState, hooks: Hooks, parallel: Parallel) -> None:
        self.recipe, self.state, self.hooks, self.parallel = recipe, state, hooks, parallel
        models, optimizer = recipe.models, recipe.optimizer
        self.parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        trainable = {id(p) for model in models.values() for p in model.parameters() if p.requires_grad}
        assert {id(p) for p in self.parameters} == trainable, "the optimizer must hold exactly what asks for a gradient"
        parallel.same_(parameter.data for parameter in self.parameters)
        self.ladder = Ladder(state, models, recipe.batches, allow_shorter=recipe.loop.allow_shorter)
        count_tensors([[*model.parameters(), *model.buffers()] for model in models.values()], optimizer.state_dict())
        self.limited = is_limited(parallel.device)
        self.meter = Meter(parallel)
        self.begun, self.ever_empty = state.step, False
        self.saved = state.step > 0  # only a checkpoint brings a run beyond its beginning

    def step(self) -> tuple[bool, bool]:
        """One step over the next micro-batches: whether it changed the weights, and whether a rank is to stop."""
        state, precision = self.state, self.recipe.precision
        self.meter.start()
        micro_batches = self.take()
        self.meter.data_ready()
        if isinstance(self.recipe.batches, RemarkingSource):
            for text in self.recipe.batches.remarks():
                self.hooks.note("not_judged", text)
        losses, sums = self.compute(micro_batches)
        loss, weight = sums.pairs.get("train/loss", (0.0, 0.0))
        accepted = False
        if weight != 0:
            norm, rate = self.update(loss, weight)
            accepted = rate is not None
            if rate is not None:
                state.step += 1
                state.bad_steps = 0
                state.tokens += sums.tokens
                self.meter.finish(sums, norm, rate)
            else:
                state.bad_steps += 1
                state.skipped_steps += 1
                _note_refusal(self.hooks, state, precision, self.parallel, losses, norm)
            precision.scaler.update()
        self.recipe.optimizer.zero_grad(set_to_none=True)
        self._require_progress()
        state.empty = state.empty + 1 if weight == 0 else 0
        self.ever_empty = self.ever_empty or weight == 0
        if _is_empty(state):
            self._note_emptiness()
        return accepted, sums.stop

    def note_end(self) -> None:
        """Say so where the data has ended and nothing was learnt from any of it, or it made fewer steps than it has."""
        step, total = self.state.step, self.recipe.total_steps
        if step == self.begun:
            if 0 < self.state.empty < NOTED_WHEN_EMPTY:
                self._note_emptiness()
        elif self.ever_empty and self.recipe.batches.done and step < total:
            text = say(
                "the data ends after step {step}, and not after {total}: steps from which there was nothing to learn "
                "do not count",
                step=step,
                total=total,
            )
            self.hooks.note("fewer_steps", text)

    def take(self) -> Sequence[Batch]:
        """The micro-batches of this rank for the next step. Where making them runs out of memory on any rank, all ranks
        make theirs again with less at once.
        """
        source, count = self.recipe.batches, self.recipe.loop.accumulation_steps
        if not (self.limited and isinstance(source, GeneratingSource)):
            return source.take(count)
        while True:
            before, random = source.state_dict(), self.parallel.rng_state()
            taken, shortage = _taken(source, count)
            shortage = Shortage.over([found for found in self.parallel.gather(shortage) if found is not None])
            if shortage is None:
                return taken
            del taken
            self._require_adapting(shortage)
            release(self.parallel.device)
            source.load_state_dict(before)
            self.parallel.set_rng_state(random)
            self._note_shortage(shortage, generate_less(source, shortage))

    def compute(self, micro_batches: Sequence[Batch]) -> tuple[list[RowsLoss], Sums]:
        """Gradients of the micro-batches with as little in memory at once as every rank needs; this rank's losses, and
        the sums of all ranks.
        """
        recipe, parallel = self.recipe, self.parallel
        random = parallel.rng_state() if self.limited else None
        while True:
            with deterministic(parallel.device, recipe.loop.deterministic):
                losses, sums = _accumulate(recipe, micro_batches, parallel, self.ladder)
            sums.stop, sums.peak_bytes = self.hooks.should_stop(self.state), parallel.peak_memory_bytes()
            # No collective comes before this one, so all ranks learn here whether one ran out of memory.
            sums = Sums.over(parallel.gather(sums))
            shortage = Shortage.over(sums.shortages)
            if shortage is None:
                return losses, sums
            self._require_adapting(shortage)
            recipe.optimizer.zero_grad(set_to_none=True)
            release(parallel.device)
            if random is not None:
                parallel.set_rng_state(random)
            self._note_shortage(shortage, self.ladder.descend(shortage))

    def try_worst(self) -> None:
        """Compute the worst there can be as a step would, with gradients of an earlier micro-batch where there can be
        some, and leave no trace of it.
        """
        recipe = self.recipe
        if recipe.worst is None or not self.limited:
            return
        random = self.parallel.rng_state()
        beside = [recipe.beside] if recipe.beside is not None else []
        self.compute([recipe.worst] * min(2, recipe.loop.accumulation_steps) + beside)
        recipe.optimizer.zero_grad(set_to_none=True)
        self._try_worst_take()
        self.parallel.set_rng_state(random)

    def _try_worst_take(self) -> None:
        source = self.recipe.batches
        if not isinstance(source, GeneratingSource):
            return
        while True:
            found = shortage_of(source.worst_take)
            shortage = Shortage.over([part for part in self.parallel.gather(found) if part is not None])
            if shortage is None:
                return
            self._require_adapting(shortage)
            release(self.parallel.device)
            self._note_shortage(shortage, generate_less(source, shortage))

    def update(self, loss: float, weight: float) -> tuple[float, float | None]:
        """The gradient's norm, and the learning rate; None where the update is refused and nothing has changed."""
        recipe, state = self.recipe, self.state
        # There is no way back from half an update, nor from gradients that some ranks have summed and others not.
        where = "in the optimizer's step, which cannot be taken again"
        if self.saved:
            where = "in the optimizer's step, which cannot be taken again; the last checkpoint is good"
        with (
            beyond_rungs(where),
            deterministic(self.parallel.device, recipe.loop.deterministic),
        ):
            norm = _finish_gradients(recipe, self.parameters, self.parallel, weight)
            if not (math.isfinite(norm) and math.isfinite(loss)):
                return norm, None
            rate = state.rate * recipe.learning_rate(state.step)
            for group in recipe.optimizer.param_groups:
                group["lr"] = rate * group.get("lr_scale", 1.0)
            recipe.optimizer.step()
        return norm, rate

    def _require_progress(self) -> None:
        state, most = self.state, self.recipe.loop.max_bad_steps
        if state.bad_steps >= most:
            kept = say("; the last checkpoint is good") if self.saved else say(", and there is no checkpoint yet")
            raise NonFiniteLossError(
                say(
                    "step {step}: the loss or its gradient was not a number in {count} steps in a row (max_bad_steps = "
                    "{most}){kept}. Lower --learning_rate, try --dtype bfloat16 or float32, and look at the rows that "
                    "the notes in events.jsonl name.",
                    step=state.step,
                    count=state.bad_steps,
                    most=most,
                    kept=kept,
                )
            )

    def _note_emptiness(self) -> None:
        text = say(
            "after step {step}: there was nothing to learn from in {count} steps in a row; they change nothing and do "
            "not count",
            step=self.state.step,
            count=self.state.empty,
        )
        self.hooks.note("nothing_to_learn", text)

    def _require_adapting(self, shortage: Shortage) -> None:
        if self.recipe.loop.out_of_memory == "fail":
            raise DoesNotFitError(
                say(
                    "out of memory after step {step}, and loop.out_of_memory = fail. {cause}",
                    step=self.state.step,
                    cause=shortage.cause,
                )
            ) from torch.OutOfMemoryError(shortage.cause)

    def _note_shortage(self, shortage: Shortage, change: str) -> None:
        text = say("out of memory after step {step}: {change}", step=self.state.step, change=change)
        memory = {name: getattr(self.state, name) for name in ("rows_at_once", "checkpointing", "cuts")}
        self.hooks.note("out_of_memory", text, cause=shortage.cause, **memory)


def _taken(source: BatchSource, count: int) -> tuple[Sequence[Batch], Shortage | None]:
    """What the source gives, or what it is short of."""
    taken: Sequence[Batch] = ()

    def take() -> None:
        nonlocal taken
        taken = source.take(count)

    shortage = shortage_of(take)
    return taken, shortage


def _due(step: int, interval: int | None) -> bool:
    return interval is not None and step % interval == 0


def _accumulate(
    recipe: Recipe, micro_batches: Sequence[Batch], parallel: Parallel, ladder: Ladder
) -> tuple[list[RowsLoss], Sums]:
    """Forward and backward over this rank's micro-batches: adds to the gradients, gives the losses and their sums."""
    precision = recipe.precision
    computed: list[tuple[tuple[int, ...], dict[str, tuple[Tensor, Tensor]]]] = []
    at_hand: Batch | None = None
    try:
        count_tensors(micro_batches)
        for part in (part for batch in micro_batches for part in ladder.parts(batch)):
            at_hand = part
            with precision.autocast():
                loss = recipe.objective(recipe.models, part.to(parallel.device))
            torch.autograd.backward(precision.scaler.scale(loss.total))
            named = {"train/loss": (loss.total, loss.weight)}
            named |= {f"train/{name}": pair for name, pair in loss.metrics.items()}
            computed.append(
                (part.rows, {name: (total.detach(), weight.detach()) for name, (total, weight) in named.items()})
            )
            del loss, named  # what still hangs on the graph would live through the next forward pass
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # Where not even the rows themselves have room, fewer of them at once would not help.
        shortage = shortage_in(at_hand, error) if at_hand is not None else Shortage(1, 0, str(error))
        return [], Sums(shortages=[shortage])
    # Numbers are read when all work is under way: each reading waits for the GPU.
    sums = Sums(
        tokens=sum(batch.real_tokens for batch in micro_batches), slots=sum(batch.slots for batch in micro_batches)
    )
    losses: list[RowsLoss] = []
    for rows, values in computed:
        for name, (total, weight) in values.items():
            sums.add(name, float(total), float(weight))
        losses.append((rows, float(values["train/loss"][0])))
    return losses, sums


def _finish_gradients(recipe: Recipe, parameters: list[nn.Parameter], parallel: Parallel, weight: float) -> float:
    """Sum gradients over ranks, divide by the global weight, clip; gives the norm before clipping."""
    for parameter in parameters:
        if parameter.grad is None:  # nothing used it, or this rank had no rows in a short last step
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    parallel.sum_(gradients)
    recipe.precision.scaler.unscale_(recipe.optimizer)  # type: ignore[arg-type]  # needs no more of an optimizer than its groups
    norm = float(nn.utils.get_total_norm(gradients)) / weight
    torch._foreach_mul_(gradients, min(1.0, recipe.grad_clip / (norm + 1e-6)) / weight)
    return norm


def _note_refusal(
    hooks: Hooks, state: TrainState, precision: Precision, parallel: Parallel, losses: list[RowsLoss], norm: float
) -> None:
    """Say which rows a refused step had: those whose loss is not finite, or all where only the gradient is not."""
    everywhere = [item for part in parallel.gather(losses) for item in part]
    bad = [(rows, loss) for rows, loss in everywhere if not math.isfinite(loss)]
    where = {"step": state.step}
    text = (
        say("after step {step}: the loss is not a number; the step is skipped", **where)
        if bad
        else say("after step {step}: its gradient is not a number; the step is skipped", **where)
    )
    details: dict[str, Any] = {"grad_norm": norm}
    if precision.scaler.is_enabled():
        details["loss_scale"] = precision.scaler.get_scale()
        if not bad:
            scale = f"{details['loss_scale']:g}"
            text += say(" and the float16 loss scale {scale} halved (normal in the first steps)", scale=scale)
    hooks.note("step_skipped", text, rows=[row for rows, _ in bad or everywhere for row in rows], **details)
