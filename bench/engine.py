"""Our engine against transformers' generate in fp32: the same weights, its KV cache, the likeliest token each time.

    python bench/engine.py [--model 30m] [--rounds 5] [--only batch1 ragged128] [--weights RUN]

A model with random weights writes TOKENS tokens after prompts of PROMPT tokens: one prompt (`batch1`), 16 at a time
(`batch16`), and one with weights in bfloat16 and int8 (`bf16_batch1`, `int8_batch1`). `ragged128`: 128 requests whose
prompts and answers have log-normal lengths, ours by continuous batching over 32 slots, the peer's as people write it:
16 at a time in the order they came, padded on the left, all waiting for the longest answer. Only tokens that were asked
for count. In fp32 both sides must write the same tokens, or the benchmark fails; where the peer's two likeliest tokens
are as likely but for rounding, either is right.

A round runs everything once, the sides in turn. Figures are the ratios of the medians of tokens per wall second on all
cores. `int8_bpb_loss` (and bfloat16's in the table) is by what share the bits per byte of the bundled text grow: with
the newest checkpoint of the run --weights names, or with a `tiny` model trained here on the bundled samples.

On two quiet cores all of it takes about six minutes, most of them the peer's in `ragged128`; fewer --rounds take less.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# As in a replica; OpenMP reads it when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Imports below count from the checkout, not from this folder.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import minimind.checkpoints.checkpoint as checkpoints
from bench.time_to_loss import SIZES, Corpus, new_model, our_run
from jobs import paths
from jobs.runs.directory import RunDirectory
from minimind.checkpoints import folders as checkpoint_folders
from minimind.checkpoints.convert import to_hf_config
from minimind.inference.engine import Engine
from minimind.inference.quantize import WeightType, choose_precision
from minimind.inference.sampling import SamplingParams
from minimind.network.model import MODEL_PRESETS, MiniMind
from service.loading import sample_tokens

PROMPT, TOKENS = 64, 96
CONTEXT = 512
BATCH, SLOTS = 16, 32
TIE = 1e-4
"""Logits nearer to each other than this are equal but for rounding."""


@dataclass(frozen=True)
class Request:
    """A prompt, and how many tokens are to follow it."""

    prompt: list[int]
    tokens: int


Side = Callable[[list[Request]], list[list[int]]]
"""Writes the answers to requests."""


def random_model(name: str) -> MiniMind:
    """A model that wanders; the real initialisation repeats its last token."""
    model = MiniMind(MODEL_PRESETS[name])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.05, generator=generator)
    return model.eval()


def requests(count: int, ragged: bool, vocab_size: int) -> list[Request]:
    """Random prompts. ragged: log-normal lengths, of prompts with median 40 and of answers with median 32 tokens."""
    draw = random.Random(count)

    def length(median: int, most: int) -> int:
        return min(most, max(4, round(draw.lognormvariate(0, 0.8) * median)))

    shapes = [(length(40, 200), length(32, 160)) if ragged else (PROMPT, TOKENS) for _ in range(count)]
    return [Request([draw.randrange(vocab_size) for _ in range(prompt)], tokens) for prompt, tokens in shapes]


def ours(model: MiniMind, slots: int, weight_type: WeightType = "float32") -> Side:
    """An engine with this many slots."""
    engine = Engine(model, slots=slots, context_tokens=CONTEXT, weight_type=weight_type)

    def write(asked: list[Request]) -> list[list[int]]:
        params = [SamplingParams(one.tokens, temperature=0) for one in asked]
        return [answer.token_ids for answer in engine.generate([one.prompt for one in asked], params)]

    return write


class Peer:
    """transformers' generate, BATCH requests at a time."""

    def __init__(self, model: MiniMind) -> None:
        from transformers import Qwen3Config, Qwen3ForCausalLM

        self.model: Any = Qwen3ForCausalLM(Qwen3Config(**to_hf_config(model.config))).eval()  # type: ignore[no-untyped-call]
        self.model.set_attn_implementation("sdpa")
        self.model.load_state_dict(model.state_dict(), strict=False)  # the tied head is the embedding

    @torch.inference_mode()
    def __call__(self, asked: list[Request]) -> list[list[int]]:
        answers = []
        for start in range(0, len(asked), BATCH):
            batch = asked[start : start + BATCH]
            width, tokens = max(len(one.prompt) for one in batch), max(one.tokens for one in batch)
            ids = torch.tensor([[0] * (width - len(one.prompt)) + one.prompt for one in batch])
            mask = torch.tensor([[0] * (width - len(one.prompt)) + [1] * len(one.prompt) for one in batch])
            written = self.model.generate(
                ids, attention_mask=mask, max_new_tokens=tokens, do_sample=False, eos_token_id=None, pad_token_id=0
            )
            answers += [row[width : width + one.tokens].tolist() for row, one in zip(written, batch, strict=True)]
        return answers

    @torch.inference_mode()
    def differs(self, one: Request, answer: list[int], expected: list[int]) -> bool:
        """Whether an answer is another than the peer's for a reason that is not rounding."""
        place = next((i for i, pair in enumerate(zip(answer, expected, strict=True)) if pair[0] != pair[1]), None)
        if place is None:
            return False
        logits_V = self.model(torch.tensor([one.prompt + expected[:place]])).logits[0, -1]
        return bool((logits_V[answer[place]] - logits_V[expected[place]]).abs() > TIE)


def losses(weights: str | None, console: Console) -> dict[WeightType, float]:
    """What the smaller types cost of bits per byte, on the text that the server measures on."""
    if weights is not None:
        run = RunDirectory(paths.runs() / weights)
        folder = checkpoint_folders.folder_of(run.checkpoints, checkpoint_folders.steps(run.checkpoints)[-1])
        model, tokenizer, _ = checkpoints.load_model(folder)
        origin = str(folder)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            corpus = Corpus(paths.checkout() / "data" / "samples" / "pretrain.jsonl", Path(temporary))
            config, optim = SIZES["tiny"]
            model, tokenizer = new_model(config, seed=0), corpus.tokenizer
            (end,) = our_run(corpus, model, optim, seed=0, steps=60, measurements=1)
        origin = f"tiny, trained on the bundled samples to {end.bits_per_byte:.2f} bits per byte of held-out text"
    tokens = sample_tokens(tokenizer, model.config.max_position_embeddings)
    console.print(f"loss of bits per byte: {origin}; measured on {len(tokens)} tokens of bundled text")
    return choose_precision(model.eval(), tokens).losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cases = {"batch1": 1.3, "batch16": 1.3, "ragged128": 3.5, "bf16_batch1": 2.0, "int8_batch1": 3.8}
    parser.add_argument("--model", default="30m", choices=sorted(MODEL_PRESETS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", nargs="+", choices=list(cases), default=list(cases), metavar="CASE")
    parser.add_argument("--weights", metavar="RUN", help="measure the loss of bits per byte on this run")
    args = parser.parse_args()
    console = Console(width=110)
    torch.set_num_threads(args.threads)
    model = random_model(args.model)
    peer, vocab_size = Peer(model), model.config.vocab_size
    one, sixteen, many = (requests(count, count == 128, vocab_size) for count in (1, BATCH, 128))
    plans: dict[str, tuple[Side, list[Request]]] = {
        "batch1": (ours(model, 1), one),
        "batch16": (ours(model, BATCH), sixteen),
        "ragged128": (ours(model, SLOTS), many),
        "bf16_batch1": (ours(model, 1, "bfloat16"), one),
        "int8_batch1": (ours(model, 1, "int8"), one),
    }
    rates: dict[str, list[float]] = {}
    expected: dict[int, list[list[int]]] = {}
    wrong = 0

    def measure(name: str, side: Side, asked: list[Request]) -> list[list[int]]:
        began = time.perf_counter()
        answers = side(asked)
        rates.setdefault(name, []).append(sum(request.tokens for request in asked) / (time.perf_counter() - began))
        return answers

    for number in range(args.rounds + 1):
        for count in sorted({len(plans[case][1]) for case in args.only}):
            of_count = [case for case in args.only if len(plans[case][1]) == count]
            asked = plans[of_count[0]][1]
            if number or count < 128:  # the first round warms up
                expected[count] = measure(f"peer {count}", peer, asked)
            for case in of_count:
                answers = measure(case, plans[case][0], asked)
                if number and case in ("batch1", "batch16", "ragged128"):
                    wrong += sum(map(peer.differs, asked, answers, expected[count]))
        if not number:
            rates.clear()

    table = Table("", "transformers fp32", "ours", "ratio", "asked for")
    figures: dict[str, float] = {}
    for case in args.only:
        theirs, own = (statistics.median(rates[name]) for name in (f"peer {len(plans[case][1])}", case))
        figures[case] = round(own / theirs, 2)
        table.add_row(case, f"{theirs:.0f} tokens/s", f"{own:.0f} tokens/s", f"{own / theirs:.2f}", f"{cases[case]}")
    found = losses(args.weights, console)
    table.add_row("bf16_bpb_loss", "", "", f"{100 * found['bfloat16']:+.3f} %", "below 0.5 %")
    table.add_row("int8_bpb_loss", "", "", f"{100 * found['int8']:+.3f} %", "below 0.5 %")
    figures["int8_bpb_loss"] = round(found["int8"], 5)
    console.print(table)
    if wrong:
        raise SystemExit(f"{wrong} answers in fp32 are not the peer's: its figures are worth nothing")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
