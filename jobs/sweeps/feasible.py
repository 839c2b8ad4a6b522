"""Which points of a space fit a card, and which are still open. What does not fit is never started."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from jobs import paths
from jobs.fit.plan import how_many_fit
from jobs.stages import flags
from jobs.stages.spec import RunSpec
from jobs.stages.weights import trained_parameters
from minimind.config import override
from minimind.language import say
from tune_spaces import SPACES
from tune_spaces.around import Around
from tune_spaces.distribution import Choices, Largest, LogUniform, Space, read_space

ROWS, ACCUMULATION, WIDTH = "loop.batch_size", "loop.accumulation_steps", "data.max_seq_len"

OWN = (
    "loop.max_steps", "loop.epochs", "loop.log_interval", "loop.eval_interval", "loop.save_interval",
    "loop.keep_last", "loop.keep_best", "loop.out_of_memory", "eval.sample_tokens",
)  # fmt: skip
"""What a sweep decides for each of its trials: they train for --budget_s, and nothing of them is kept."""

DECIDED = (
    "name", "seed", "stage", "scaling", "memory", "eval", "data.path", "data.tokenizer", "init_from", *OWN,
)  # fmt: skip
"""What no space may vary: the sweep decides it, or trials that differ in it could not be compared."""


Point = dict[str, Any]
"""Values by dotted path."""


@dataclass(frozen=True)
class Group:
    """Points that differ in batch_size alone. points: the settings of each, by ascending batch_size. fitting: how many
    of them, from the first on, fit.
    """

    points: tuple[Point, ...]
    fitting: int

    @property
    def feasible(self) -> tuple[Point, ...]:
        """Those that fit."""
        return self.points[: self.fitting]

    @property
    def refused(self) -> tuple[Point, ...]:
        """Those that do not."""
        return self.points[self.fitting :]


def space_of(name: str, run: RunSpec) -> Space:
    """The space of this name around a run, or the one in this file. Raises ValueError."""
    if name in SPACES:
        return SPACES[name](Around(run.model, run.loop, run.optim, run.data.max_seq_len))
    if not name.endswith(".json"):
        raise ValueError(
            say(
                "space {name!r}: there are {spaces}, or your own: a file whose name ends in .json",
                name=name,
                spaces=", ".join(SPACES),
            )
        )
    return read_space(paths.existing(name, say("space")))


def require_space(base: RunSpec, space: Space) -> None:
    """Raise ValueError for a space with paths that are not there, values that a run may not have, or settings that a
    sweep decides itself; all of them at once.
    """
    problems = []
    for path, values in space.items():
        if path.startswith("model.") and base.weights is not None:
            problems.append(say("{path}: a stage that begins with weights has their shape", path=path))
            continue
        if isinstance(values, Largest) and path != ROWS:
            problems.append(say("{path}: only {rows} may be the largest that fits", path=path, rows=ROWS))
            continue
        if any(path == own or path.startswith(f"{own}.") for own in DECIDED):
            problems.append(say("{path}: a sweep cannot vary it, its trials would not be comparable", path=path))
            continue
        for value in values.ends:
            try:
                read = flags.at(override(base, {path: value}), path)
            except ValueError as error:
                if str(error) in problems:  # the path is wrong, whatever the value
                    break
                problems.append(str(error))
                continue
            if isinstance(value, str) and not isinstance(read, str):
                problems.append(say("{path} = {value!r}: without quotes, {read!r}", path=path, value=value, read=read))
            elif isinstance(values, LogUniform) and isinstance(read, int):
                problems.append(
                    say("{path}: a range holds numbers that are not whole; name the values in a list", path=path)
                )
                break
    if problems:
        raise ValueError(say("the space:\n") + "\n".join(problems))


def require_open(settings: Mapping[str, Any]) -> None:
    """Raise ValueError for settings that a sweep decides itself: it would pass them over; and for no workers."""
    if str(settings.get("scaling.workers")) == "0":
        raise ValueError(
            say("--workers 0: a sweep needs Ray Tune; --workers says how many trials run at once, at least 1")
        )
    if given := [flags.named(path) for path in settings if path in OWN]:
        raise ValueError(
            say(
                "{given}: a sweep decides this for each of its trials, which train for --budget_s "
                "seconds and are not kept: leave it out",
                given=", ".join(given),
            )
        )


def groups(base: RunSpec, space: Space, fits: Callable[[RunSpec], bool]) -> list[Group]:
    """Every point of the space, and how far batch_size may go for each combination of all else.

    What a step needs grows with its rows, so the border is found by bisection. Where batch_size or max_seq_len is
    varied and accumulation_steps is not, it is what keeps the tokens of a step, and a point for which it would not be
    whole does not exist. A range of numbers is judged at its upper end. Of models that differ in size the smaller
    come first: then to be near in the list is to be alike, which is what a searcher learns from.
    """
    others = {path: values.choices for path, values in space.items() if isinstance(values, Choices) and path != ROWS}
    highest = {path: values.high for path, values in space.items() if isinstance(values, LogUniform)}
    rows = space.get(ROWS, Choices(choices=(base.loop.batch_size,)))
    if isinstance(rows, LogUniform):
        raise ValueError(say("the space: {rows} takes a list of values, not a range", rows=ROWS))
    result = []
    for values in product(*others.values()):
        combination = dict(zip(others, values, strict=True))
        wanted = [_kept(base, {**combination, ROWS: count}) for count in sorted(set(rows.ends))]
        points = tuple(point for point in wanted if point is not None)
        if points:
            fitting = how_many_fit([override(base, point | highest) for point in points], fits)
            if isinstance(rows, Largest):
                points, fitting = (points[max(fitting, 1) - 1],), min(fitting, 1)
            result.append(Group(points, fitting))
    if not result:
        tokens = base.loop.batch_size * base.loop.accumulation_steps * base.data.max_seq_len
        raise ValueError(
            say(
                "the space has no point: no batch_size x max_seq_len in it divides the {tokens} tokens "
                "of a step (batch_size x accumulation_steps x max_seq_len of the run); change one of them",
                tokens=tokens,
            )
        )
    return sorted(result, key=lambda group: _parameters(base, group.points[0]))


class Pool:
    """The points that may still be tried, for any searcher: it draws a number from [0, 1).

    repeat: whether a point may be drawn again, as where there is a range of numbers beside it.
    """

    def __init__(self, found: Iterable[Group], *, repeat: bool) -> None:
        self.found = list(found)
        self.points = [point for group in self.found for point in group.feasible]
        self.repeat = repeat
        self._open = dict.fromkeys(range(len(self.points)))

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def draw(self, u: float) -> Point:
        """The open point that is nearest to the share u of all that fit; it is taken. Raises IndexError if none is."""
        if not self._open:
            raise IndexError(say("every point that fits has been tried"))
        wanted = min(math.floor(u * len(self.points)), len(self.points) - 1)
        index = min(self._open, key=lambda index: abs(index - wanted))
        if not self.repeat:
            del self._open[index]
        return self.points[index]

    def place(self, point: Mapping[str, Any]) -> float | None:
        """The u that stands for a point; None for one that does not fit or is not in the space."""
        return (self.points.index(dict(point)) + 0.5) / len(self.points) if point in self.points else None

    def close(self, point: Mapping[str, Any]) -> None:
        """The point has been tried."""
        if not self.repeat and point in self.points:
            self._open.pop(self.points.index(dict(point)), None)

    def learn(self, point: Mapping[str, Any]) -> list[Point]:
        """The point ran out of memory: as many rows or more, all else alike, are not started. Gives those closed."""
        group = next((group for group in self.found if point in group.points), None)
        beyond = group.points[group.points.index(dict(point)) :] if group else ()
        closed = [index for index in self._open if self.points[index] in beyond]
        for index in closed:
            del self._open[index]
        return [self.points[index] for index in closed]


def _parameters(base: RunSpec, point: Point) -> int:
    """How many numbers a model has; 0 where all points have the same."""
    return trained_parameters(override(base, point)) if any(path.startswith("model.") for path in point) else 0


def _kept(base: RunSpec, point: Point) -> Point | None:
    """The point with the accumulation that keeps the tokens of a step; None if it would not be whole."""
    if ACCUMULATION in point:
        return point
    tokens = base.loop.batch_size * base.loop.accumulation_steps * base.data.max_seq_len
    steps, rest = divmod(tokens, point[ROWS] * point.get(WIDTH, base.data.max_seq_len))
    return None if rest or not steps else {**point, ACCUMULATION: steps}
