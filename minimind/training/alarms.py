"""What a run that learns by trying should be warned of, in plain words: its metrics so far -> alarms.

Each has a cause, by which a run notes it once. Bounds are such that no healthy run of docs/benchmarks.md raises one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from minimind.language import say
from minimind.training.gate import share_error

Series = Mapping[str, tuple[Sequence[int], Sequence[float]]]
"""Metric -> the steps at which it was measured, ascending, and its values."""

RECENT = 10
"""Steps that a mean is taken of: a single step is a few hundred answers to a few prompts."""

FEWEST = 5
"""Steps before which nothing is said of what is drawn."""

SETTLED = 0.02
"""Nats per token: of a hundred answers of ten tokens eighty are the same one."""

LEARNT = 0.9
"""From this share of right answers little is left to learn, and answers that are all alike are what was asked for."""

SAME = 0.9
"""Share of groups without signal: of ten prompts that are answered one is learnt from."""

LONGER, LONGER_TOKENS = 1.5, 4.0
"""How much longer answers are an alarm, both: from 4 tokens to 6 is a word."""

NO_BETTER = 0.02
"""Right answers that are more by no more than this are as many."""

CUT_OFF = 0.3
"""Share of answers: where a third have no end, length decides more than content."""

PROXY_FALL, PROXY_RISE = 0.03, 0.02
"""How far right answers fall, and by a standard error at least, while the reward rises by this part of itself: less
than what the gate takes for a fall, so that it is said before.
"""

KL = 0.5
"""Nats per token: what the reference says with probability 0.6 the policy says always. Healthy runs stay below 0.1."""

REPEATED, MORE_REPEATED = 0.3, 0.2
"""Share of an answer's stretches of 4 tokens that stood in it before, and how much more than at the beginning: a list
of numbers repeats some by itself.
"""

GAP, GAP_CLIPPED = 0.1, 0.01
"""Nats per token, engine against trainer, and the share of tokens beyond what is made good. In fp32 it is 1e-5, and
rounding to bfloat16 makes a hundredth; 0.1 counts each token by a tenth too much or too little.
"""

MOSTLY = 0.5
"""A term that cannot judge a larger share of the answers between two validations mostly fails."""

NEAR_0 = 0.05
"""A loss below this looks like one that is through."""


@dataclass(frozen=True)
class Alarm:
    """cause: a word for it, by which it is known. text: what is seen and what to do. calm: it is nothing to worry
    about.
    """

    cause: str
    text: str
    calm: bool = False


def alarms(series: Series, prompts: int, problems: Mapping[str, str] | None = None) -> list[Alarm]:
    """All that the newest metrics give reason to. prompts: how many are held out. problems: why terms of the reward
    last could not judge an answer, by their names, as far as that is known.
    """
    seen = Seen(series, prompts, problems or {})
    return [alarm for look in LOOKS if (alarm := look(seen)) is not None]


@dataclass(frozen=True)
class Seen:
    """The metrics of a run so far."""

    series: Series
    prompts: int
    problems: Mapping[str, str] = field(default_factory=dict)

    def recent(self, name: str) -> float | None:
        """The mean over the last steps; None where there are too few."""
        steps, values = self.series.get(name, ((), ()))
        if not steps or steps[-1] < FEWEST:
            return None
        return _mean([value for step, value in zip(steps, values, strict=True) if step > steps[-1] - RECENT])

    def after(self, name: str, begin: int) -> float | None:
        """The mean over the first steps after this one."""
        steps, values = self.series.get(name, ((), ()))
        later = [(step, value) for step, value in zip(steps, values, strict=True) if step > begin]
        return _mean([value for step, value in later if step < later[0][0] + FEWEST]) if later else None

    def between(self, name: str) -> float | None:
        """The mean over the steps between the last two validations; None where none lies there."""
        # One of which nothing could be told has no val/right.
        measured, (steps, values) = self.validations("val/right_known"), self.series.get(name, ((), ()))
        if len(measured) < 2:
            return None
        begin, end = measured[-2][0], measured[-1][0]
        inside = [value for step, value in zip(steps, values, strict=True) if begin < step <= end]
        return _mean(inside) if inside else None

    def validations(self, name: str) -> list[tuple[int, float]]:
        """Steps and values."""
        return list(zip(*self.series.get(name, ((), ())), strict=True))

    @property
    def right(self) -> float:
        """Of the last validation; 0 where there was none."""
        measured = self.validations("val/right")
        return measured[-1][1] if measured else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _collapse(seen: Seen) -> Alarm | None:
    entropy, same = seen.recent("train/entropy"), seen.recent("train/no_signal")
    if entropy is None or entropy >= SETTLED or seen.right >= LEARNT or (same is not None and same < SAME):
        return None
    text = say(
        "The policy has settled: entropy {entropy:.3f} nats a token, so the answers to a prompt are all alike, and "
        "{right:.0f} % of the held-out prompts are answered right. It tries nothing any more and learns nothing. Begin "
        "again from an earlier checkpoint with a lower --learning_rate, or set stage.loss.entropy=0.01.",
        entropy=entropy,
        right=100 * seen.right,
    )
    return Alarm("collapse", text)


def _no_signal(seen: Seen) -> Alarm | None:
    same = seen.recent("train/no_signal")
    if same is None or same < SAME:
        return None
    if seen.right >= LEARNT:
        text = say(
            "Nearly all groups are without signal, and {right:.0f} % of the held-out prompts are answered right: that "
            "is normal here, these prompts are learnt. Harder ones would teach more.",
            right=100 * seen.right,
        )
        return Alarm("learnt", text, calm=True)
    text = say(
        "Of {same:.0f} % of the prompts all answers are worth the same: next to nothing is learnt. Take prompts that "
        "the model answers right now and then (minimind data passrate tells which), a reward that an answer earns in "
        "part, or a larger --group_size.",
        same=100 * same,
    )
    return Alarm("no_signal", text)


def _length(seen: Seen) -> Alarm | None:
    now, measured = seen.recent("train/answer_tokens"), seen.validations("val/right")
    if now is None or not measured:
        return None
    for step, right in measured[:-1]:
        before = seen.after("train/answer_tokens", step)
        longer = before is not None and now >= LONGER * before and now - before >= LONGER_TOKENS
        if before is not None and longer and seen.right <= right + NO_BETTER:
            text = say(
                "Answers have grown from {before:.0f} to {now:.0f} tokens since step {step}, and no more of them are "
                "right: length is rewarded. Look at them with minimind show RUN --samples; take the term that pays for "
                "length out, or add overlong or length.",
                before=before,
                now=now,
                step=step,
            )
            return Alarm("length", text)
    return None


def _cut_off(seen: Seen) -> Alarm | None:
    share = seen.recent("train/cut_off")
    if share is None or share < CUT_OFF:
        return None
    text = say(
        "{share:.0f} % of the answers had not ended when there was no more room. Raise --max_new_tokens if they need "
        "more; else set stage.learn_cut=false, or add the reward stopped beside the one that says what is right.",
        share=100 * share,
    )
    return Alarm("cut_off", text)


def _proxy(seen: Seen) -> Alarm | None:
    right, reward = seen.validations("val/right"), dict(seen.validations("val/reward"))
    if not right or right[-1][0] not in reward:
        return None
    last, now = right[-1]
    for step, before in right[:-1]:
        least = max(PROXY_FALL, share_error(before, now, seen.prompts))
        rises = step in reward and reward[last] - reward[step] >= PROXY_RISE * abs(reward[step])
        if before - now >= least and rises and reward[last] > reward[step]:
            text = say(
                "The reward of held-out answers went up from {reward:.2f} to {more:.2f} since step {step}, while right "
                "ones fell from {before:.0f} to {now:.0f} %: the policy has found what pays without being right. Look "
                "at minimind show RUN --samples, and give that term less weight or a bound.",
                reward=reward[step],
                more=reward[last],
                step=step,
                before=100 * before,
                now=100 * now,
            )
            return Alarm("proxy", text)
    return None


def _kl(seen: Seen) -> Alarm | None:
    kl = seen.recent("train/kl")
    if kl is None or kl < KL:
        return None
    text = say(
        "The policy is {kl:.2f} nats a token away from where it began: it is hardly the same model, and may have "
        "forgotten much. Raise stage.loss.kl, or lower --learning_rate.",
        kl=kl,
    )
    return Alarm("kl", text)


def _repetition(seen: Seen) -> Alarm | None:
    now, before = seen.recent("train/repetition"), seen.after("train/repetition", 0)
    if now is None or before is None or now < REPEATED or now - before < MORE_REPEATED:
        return None
    text = say(
        "Answers repeat themselves: {now:.0f} % of their stretches of four tokens stood in them before, {before:.0f} % "
        'at the beginning. Add the reward {{"is": "repetition", "weight": 0.5}}, or lower --learning_rate.',
        now=100 * now,
        before=100 * before,
    )
    return Alarm("repetition", text)


def _gap(seen: Seen) -> Alarm | None:
    gap, clipped = seen.recent("train/gap"), seen.recent("train/gap_clipped")
    if (gap is None or gap < GAP) and (clipped is None or clipped < GAP_CLIPPED):
        return None
    text = say(
        "What the engine draws from and what is trained are {gap:.2f} nats a token apart, and {clipped:.1f} % of the "
        "tokens are beyond what is made good: what is learnt is not what was tried. Take --dtype float32, and "
        "report it if that does not help.",
        gap=gap or 0.0,
        clipped=100 * (clipped or 0.0),
    )
    return Alarm("gap", text)


NOT_JUDGED = "train/not_judged_"
"""How the metrics begin that say of each term what it could not judge; behind that stands its name."""


def _not_judged(seen: Seen) -> Alarm | None:
    names = [name for name in seen.series if name.startswith(NOT_JUDGED)]
    worst, name = max(((seen.between(name) or 0.0, name.removeprefix(NOT_JUDGED)) for name in names), default=(0.0, ""))
    if worst <= MOSTLY:
        return None
    text = say(
        "The reward {name} could not judge {share:.0f} % of the answers since the validation before: {problem}. What "
        "it was to teach is not learnt meanwhile. Mend what it judges by: the address and the key of a judge, the "
        "function and its limits (timeout_s, cpu_s, memory_mb), right answers that it can read. A run that is stopped "
        "and resumed after that loses nothing; else begin again without this term.",
        name=name,
        share=100 * worst,
        problem=seen.problems.get(name) or say("the notes of the run have the reason"),
    )
    return Alarm("not_judged", text)


def _loss(seen: Seen) -> Alarm | None:
    _, losses = seen.series.get("train/loss", ((), ()))
    if not losses or abs(losses[-1]) >= NEAR_0:
        return None
    text = say(
        "A loss near 0 is normal here: what is learnt are differences between answers, and these add up to 0. Whether "
        "the run gets better says val/right."
    )
    return Alarm("loss", text, calm=True)


LOOKS: tuple[Callable[[Seen], Alarm | None], ...] = (
    _loss,
    _collapse,
    _no_signal,
    _length,
    _cut_off,
    _proxy,
    _kl,
    _repetition,
    _gap,
    _not_judged,
)
