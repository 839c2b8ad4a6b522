"""`minimind gpu-check`: what this project says of a GPU, measured and proved on the one that is here.

Each check is a process of its own: an error that ends its CUDA context ends no other's, its peaks of memory are its
own, and one that takes too long is ended, with what it had found by then kept. On a CPU (`--device cpu`) the same
checks run on a very small model, so that they are tested where there is no GPU; their figures mean nothing.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from jobs import paths
from jobs.fit.card import Card, identity, this_card
from jobs.fit.measure import calibrate, measure
from jobs.fit.needs import Needs
from jobs.fit.plan import Planner
from jobs.runs.directory import RunDirectory
from jobs.stages.recipe import trial_recipe
from jobs.stages.spec import RunSpec
from jobs.stages.table import STAGES
from jobs.terminal.console import Terminal
from jobs.text.prepare import prepare
from jobs.training.worker import work
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.manifest import weights_sha256
from minimind.config import override
from minimind.device.distributed import Parallel
from minimind.events import Event, metric_series, read_events
from minimind.inference.engine import Engine
from minimind.inference.sampling import SamplingParams
from minimind.memory.plan import UNCALIBRATED_SAFETY
from minimind.network.model import MiniMind
from minimind.training.trial_steps import run_trial_steps
from minimind.units import amount, duration, memory

SECONDS = 480.0
"""What all checks together may take."""

CHECK_SECONDS = 150.0
"""What one of them may take."""

PEAK_TOLERANCE = 0.05
"""How far the measured peak of tensors may be from the planned one, as a share of it."""

PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Row:
    """One thing that was looked at. ok: None where a figure is no promise. figures: for the line of JSON."""

    what: str
    value: str
    ok: bool | None = None
    figures: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sizes:
    """How large the checks are. settings: over the preset of `model`. rows: of the small, the usual and the large step.
    product: width of the square matrices whose product is timed. steps: that are timed; tokens: that are written.
    compiles: whether blocks are compiled, which takes longer than all the rest of small checks.
    """

    model: str
    settings: Mapping[str, Any]
    rows: tuple[int, int, int]
    width: int
    product: int
    steps: int
    tokens: int
    compiles: bool


FULL = Sizes("30m", {}, rows=(1, 4, 16), width=512, product=4096, steps=10, tokens=128, compiles=True)
SMALL = Sizes(
    "tiny",
    {"model.vocab_size": 600, "model.hidden_size": 32, "model.num_hidden_layers": 2},
    rows=(1, 2, 4),
    width=32,
    product=64,
    steps=1,
    tokens=8,
    compiles=False,
)


@dataclass(frozen=True)
class Bench:
    """What a check is given: the device that is checked, and how large to be."""

    device: torch.device
    sizes: Sizes

    @classmethod
    def on(cls, device: str) -> Bench:
        """The checks of this machine's first GPU, or small ones on its CPU. Raises ValueError where there is no GPU."""
        if device == "cpu":
            return cls(torch.device("cpu"), SMALL)
        if not torch.cuda.is_available():
            raise ValueError(
                "gpu-check measures an NVIDIA GPU, and PyTorch sees none here. Does `nvidia-smi` list the card? Under "
                "WSL2 the driver belongs into Windows alone; a PyTorch without CUDA (its version ends in +cpu) sees no "
                "card either. --device cpu runs the same checks, very small, on the CPU"
            )
        return cls(torch.device("cuda", 0), FULL)

    @property
    def card(self) -> Card:
        """The device as plans see it before anything is measured on it; of a CPU, tensors alone count."""
        vram = None if self.device.type == "cuda" else "4GB"
        return replace(this_card(vram, device=self.device), calibration=None)

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that training here may take. Before Ampere a card computes bfloat16 in other kernels, which no plan
        knows.
        """
        return tuple(name for name in PRECISIONS if name != "bfloat16" or self.card.bf16)

    def spec(self, stage: str = "pretrain", **settings: Any) -> RunSpec:
        """A run of the stage; settings: dotted paths with __ for the dot."""
        usual = {"data.max_seq_len": self.sizes.width, "loop.batch_size": self.sizes.rows[1], **self.sizes.settings}
        given = {name.replace("__", "."): value for name, value in settings.items()}
        return override(STAGES[stage].preset(self.sizes.model), usual | {"loop.accumulation_steps": 1} | given)

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work: Callable[[], object], times: int) -> float:
        """Seconds that a piece of work takes, after one that does not count."""
        work()
        self.synchronize()
        began = time.perf_counter()
        for _ in range(times):
            work()
        self.synchronize()
        return (time.perf_counter() - began) / times

    def product_rate(self, dtype: str) -> float:
        """FLOP/s of a large matrix product, in autocast as training computes it."""
        width = self.sizes.product
        left, right = (torch.randn(width, width, device=self.device) for _ in range(2))
        precision = torch.autocast(self.device.type, getattr(torch, dtype), enabled=dtype != "float32")

        def multiply() -> Tensor:
            with precision:
                return left @ right

        return 2 * width**3 / self.seconds(multiply, 5)

    def tokens_per_s(self, spec: RunSpec, *, compiled: bool = False) -> float:
        """Of training on rows without padding, one micro-batch to a step."""
        planner = Planner(self.card, Needs())
        recipe = trial_recipe(spec, planner.shape(spec).dtype, self.device)
        if compiled:
            for model in recipe.models.values():
                assert isinstance(model, MiniMind)
                model.compile_blocks()
        single = replace(recipe, loop=recipe.loop.model_copy(update={"accumulation_steps": 1}))
        run_trial_steps(single, 2, self.device)
        steps = self.sizes.steps
        seconds = self.seconds(lambda: run_trial_steps(single, steps, self.device), 1)
        return steps * spec.loop.batch_size * spec.data.max_seq_len / seconds


def _card(bench: Bench) -> Iterator[Row]:
    """What is here: the card, its software, the rates of its matrix products and of its memory."""
    known = identity(bench.device)
    if bench.device.type == "cuda":
        found = torch.cuda.get_device_properties(bench.device)
        free, total = torch.cuda.mem_get_info(bench.device)
        yield Row(
            "card",
            f"{found.name}, compute {found.major}.{found.minor}, {found.multi_processor_count} SMs, {memory(total)}",
            figures={"total_bytes": total},
        )
        yield Row("free before anything runs", memory(free), figures={"free_bytes": free})
    yield Row("software", f"driver {known['driver'] or 'none'}, torch {known['torch']}, {known['system']}")
    yield Row("dtype of --dtype auto", bench.card.dtype)
    for dtype in bench.precisions:
        rate = bench.product_rate(dtype)
        yield Row(f"matrix product, {dtype}", f"{rate / 1e12:.2f} TFLOP/s", figures={f"product_{dtype}": rate})
    large = torch.empty(bench.sizes.product**2 * 4, dtype=torch.uint8, device=bench.device)
    rate = 2 * large.nbytes / bench.seconds(large.clone, 5)
    yield Row("memory, copied", f"{rate / 1e9:.0f} GB/s", figures={"copy_bytes_per_s": rate})


def _calibration(bench: Bench) -> Iterator[Row]:
    """Measured over planned at three sizes, kept for every plan to come."""
    if bench.device.type != "cuda":
        yield Row("calibration", "a CPU needs none")
        return
    seen = calibrate(Terminal(file=sys.stderr))
    figures = {"allocated": seen.allocated, "reserved": seen.reserved, "context_bytes": seen.context_bytes}
    yield Row("tensors, measured over planned", f"{seen.allocated:.4f}", figures=figures)
    yield Row("allocator, measured over planned", f"{seen.reserved:.4f}", ok=seen.reserved <= UNCALIBRATED_SAFETY)
    yield Row("in use beside it", memory(seen.context_bytes))


def plans(bench: Bench) -> list[RunSpec]:
    """Twelve steps of every stage there is, of each precision, small and large."""
    small, usual, large = bench.sizes.rows
    half = bench.sizes.width // 2
    return [
        bench.spec("pretrain"),
        bench.spec("pretrain", loop__dtype="float32"),
        bench.spec("pretrain", loop__dtype="float16", loop__batch_size=small),
        bench.spec("pretrain", loop__batch_size=large),
        bench.spec("pretrain", loop__batch_size=large, loop__activation_checkpointing=True),
        bench.spec("pretrain", optim__name="adamw", loop__accumulation_steps=3),
        bench.spec("sft", loop__batch_size=usual, data__max_seq_len=half),
        bench.spec("sft", loop__activation_checkpointing=True, loop__dtype="float32"),
        bench.spec("sft", loop__batch_size=large, optim__name="adamw"),
        bench.spec("lora"),
        bench.spec("lora", loop__batch_size=large, loop__activation_checkpointing=True),
        bench.spec("lora", loop__dtype="float16", adapter__rank=64, data__max_seq_len=half),
        bench.spec("dpo", loop__batch_size=small),
        bench.spec("dpo", stage__reference="cached", loop__dtype="float32", data__max_seq_len=half),
        bench.spec("dpo", adapter="{}", loop__activation_checkpointing=True),
        bench.spec("kto", loop__batch_size=small),
        bench.spec("reward", loop__batch_size=small),
        bench.spec("distill", loop__batch_size=small),
        bench.spec("distill", loop__batch_size=small, stage__cached=True),
        bench.spec("distill", loop__batch_size=small, stage__on_policy=True),
        bench.spec("grpo", loop__batch_size=small),
        bench.spec("spo", loop__batch_size=small, adapter="{}", stage__loss__kl=0.01),
        bench.spec("ppo", loop__batch_size=small, stage__passes=2),
    ]


def _plan(bench: Bench) -> Iterator[Row]:
    """The planned peak of tensors, and what the allocator holds for them, against what real steps take."""
    planner = Planner(bench.card, Needs())
    peaks, held = [], []
    for spec in plans(bench):
        what = (
            f"{spec.stage.kind} {spec.loop.batch_size} x {spec.data.max_seq_len} {planner.dtype(spec)} "
            f"{spec.optim.name}{' checkpointing' if spec.loop.activation_checkpointing else ''}"
        )
        if not planner.fits(spec):
            yield Row(what, "does not fit this card: left out")
            continue
        need, found = planner.need(spec), measure(planner, spec, steps=1)
        peaks.append(found.peak_bytes / need.peak_bytes)
        held.append(found.reserved_bytes / need.unlimited_bytes)
        yield Row(
            what,
            f"tensors {memory(need.peak_bytes)} planned, {memory(found.peak_bytes)} measured ({peaks[-1]:.3f}); "
            f"allocator {held[-1]:.3f} of what is planned",
            ok=abs(peaks[-1] - 1) <= PEAK_TOLERANCE and held[-1] <= UNCALIBRATED_SAFETY,
        )
    figures = {"peak_worst": max(peaks, key=lambda ratio: abs(ratio - 1)), "reserved_largest": max(held)}
    yield Row(
        f"worst of {len(peaks)}",
        f"tensors {figures['peak_worst']:.3f}, allocator {figures['reserved_largest']:.3f} of what is planned",
        figures=figures,
    )


def _trained(bench: Bench, name: str, *, stop_at: int | None = None, **settings: Any) -> RunDirectory:
    """A run on the bundled samples, as `train --workers 0` makes it. stop_at: stop after its checkpoint of this step,
    and go on from that one.
    """
    usual = {
        "name": name,
        "data__path": str(paths.checkout() / "data" / "samples" / "pretrain.jsonl"),
        "loop__max_steps": 8,
        "loop__log_interval": 1,
        "loop__save_interval": 4,
        "eval__max_documents": 8,
        "eval__sample_tokens": 8,
        "scaling__workers": 0,
    }
    spec = bench.spec("pretrain", **(usual | settings))
    run = RunDirectory(paths.runs() / name)
    prepared = prepare(spec, Terminal(file=sys.stderr))
    run.create(spec.model_dump(mode="json"))

    def listen(event: Event) -> None:
        if event["type"] == "checkpoint" and event["step"] == stop_at:
            run.request_stop()

    work(spec, prepared, run, Parallel(device=bench.device), listen)
    if stop_at is not None:
        run.clear_stop()
        work(spec, prepared, run, Parallel(device=bench.device))
    return run


def _learnt(run: RunDirectory) -> tuple[str, list[float]]:
    """What came of a run: the sha256 of its last weights, and its losses. Its checkpoints are removed: those of all
    runs would take 7 GB. Raises RuntimeError if it did not succeed.
    """
    state = run.state()
    if state.word != "SUCCEEDED":
        raise RuntimeError(f"the run {run.name!r} ended {state.word}: {state.reason}")
    weights = weights_sha256(
        checkpoint_folders.folder_of(run.checkpoints, checkpoint_folders.steps(run.checkpoints)[-1])
    )
    shutil.rmtree(run.checkpoints)
    return weights, metric_series(run.events_path, "train/loss")[1]


def _bits(bench: Bench) -> Iterator[Row]:
    """Each precision trains; the same run again, and one that is stopped and resumed, end with the same bits."""
    for dtype in bench.precisions:
        whole = _learnt(_trained(bench, f"whole-{dtype}", loop__dtype=dtype))
        losses = whole[1]
        yield Row(f"{dtype} trains", f"loss {losses[0]:.3f} to {losses[-1]:.3f}", ok=losses[-1] < losses[0])
        again = _learnt(_trained(bench, f"again-{dtype}", loop__dtype=dtype))
        yield Row(f"{dtype}, the same run again", _equal(again == whole), ok=again == whole)
        resumed = _learnt(_trained(bench, f"resumed-{dtype}", loop__dtype=dtype, stop_at=4))
        yield Row(f"{dtype}, stopped and resumed", _equal(resumed == whole), ok=resumed == whole)
    fast = [_learnt(_trained(bench, f"fast-{i}", loop__deterministic=False)) for i in range(2)]
    yield Row("twice with fast kernels (loop.deterministic = false)", _equal(fast[0] == fast[1]))


def _equal(same: bool) -> str:
    return "the same bits" if same else "other bits"


def _ladder(bench: Bench) -> Iterator[Row]:
    """A run under a limit that its step exceeds goes down the ladder and learns the same but for rounding."""
    planner = Planner(bench.card, Needs())
    rows = bench.sizes.rows[2]
    least, most = (planner.need(bench.spec(loop__batch_size=n)).reserved_bytes for n in (1, rows))
    beside = bench.card.capacity_bytes - bench.card.tensor_bytes
    limit = least + 0.4 * (most - least) + beside
    free = _learnt(_trained(bench, "free", loop__batch_size=rows))[1]
    limited = _trained(bench, "limited", loop__batch_size=rows, memory__vram=f"{limit / 2**20:.1f}MB")
    losses = _learnt(limited)[1]
    notes = [event for event in read_events(limited.events_path, {"note"}) if event["kind"] == "out_of_memory"]
    yield Row("limit", f"{memory(limit)} for steps that need {memory(most + beside)}")
    yield Row("rungs", notes[-1]["text"].partition(" / ")[0] if notes else "none was taken", ok=bool(notes))
    apart = max(abs(a / b - 1) for a, b in zip(losses, free, strict=True))
    yield Row("losses, apart from those without a limit", f"{100 * apart:.3f} %", ok=apart < 0.01)


def _compile(bench: Bench) -> Iterator[Row]:
    """A compiled run goes to its end, with validation and samples, and what compiling brings."""
    if not bench.sizes.compiles:
        yield Row("compile", "left out of small checks")
        return
    began = time.perf_counter()
    losses = _learnt(_trained(bench, "compiled", loop__compile=True))[1]
    yield Row(
        "a compiled run",
        f"loss {losses[0]:.3f} to {losses[-1]:.3f}, {duration(time.perf_counter() - began)} in all",
        ok=losses[-1] < losses[0],
    )
    spec = bench.spec()
    plain, compiled = bench.tokens_per_s(spec), bench.tokens_per_s(spec, compiled=True)
    yield Row("compiled over not", f"{compiled / plain:.2f}", figures={"compile_speedup": compiled / plain})


def _speed(bench: Bench) -> Iterator[Row]:
    """Tokens per second of training, as a share of the rate of a matrix product, and the price of determinism."""
    planner = Planner(bench.card, Needs())
    wanted = bench.spec(loop__batch_size=bench.sizes.rows[2])
    for dtype in bench.precisions:
        spec = planner.largest(override(wanted, {"loop.dtype": dtype}))
        if spec is None:
            yield Row(f"training, {dtype}", "does not fit this card: left out")
            continue
        rate = bench.tokens_per_s(spec)
        with torch.device("meta"):
            flops = MiniMind(spec.model).flops_per_token()
        share = rate * flops / bench.product_rate(dtype)
        yield Row(
            f"training, {dtype}, {spec.loop.batch_size} x {spec.data.max_seq_len}",
            f"{amount(rate)} tokens/s, {100 * share:.0f} % of the matrix product's rate",
            figures={f"train_{dtype}_tokens_per_s": rate, f"train_{dtype}_share": share},
        )
    spec = planner.largest(wanted) or bench.spec(loop__batch_size=1)
    fast = override(spec, {"loop.deterministic": False})
    ratios = [bench.tokens_per_s(spec) / bench.tokens_per_s(fast) for _ in range(3)]
    price = statistics.median(ratios)
    yield Row("deterministic over fast kernels", f"{price:.3f}", figures={"deterministic_speed": price})


def _decode(bench: Bench) -> Iterator[Row]:
    """The engine on the device: its greedy answers against the plain forward pass, and tokens per second."""
    spec = bench.spec()
    model = MiniMind(spec.model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.05, generator=generator)
    model = model.to(bench.device).eval()
    tokens = bench.sizes.tokens
    prompt = [(7 * i) % spec.model.vocab_size for i in range(16)]
    for slots in (1, 16):
        engine = Engine(model, slots=slots, context_tokens=len(prompt) + tokens)
        write = partial(engine.generate, [prompt] * slots, SamplingParams(tokens, temperature=0))
        if slots == 1:
            yield Row("greedy answer", *_as_forward(model, prompt, write()[0].token_ids))
        seconds = bench.seconds(write, 1)
        rate = slots * tokens / seconds
        yield Row(f"decoding, {slots} at once", f"{amount(rate)} tokens/s", figures={f"decode_{slots}_per_s": rate})


def _as_forward(model: MiniMind, prompt: list[int], answer: list[int]) -> tuple[str, bool]:
    """Whether each token of an answer is the likeliest of the plain forward pass, or as likely but for rounding."""
    ids = torch.tensor([prompt + answer], device=model.head_weight_VD.device)
    with torch.no_grad():
        logits_TV = (model(ids)[0] @ model.head_weight_VD.T).float()[len(prompt) - 1 : -1]
    chosen_T = logits_TV.gather(1, ids[0, len(prompt) :, None])[:, 0]
    behind = float((logits_TV.max(1).values - chosen_T).max())
    return f"at most {behind:.1e} behind the largest logit of the plain forward pass", behind < 1e-3


CHECKS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "card": _card,
    "calibration": _calibration,
    "plan": _plan,
    "bits": _bits,
    "ladder": _ladder,
    "decode": _decode,
    "speed": _speed,
    "compile": _compile,
}
"""In the order in which they run: what is proved stands before what is only measured."""


def check_one(name: str, device: str) -> int:
    """One check in this process: each row as a line of JSON on the standard output. What libraries write there, such as
    oneDNN with ONEDNN_VERBOSE, goes to the standard error.
    """
    with os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8") as rows:
        os.dup2(2, 1)
        for row in CHECKS[name](Bench.on(device)):
            rows.write(json.dumps(asdict(row)) + "\n")
    return 0


def gpu_check(device: str, console: Console, *, report: Path, seconds: float = SECONDS) -> int:
    """All checks, each in a process of its own; the table, the report and the line of JSON. Gives the exit status: 1
    where a check did not hold or was not made.

    Raises ValueError where there is no GPU.
    """
    Bench.on(device)
    deadline = time.monotonic() + seconds
    found: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as home:
        for name in CHECKS:
            console.print(name, end=" ", style="bold")
            began = time.monotonic()
            left = min(CHECK_SECONDS, deadline - began)
            # What is calibrated is kept; everything else is made up.
            place = str(paths.home()) if name == "calibration" else home
            rows = _in_a_process(name, device, place, left) if left > 1 else [_not_made("no time was left")]
            found[name] = rows
            console.print(_mark(rows), duration(time.monotonic() - began))
    console.print(_table(found), soft_wrap=False)
    line = json.dumps(_figures(found))
    report.write_text(_report(found, line), "utf-8")
    console.print(f"Written: {report}")
    console.print(line)
    return int(any(row.ok is False for rows in found.values() for row in rows))


def _in_a_process(name: str, device: str, home: str, seconds: float) -> list[Row]:
    """The rows of a check that runs in a child; one more that says so where it ended in an error or was ended."""
    command = [sys.executable, "-m", "jobs", "gpu-check", "--only", name, "--device", device]
    environment = os.environ | {"MINIMIND_HOME": home}
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, cwd=paths.checkout(), env=environment) as child,
    ):
        timer = threading.Timer(seconds, child.kill)
        timer.start()
        try:
            assert child.stdout is not None
            rows = [Row(**json.loads(line)) for line in child.stdout]
            status = child.wait()
        finally:
            ended = not timer.is_alive()
            timer.cancel()
            child.kill()
        said.seek(0)
        last = said.read().decode(errors="replace").strip().splitlines()[-3:]
    if ended:
        rows.append(_not_made(f"ended after {duration(seconds)}"))
    elif status:
        rows.append(_not_made(" | ".join(last) or f"exit status {status}"))
    return rows


def _not_made(reason: str) -> Row:
    return Row("not finished", reason, ok=False)


def _mark(rows: list[Row]) -> Text:
    return Text("FAILED", "red") if any(row.ok is False for row in rows) else Text("ok", "green")


def _word(ok: bool | None) -> str:
    return "" if ok is None else "ok" if ok else "FAILED"


def _table(found: Mapping[str, list[Row]]) -> Table:
    table = Table("check", "what", "found", "", box=None, pad_edge=False)
    for name, rows in found.items():
        for i, row in enumerate(rows):
            style = "red" if row.ok is False else None
            table.add_row("" if i else name, row.what, row.value, _word(row.ok), style=style)
        table.add_section()
    return table


def _figures(found: Mapping[str, list[Row]]) -> dict[str, Any]:
    """What the line of JSON says: the figures of all rows, and what failed."""
    figures = {name: round(value, 6) for rows in found.values() for row in rows for name, value in row.figures.items()}
    failed = [f"{name}: {row.what}" for name, rows in found.items() for row in rows if row.ok is False]
    held = sum(row.ok is True for rows in found.values() for row in rows)
    software = next((row.value for row in found["card"] if row.what == "software"), "")
    card = next((row.value for row in found["card"] if row.what == "card"), "cpu")
    return {"card": card, "software": software, **figures, "held": held, "failed": failed}


def _report(found: Mapping[str, list[Row]], line: str) -> str:
    """The same as Markdown."""
    today = datetime.datetime.now(datetime.UTC).date()
    lines = [f"# GPU check, {today}", "", "| check | what | found | |", "|---|---|---|---|"]
    for name, rows in found.items():
        for row in rows:
            cells = (text.replace("|", "\\|") for text in (name, row.what, row.value, _word(row.ok)))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", "```json", line, "```", ""])
