"""Whether a training step fits a card, said before it runs and without one.

Three levels, each dearer and closer to the truth than the one before:

- `closed_form`: the peak in bytes from the shapes alone, in microseconds, within 3 % of the trace. It may only reject.
- `minimind.trace`: the real step of the real loop on fake tensors, about a second.
- `minimind.allocator`: the trace through a model of the caching allocator: what must be reserved, in milliseconds. It
  is the judge, for what lies between tensors adds 2 to 30 %.

On top of what is reserved come the CUDA context, the display and a margin. None of this has been measured on a GPU:
until a `Calibration` of the very card is given, a plan calls itself uncalibrated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch

from minimind.allocator import MIB, replay, smallest_limit
from minimind.cuda_kernels import CUBLAS_WORKSPACE_BYTES, HIGHEST_SORTED
from minimind.lora import LoraConfig
from minimind.model import ModelConfig
from minimind.objectives import CHUNK_TOKENS
from minimind.recipe import Recipe
from minimind.trace import Rules, trace

CLOSED_FORM_ERROR = 0.03
"""How far the closed form may be off, as a share of the trace's peak."""


@dataclass(frozen=True)
class Platform:
    """What of a device's memory tensors cannot have, in bytes. expandable: whether the allocator's expandable segments
    can be used. rules: whose kernels and autocast (see `minimind.trace`); the CPU's allocator has no pools.

    context: kernels and state of the CUDA driver for one process. display: what the desktop and its windows hold.
    """

    context_bytes: int
    display_bytes: int
    expandable: bool
    rules: Rules = "cuda"


PLATFORMS = {
    "linux": Platform(context_bytes=300 * MIB, display_bytes=300 * MIB, expandable=True),
    "wsl2": Platform(context_bytes=300 * MIB, display_bytes=500 * MIB, expandable=False),
    "windows": Platform(context_bytes=300 * MIB, display_bytes=500 * MIB, expandable=False),
    "cpu": Platform(context_bytes=600 * MIB, display_bytes=0, expandable=False, rules="cpu"),
    "emulated": Platform(context_bytes=0, display_bytes=0, expandable=False, rules="cpu"),
}
"""For "emulated", a limit on the tensors of a CPU, nothing is beside them. The others are assumed, not measured.
Context: 300 to 400 MB are reported with lazily loaded kernels (pytorch#107667, #109888); a process that trains on a CPU
holds about 600 MB of Python, PyTorch and Ray. A display on the same card: 300 MB for a Linux desktop, 500 MB where
Windows draws the desktop, also under WSL 2. A card without a screen needs no display; pass a Platform of your own.
Expandable segments were for long not to be had on Windows, and whether WSL 2 has them is not known here, so they are
used on Linux alone.
"""

UNCALIBRATED_SAFETY = 1.05

EMULATED_SAFETY = 1.01
"""Where tensors alone count, the trace is within 0.1 % of what they take."""


@dataclass(frozen=True)
class Calibration:
    """What three short runs on one card have shown.

    allocated, reserved: measured over predicted, the largest of the runs. context_bytes: memory in use that the
    allocator did not reserve, the display's included. card, driver, torch, system: what it is valid for.
    """

    allocated: float
    reserved: float
    context_bytes: int
    card: str
    driver: str
    torch: str
    system: str

    @property
    def safety(self) -> float:
        """What to multiply a prediction by: the largest ratio seen, and one percent."""
        return max(1.0, self.reserved) + 0.01


Verdict = Literal["fits", "tight", "does not fit"]


@dataclass(frozen=True)
class Plan:
    """What a step needs, in bytes, and whether a card has it.

    verdict: "tight" is what fits without the margin for error and not with it. level: what decided, "closed form" or
    "replay". capacity_bytes: of the card. needed_bytes: with context, display and margin. peak_bytes: of tensors alive
    at once. breakdown: the parts of needed_bytes at the moment of the peak, largest first; "fragmentation" is what the
    allocator must reserve beyond the tensors. calibrated: whether ratios of this very card were used.
    """

    verdict: Verdict
    level: Literal["closed form", "replay"]
    capacity_bytes: int
    needed_bytes: int
    peak_bytes: int
    breakdown: dict[str, int] = field(default_factory=dict)
    calibrated: bool = False


@dataclass(frozen=True)
class Shape:
    """What the memory of a step depends on. dtype: of autocast. lora: an adapter that trains in place of the weights.
    muon: the matrices' optimizer; else AdamW for all. deterministic: which kernels.
    """

    model: ModelConfig
    rows: int
    width: int
    dtype: torch.dtype
    accumulation_steps: int = 1
    checkpointing: bool = False
    muon: bool = True
    lora: LoraConfig | None = None
    deterministic: bool = True


@dataclass(frozen=True)
class Need:
    """What a step takes on a platform, in bytes. peak_bytes: of tensors alive at once. reserved_bytes: what the
    allocator must hold for them. unlimited_bytes: what it holds where nothing limits it and nothing is given back.
    breakdown: of the peak.
    """

    peak_bytes: int
    reserved_bytes: int
    unlimited_bytes: int
    breakdown: dict[str, int]


def need(make: Callable[[], Recipe], platform: Platform) -> Need:
    """What a step of the recipe that `make` builds (see `trace`) takes: about a second."""
    steps = trace(make, platform.rules)
    peak = steps.peak_bytes
    reserved = unlimited = peak
    if platform.rules == "cuda":
        reserved = smallest_limit(steps.events, platform.expandable)
        unlimited = replay(steps.events, expandable=platform.expandable).peak_reserved
    return Need(peak, reserved, unlimited, steps.breakdown())


def rejected(
    shape: Shape, capacity_bytes: int, platform: Platform, calibration: Calibration | None = None
) -> Plan | None:
    """A plan for what cannot fit a card of so many bytes, by the closed form; None where only a trace can tell."""
    if platform.rules != "cuda":
        return None
    least = int(closed_form(shape) * (1 - CLOSED_FORM_ERROR))
    parts = {"tensors": least, **_outside(platform, calibration)}
    total = sum(parts.values())
    if total <= capacity_bytes:
        return None
    return Plan("does not fit", "closed form", capacity_bytes, total, least, _by_size(parts), calibration is not None)


def judge(needs: Need, capacity_bytes: int, platform: Platform, calibration: Calibration | None = None) -> Plan:
    """Whether what a step needs fits a card of so many bytes."""
    outside = _outside(platform, calibration)
    if calibration:
        safety = calibration.safety
    else:
        safety = EMULATED_SAFETY if platform == PLATFORMS["emulated"] else UNCALIBRATED_SAFETY
    with_margin = math.ceil(needs.reserved_bytes * safety)
    needed = with_margin + sum(outside.values())
    verdict: Verdict = "does not fit"
    if needed <= capacity_bytes:
        verdict = "fits"
    elif needs.reserved_bytes + sum(outside.values()) <= capacity_bytes:
        verdict = "tight"
    parts = needs.breakdown | {
        "fragmentation": needs.reserved_bytes - needs.peak_bytes,
        "margin": with_margin - needs.reserved_bytes,
        **outside,
    }
    parts = {name: part for name, part in parts.items() if part}
    calibrated = calibration is not None
    return Plan(verdict, "replay", capacity_bytes, needed, needs.peak_bytes, _by_size(parts), calibrated)


def _outside(platform: Platform, calibration: Calibration | None) -> dict[str, int]:
    """What is not there for tensors. A calibration measures context and display as one."""
    if calibration is not None:
        return {"context": calibration.context_bytes}
    return {"context": platform.context_bytes, "display": platform.display_bytes}


def largest_batch(judged: Callable[[int], Plan], most: int = 1024) -> int:
    """The most rows, up to `most`, with which a plan fits; 0 if not even one does.

    judged: rows -> plan. What is needed grows almost in a straight line, so the next number to try is where the line
    through the last two plans reaches the capacity: three to five plans instead of ten.
    """
    low, high = 0, most + 1
    known: list[tuple[int, Plan]] = []
    rows = 1
    while high - low > 1:
        plan = judged(rows)
        known.append((rows, plan))
        if plan.verdict == "fits":
            low = rows
        else:
            high = rows
        replayed = [(n, p.needed_bytes) for n, p in known if p.level == "replay"][-2:]
        if len(replayed) == 2 and replayed[0][1] != replayed[1][1]:
            (n0, bytes0), (n1, bytes1) = replayed
            rows = n0 + math.floor((plan.capacity_bytes - bytes0) * (n1 - n0) / (bytes1 - bytes0))
            rows += rows == low  # to see whether one more would do
        else:
            rows = 2 * rows if high > most else (low + high) // 2
        rows = min(max(rows, low + 1), high - 1)
    return low


def closed_form(shape: Shape) -> int:
    """The peak in bytes of the tensors of a step, from its shapes.

    That of supervised stages: next-token loss over packed rows with every token predicted, Muon or AdamW, on CUDA with
    the memory-efficient attention kernel (head_dim a multiple of 8).
    """
    m, tokens = shape.model, shape.rows * shape.width
    d, f, layers = m.hidden_size, m.intermediate_size, m.num_hidden_layers
    half, full = shape.dtype != torch.float32, shape.lora is None
    number = 2 if half else 4  # bytes, in matrix products
    maps = _maps(m)
    block = sum(inputs * outputs for inputs, outputs in maps.values())
    head = m.vocab_size * d

    weights = layers * (block + 2 * d + 2 * m.head_dim) + d + head * (1 if m.tie_word_embeddings else 2)
    adapters = 0
    if shape.lora is not None:
        adapters = layers * shape.lora.rank * sum(sum(maps[name]) for name in shape.lora.target_modules)
    trained = weights if full else adapters
    optimizer = 8 * trained - 4 * shape.muon * (layers * block if full else adapters)
    earlier = 4 * trained if shape.accumulation_steps > 1 else 0  # gradients of the micro-batches before
    static = 4 * (weights + adapters) + optimizer + earlier + 2 * CUBLAS_WORKSPACE_BYTES
    gradients = 4 * trained - earlier

    mask_and_angles = tokens * (number * shape.width + 8 * m.head_dim)
    batch = 37 * tokens  # token ids, both masks, and what is made of them: int64 indices and targets
    stream = 4 * d * tokens  # the residual stream
    whole, product = (tokens * part for part in _kept_per_token(shape))  # what a block keeps for its backward pass
    casts = 2 * block if half else 0
    if shape.checkpointing:
        kept, recomputed, live_casts = layers * stream, whole - stream, casts
    else:
        # Nothing before the first adapter needs a gradient, so the first block does not keep its input.
        kept, recomputed, live_casts = layers * whole - (0 if full else stream), 0, layers * casts

    # The loss, at its last chunk: four hidden states of all tokens, and all casts, which autocast holds to its end.
    hidden = 4 * stream + kept + (2 * head * half + layers * casts if full else live_casts * (not shape.checkpointing))
    loss = hidden + _logits(shape) + 4 * head * full
    # Backward through the product in a block's feed-forward layer, where three gradients of its width meet.
    inside = recomputed + stream + 3 * number * f * tokens - product - 2 * d * f * half
    inside += 4 * d * f if full and not earlier else 0
    last_block = kept + inside + live_casts + 4 * head * full
    first_block = kept // layers + inside + casts + gradients - 4 * block * full
    # What the embedding gets from the head and from the tokens, before they are added.
    partial_sums = 4 * d * (tokens // 10 + min(tokens, m.vocab_size)) if tokens > HIGHEST_SORTED else 0
    embedding = gradients + 4 * head + stream + partial_sums if full else 0
    # Muon holds a matrix in fp32 twice and in bf16 once.
    update = gradients + 10 * max(a * b for a, b in maps.values()) * (shape.muon and full)
    return static + max(mask_and_angles + batch + max(loss, last_block, first_block), embedding, update)


def _maps(model: ModelConfig) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of the linear maps of a block."""
    d, f = model.hidden_size, model.intermediate_size
    q, k = model.num_attention_heads * model.head_dim, model.num_key_value_heads * model.head_dim
    attention = {"q_proj": (d, q), "k_proj": (d, k), "v_proj": (d, k), "o_proj": (q, d)}
    return attention | {"gate_proj": (d, f), "up_proj": (d, f), "down_proj": (f, d)}


def _kept_per_token(shape: Shape) -> tuple[int, int]:
    """Bytes that a block keeps for its backward pass, per token; and those of them that are the input of down_proj."""
    m, lora = shape.model, shape.lora
    d, f, heads, kv_heads = m.hidden_size, m.intermediate_size, m.num_attention_heads, m.num_key_value_heads
    half = shape.dtype != torch.float32
    number = 2 if half else 4
    dropout = lora is not None and lora.dropout > 0
    learns = _maps(m) if lora is None else lora.target_modules

    kept = 2 * 4 * d + 4 * (2 + heads + kv_heads)  # what the norms read, in fp32, and what they divided by
    for group in (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")):
        readers = sum(name in learns for name in group)
        # A normed input is fp32: in half precision each map keeps a cast of its own, except where dropout comes first.
        kept += 2 * d * readers if half and not dropout else 4 * d * min(readers, 1)
    # Queries and keys before their norm; queries, repeated keys and values, and what attention gives for them.
    kept += number * m.head_dim * (heads + kv_heads + 4 * heads) + 4 * heads
    if shape.width % 8:
        kept += number * (shape.width + -shape.width % 8)  # attention keeps a mask of its own, padded
    product = number * f if "down_proj" in learns else 0
    kept += 2 * number * f + product
    if lora is not None and not dropout:
        kept += number * lora.rank * len(learns)
    return kept, product


def _logits(shape: Shape) -> int:
    """What the loss holds for a chunk of rows: while it makes the logits next to those of the chunk before, or while it
    multiplies their gradient.
    """
    head, d = shape.model.vocab_size * shape.model.hidden_size, shape.model.hidden_size
    tokens = shape.rows * shape.width
    rows = min(CHUNK_TOKENS, tokens)
    half = shape.dtype != torch.float32
    logits = 4 * shape.model.vocab_size * rows
    making = logits * (2 if tokens > rows else 1) + logits // 2 * half
    multiplying = logits + (logits // 2 + 2 * head + 6 * d * rows if half else 8 * d * rows)
    return max(making, multiplying)


def _by_size(parts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(parts.items(), key=lambda item: -item[1]))
