"""The training loop. There is one, for every stage: nothing else calls `backward` or `optimizer.step`."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from minimind.batch import Batch
from minimind.config import Config
from minimind.deterministic import deterministic
from minimind.distributed import Parallel
from minimind.ladder import DoesNotFitError, Ladder, Shortage, beyond_rungs, release, shortage_in
from minimind.limit import count_tensors, is_limited, is_out_of_memory
from minimind.objectives import Models, Objective
from minimind.optim import Optimizer


class LoopConfig(Config):
    """How a run walks through its data."""

    batch_size: int = Field(default=8, ge=1, le=1 << 16, description="rows per forward pass on one worker")
    accumulation_steps: int = Field(default=1, ge=1, description="forward passes per optimizer step")
    epochs: int = Field(default=1, ge=1, description="passes over the data")
    max_steps: int | None = Field(default=None, ge=1, description="stop after this many optimizer steps, if sooner")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="autocast: auto takes bfloat16 where the GPU has it, else float16 on a GPU; on a CPU float32, or "
        "bfloat16 where that is measured to be clearly faster. Decided once, for all workers and the whole run",
    )
    deterministic: bool = Field(
        default=True,
        description="on a GPU, kernels that give the same bits every time, so that a resumed run ends as one that "
        "never stopped; false: faster ones. A CPU's always do",
    )
    activation_checkpointing: bool = Field(
        default=False, description="compute activations again in backward: less memory"
    )
    out_of_memory: Literal["adapt", "fail"] = Field(
        default="adapt", description="what a step does that runs out of memory: compute less at once, or end the run"
    )
    allow_shorter: bool = Field(
        default=False,
        description="where not even one row fits into memory: cut rows in half, documents are read in more pieces",
    )
    compile: bool = Field(
        default=False, description="torch.compile each block: a slow start, then a few percent faster"
    )
    log_interval: int = Field(default=10, ge=1, description="steps between two rows of training metrics")
    eval_interval: int | None = Field(
        default=None, ge=1, description="steps between two validations; default: a tenth of the run"
    )
    save_interval: int | None = Field(
        default=None, ge=1, description="steps between two checkpoints; default: a tenth of the run"
    )
    keep_last: int = Field(default=2, ge=1, description="how many of the newest checkpoints stay on disk")
    keep_best: int = Field(default=1, ge=0, description="how many of the best checkpoints, by validation, stay as well")
    max_bad_steps: int = Field(
        default=20, ge=1, description="steps in a row with a non-finite gradient before the run fails"
    )


class BatchSource(Protocol):
    """Where micro-batches come from: files, or rollouts made while the loop pulls."""

    @property
    def done(self) -> bool:
        """True when nothing is left; the same on every rank."""
        ...

    def take(self, count: int) -> Sequence[Batch]:
        """The micro-batches of this rank for the next step: `count`, or fewer (or none) where the data ends."""
        ...

    def stop_reading_ahead(self) -> bool:
        """Prepare nothing before it is taken, to spare memory; False where that was so already."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """The cursor, and whatever has been made and not yet taken."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go to where `state_dict` stood, so that the next `take` gives what it would have given there."""
        ...


@dataclass
class TrainState:
    """How far a run has come. It is saved with the weights and says all that the loop remembers.

    step: completed optimizer steps. tokens: real tokens seen by all workers. bad_steps: refused steps in a row.
    skipped_steps: refused steps in all. The rest is what `minimind.ladder` has done to spare memory: rows_at_once: how
    many rows are computed together, 0 for all of a micro-batch; checkpointing: whether activation checkpointing was
    turned on; cuts: how often every row is halved.
    """

    step: int = 0
    tokens: int = 0
    bad_steps: int = 0
    skipped_steps: int = 0
    rows_at_once: int = 0
    checkpointing: bool = False
    cuts: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self)


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

    def save(self, state: TrainState) -> None:
        """Write a checkpoint."""
        ...

    def should_stop(self, state: TrainState) -> bool:
        """Whether this rank has been asked to stop; one rank is enough to stop all."""
        ...


class NonFiniteLossError(RuntimeError):
    """Too many steps in a row had a loss or gradient that is not a number."""


DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""What autocast computes in, by name, from what every device has to what only newer ones have."""


class Precision:
    """Autocast in one dtype, and gradient scaling where that dtype is float16. It stays what it was for the life of a
    run: gradients in one dtype and a scaler's state for another do not go together.

    units_per_step: about how many units (tokens) one optimizer step sums over. The loss is a sum, not a mean, so the
    scaler starts that much lower; it finds its own way from there.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, units_per_step: int = 1) -> None:
        self.device = device
        self._initial = 2.0 ** (16 - math.ceil(math.log2(max(1, units_per_step))))
        self._set(dtype)

    def _set(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        scales = dtype == torch.float16
        self.scaler = torch.amp.GradScaler(self.device.type, init_scale=self._initial, enabled=scales)
        # The scale is made on first use, and the first step of a rank may have no rows to use it on.
        self.scaler.scale(torch.zeros((), device=self.device))

    @property
    def name(self) -> str:
        """That of the dtype, as `LoopConfig.dtype` has it."""
        return next(name for name, dtype in DTYPES.items() if dtype == self.dtype)

    def state_dict(self) -> dict[str, Any]:
        """`dtype` by name, and the `scaler`'s state."""
        return {"dtype": self.name, "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave, the dtype included. A state from before dtypes were kept has none: then
        this one's stays.
        """
        self._set(DTYPES[state.get("dtype", self.name)])
        self.scaler.load_state_dict(state["scaler"])

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """The context that a forward pass runs in."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """The autocast dtype that a `LoopConfig.dtype` means on the CPU or this process's own GPU, where nobody has
    measured.
    """
    if name != "auto":
        return DTYPES[name]
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def common_dtype(name: str, parallel: Parallel) -> torch.dtype:
    """The one that all ranks compute in: that of the least capable device. Where each took its own, gradients with and
    without a loss scale would be added up.
    """
    if name != "auto":
        return DTYPES[name]
    order = list(DTYPES.values())
    return min(parallel.gather(resolve_dtype(name, parallel.device)), key=order.index)


def train(
    models: Models,
    objective: Objective,
    batches: BatchSource,
    optimizer: Optimizer,
    learning_rate: Callable[[int], float],
    config: LoopConfig,
    state: TrainState,
    hooks: Hooks,
    *,
    precision: Precision,
    parallel: Parallel,
    total_steps: int,
    grad_clip: float,
    worst: Batch | None = None,
) -> TrainState:
    """Step until the data ends, `total_steps` is reached or a hook asks to stop. The last step is always saved.

    models: by role; exactly the parameters that ask for a gradient are trained, and `optimizer` holds them.
    objective: gives a `Loss` per micro-batch. learning_rate: the rate of step 0, 1, ... grad_clip: largest norm of a
    gradient that is used as it is. worst: a micro-batch that costs as much memory as one can. Where memory is limited
    it is computed, and nothing learnt from it, before the first step and, when the optimizer has made its state, after
    it: so memory runs out in the first minute or not at all.
    The gradient is that of sum(total) / sum(weight) over all micro-batches and workers of the step. A step whose loss
    or gradient is not finite is refused on all ranks alike and noted with its rows; its data is not seen again. A step
    without a single unit of weight changes nothing and does not count. A step that runs out of memory on any rank is
    taken again by all of them on the next rung of `minimind.ladder`.

    Raises NonFiniteLossError after `config.max_bad_steps` refused steps in a row, DoesNotFitError where memory runs out
    and no rung is left.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    trainable = {id(p) for model in models.values() for p in model.parameters() if p.requires_grad}
    assert {id(p) for p in parameters} == trainable, "the optimizer must hold exactly what asks for a gradient"
    parallel.same_(parameter.data for parameter in parameters)
    ladder = Ladder(state, models, batches.stop_reading_ahead, allow_shorter=config.allow_shorter)
    count_tensors([[*model.parameters(), *model.buffers()] for model in models.values()], optimizer.state_dict())

    def compute(micro_batches: Sequence[Batch]) -> tuple[list[_RowsLoss], _Sums]:
        """Gradients of the micro-batches on the first rung that every rank has the memory for; this rank's losses, and
        the sums of all ranks.
        """
        random = parallel.rng_state() if is_limited(parallel.device) else None
        while True:
            with deterministic(parallel.device, config.deterministic):
                losses, sums = _accumulate(models, objective, micro_batches, precision, parallel, ladder)
            sums.stop, sums.peak_bytes = hooks.should_stop(state), parallel.peak_memory_bytes()
            # No collective comes before this one, so all ranks learn here whether one ran out of memory.
            sums = _Sums.over(parallel.gather(sums))
            shortage = Shortage.over(sums.shortages)
            if shortage is None:
                return losses, sums
            if config.out_of_memory == "fail":
                raise DoesNotFitError(
                    f"out of memory after step {state.step}, and loop.out_of_memory = fail. {shortage.cause}"
                ) from torch.OutOfMemoryError(shortage.cause)
            optimizer.zero_grad(set_to_none=True)
            release(parallel.device)
            if random is not None:
                parallel.set_rng_state(random)
            text = f"out of memory after step {state.step}: {ladder.descend(shortage)}"
            standing = {name: getattr(state, name) for name in ("rows_at_once", "checkpointing", "cuts")}
            hooks.note("out_of_memory", text, cause=shortage.cause, **standing)

    def probe() -> None:
        """Compute the worst case as a step would, with gradients of an earlier micro-batch where there can be some, and
        leave no trace of it.
        """
        if worst is None or not is_limited(parallel.device):
            return
        random = parallel.rng_state()
        compute([worst] * min(2, config.accumulation_steps))
        optimizer.zero_grad(set_to_none=True)
        parallel.set_rng_state(random)

    last = batches.done or state.step >= total_steps
    saved = state.step > 0  # only a checkpoint brings a run beyond its beginning
    if not last:
        probe()
    hooks.evaluate(state)
    meter = _Meter(parallel)
    stepped = False
    while not last:
        meter.start()
        micro_batches = batches.take(config.accumulation_steps)
        meter.data_ready()
        losses, sums = compute(micro_batches)
        loss, weight = sums.pairs.get("train/loss", (0.0, 0.0))
        accepted = False
        if weight != 0:
            # There is no way back from half an update, nor from gradients that some ranks have summed and others not.
            kept = "; the last checkpoint is good" if saved else ""
            with (
                beyond_rungs(f"in the optimizer's step, which cannot be taken again{kept}"),
                deterministic(parallel.device, config.deterministic),
            ):
                norm = _finish_gradients(parameters, optimizer, precision, parallel, weight, grad_clip)
                accepted = math.isfinite(norm) and math.isfinite(loss)
                if accepted:
                    rate = learning_rate(state.step)
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                    optimizer.step()
            if accepted:
                state.step += 1
                state.bad_steps = 0
                state.tokens += sums.tokens
                meter.finish(sums, norm, rate)
            else:
                state.bad_steps += 1
                state.skipped_steps += 1
                _note_refusal(hooks, state, precision, parallel, losses, norm)
            precision.scaler.update()
        optimizer.zero_grad(set_to_none=True)
        if accepted and not stepped:
            probe()
            stepped = True
        if state.bad_steps >= config.max_bad_steps:
            kept = "; the last checkpoint is good" if saved else ", and there is no checkpoint yet"
            raise NonFiniteLossError(
                f"step {state.step}: the loss or its gradient was not a number in {state.bad_steps} steps in a row "
                f"(max_bad_steps = {config.max_bad_steps}){kept}. Lower --learning_rate, try --dtype bfloat16 or "
                f"float32, and look at the rows that the notes in events.jsonl name."
            )
        finished = batches.done or state.step >= total_steps
        last = finished or sums.stop
        if meter.steps and (last or state.step % config.log_interval == 0):
            hooks.log(state, meter.read(state, precision))
        if last or (accepted and _due(state.step, config.save_interval)):
            hooks.save(state)
            saved = True
        if finished or (accepted and _due(state.step, config.eval_interval)):
            hooks.evaluate(state)
    return state


def _due(step: int, interval: int | None) -> bool:
    return interval is not None and step % interval == 0


@dataclass
class _Sums:
    """What steps add up to, on one rank or over all. pairs: (sum, weight) by metric name, the loss among them.
    shortages: where memory ran out; then the rest means nothing.
    """

    pairs: dict[str, tuple[float, float]] = field(default_factory=dict)
    tokens: int = 0
    slots: int = 0
    peak_bytes: int = 0
    stop: bool = False
    shortages: list[Shortage] = field(default_factory=list)

    def add(self, name: str, total: float, weight: float) -> None:
        known = self.pairs.get(name, (0.0, 0.0))
        self.pairs[name] = (known[0] + total, known[1] + weight)

    @classmethod
    def over(cls, parts: Iterable[_Sums]) -> _Sums:
        """The parts together."""
        whole = cls()
        for part in parts:
            for name, (total, weight) in part.pairs.items():
                whole.add(name, total, weight)
            whole.tokens += part.tokens
            whole.slots += part.slots
            whole.peak_bytes = max(whole.peak_bytes, part.peak_bytes)
            whole.stop |= part.stop
            whole.shortages += part.shortages
        return whole


_RowsLoss = tuple[tuple[int, ...], float]
"""The rows of a micro-batch, and its loss."""


def _accumulate(
    models: Models,
    objective: Objective,
    micro_batches: Sequence[Batch],
    precision: Precision,
    parallel: Parallel,
    ladder: Ladder,
) -> tuple[list[_RowsLoss], _Sums]:
    """Forward and backward over this rank's micro-batches: adds to the gradients, gives the losses and their sums."""
    computed: list[tuple[tuple[int, ...], dict[str, tuple[Tensor, Tensor]]]] = []
    at_hand: Batch | None = None
    try:
        count_tensors(micro_batches)
        for part in (part for batch in micro_batches for part in ladder.parts(batch)):
            at_hand = part
            with precision.autocast():
                loss = objective(models, part.to(parallel.device))
            torch.autograd.backward(precision.scaler.scale(loss.total))
            named = {"train/loss": (loss.total, loss.weight), **loss.metrics}
            computed.append(
                (part.rows, {name: (total.detach(), weight.detach()) for name, (total, weight) in named.items()})
            )
            del loss, named  # what still hangs on the graph would live through the next forward pass
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # Where not even the rows themselves have room, fewer of them at once would not help.
        shortage = shortage_in(at_hand, error) if at_hand is not None else Shortage(1, 0, str(error))
        return [], _Sums(shortages=[shortage])
    # Numbers are read when all work is under way: each reading waits for the GPU.
    sums = _Sums(
        tokens=sum(batch.real_tokens for batch in micro_batches), slots=sum(batch.slots for batch in micro_batches)
    )
    losses: list[_RowsLoss] = []
    for rows, values in computed:
        for name, (total, weight) in values.items():
            sums.add(name, float(total), float(weight))
        losses.append((rows, float(values["train/loss"][0])))
    return losses, sums


def _finish_gradients(
    parameters: list[nn.Parameter],
    optimizer: Optimizer,
    precision: Precision,
    parallel: Parallel,
    weight: float,
    grad_clip: float,
) -> float:
    """Sum gradients over ranks, divide by the global weight, clip; gives the norm before clipping."""
    for parameter in parameters:
        if parameter.grad is None:  # nothing used it, or this rank had no rows in a short last step
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    parallel.sum_(gradients)
    precision.scaler.unscale_(optimizer)  # type: ignore[arg-type]  # needs no more of an optimizer than its groups
    norm = float(nn.utils.get_total_norm(gradients)) / weight
    torch._foreach_mul_(gradients, min(1.0, grad_clip / (norm + 1e-6)) / weight)
    return norm


def _note_refusal(
    hooks: Hooks, state: TrainState, precision: Precision, parallel: Parallel, losses: list[_RowsLoss], norm: float
) -> None:
    """Say which rows a refused step had: those whose loss is not finite, or all where only the gradient is not."""
    everywhere = [item for part in parallel.gather(losses) for item in part]
    bad = [(rows, loss) for rows, loss in everywhere if not math.isfinite(loss)]
    text = f"after step {state.step}: {'the loss' if bad else 'its gradient'} is not a number; the step is skipped"
    details: dict[str, Any] = {"grad_norm": norm}
    if precision.scaler.is_enabled():
        details["loss_scale"] = precision.scaler.get_scale()
        if not bad:
            text += f" and the float16 loss scale {details['loss_scale']:g} halved (normal in the first steps)"
    hooks.note("step_skipped", text, rows=[row for rows, _ in bad or everywhere for row in rows], **details)


class _Meter:
    """Time and sums since the last row of metrics."""

    def __init__(self, parallel: Parallel) -> None:
        self.parallel = parallel
        self.reset()

    def reset(self) -> None:
        self.sums = _Sums()
        self.steps = 0
        self.wait_s = self.busy_s = self.norm = self.rate = 0.0

    def start(self) -> None:
        self.started = time.perf_counter()

    def data_ready(self) -> None:
        self.waited_s = time.perf_counter() - self.started

    def finish(self, sums: _Sums, norm: float, rate: float) -> None:
        self.parallel.synchronize()
        self.busy_s += time.perf_counter() - self.started
        self.wait_s += self.waited_s
        self.sums = _Sums.over((self.sums, sums))
        self.steps += 1
        self.norm, self.rate = norm, rate

    def read(self, state: TrainState, precision: Precision) -> dict[str, float]:
        sums = self.sums
        metrics = {name: total / weight if weight else 0.0 for name, (total, weight) in sums.pairs.items()}
        metrics |= {
            "train/grad_norm": self.norm,
            "train/lr": self.rate,
            "train/skipped_steps": state.skipped_steps,
            "perf/tokens_per_s": sums.tokens / self.busy_s,
            "perf/step_s": self.busy_s / self.steps,
            "perf/data_wait_s": self.wait_s / self.steps,
            "perf/utilisation": sums.tokens / max(1, sums.slots),
            "perf/peak_memory_bytes": sums.peak_bytes,
        }
        if precision.scaler.is_enabled():
            metrics["train/loss_scale"] = precision.scaler.get_scale()
        self.reset()
        return metrics
