"""What HTTP costs: 64 concurrent streams over Ray Serve against the engine alone, on the same machine.

    python bench/serve.py [--model 30m] [--streams 64] [--tokens 96] [--rounds 5]

A model with random weights is served by a cluster that is started for the benchmark and ended after it. Each round
writes the same answers twice, in turn: by an engine in this process, and over HTTP with one connection for each stream,
whose client runs on the same cores. Tokens per second count from the first request to the last token. Every stream has
a prompt and a seed of its own, and its text is compared with the engine's: `lost` counts answers that are incomplete,
`mixed` those that are another one's or nobody's. Time to first token is that of all streams starting at once.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Imports below count from the checkout, not from this folder.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import os

# As in a replica; OpenMP reads it when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

import minimind.checkpoints.checkpoint as checkpoints
from jobs import paths
from jobs.cluster import local as cluster
from jobs.cluster import machine
from jobs.runs.directory import RunDirectory
from jobs.serving import ports
from jobs.serving import server as serving
from minimind.checkpoints.checkpoint import Lineage
from minimind.events import EventLog
from minimind.inference.engine import Engine
from minimind.inference.sampling import SamplingParams
from minimind.network.model import MODEL_PRESETS, MiniMind
from minimind.text.tokenizer import Tokenizer

CONTEXT = 256


@dataclass
class Answer:
    """One stream: its text, how it ended, and when its first token came, in seconds after its request."""

    text: str
    finish: str
    first_s: float = 0.0


def write_model(name: str) -> tuple[MiniMind, Tokenizer]:
    """A run `bench` with random weights of this size."""
    samples = paths.checkout() / "data" / "samples" / "pretrain.jsonl"
    texts = [json.loads(line)["text"] for line in samples.read_text("utf-8").splitlines()]
    config = MODEL_PRESETS[name]
    tokenizer = Tokenizer.train(texts, vocab_size=config.vocab_size)
    model = MiniMind(config)
    model.initialize(torch.Generator().manual_seed(0))
    with torch.no_grad():  # the real initialisation repeats its last token; this one wanders
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.05, generator=torch.Generator().manual_seed(parameter.numel()))
    run = RunDirectory(paths.runs() / "bench")
    run.create({"stage": {"kind": "pretrain"}})
    checkpoints.save(
        run.checkpoints,
        1,
        model_config=config,
        weights=model.state_dict(),
        tokenizer=tokenizer,
        train_state={},
        lineage=Lineage("bench"),
    )
    with EventLog(run.events_path) as log:
        log.state("SUCCEEDED")
    return model.eval(), tokenizer


def alone(engine: Engine, tokenizer: Tokenizer, prompts: list[list[int]], tokens: int) -> tuple[float, list[Answer]]:
    """Tokens per second of the engine in this process, and its answers."""
    stop_ids = (tokenizer.eos_id, tokenizer.pad_id)
    params = [SamplingParams(max_tokens=tokens, seed=seed, stop_ids=stop_ids) for seed in range(len(prompts))]
    began = time.perf_counter()
    completions = engine.generate(prompts, params)
    seconds = time.perf_counter() - began
    answers = [
        Answer(tokenizer.decode(token for token in one.token_ids if token not in stop_ids), one.finish)
        for one in completions
    ]
    return sum(one.written_tokens for one in completions) / seconds, answers


async def stream(port: int, body: bytes) -> tuple[float, list[bytes]]:
    """One request over a connection of its own; when its first event came, and all its events as they are."""
    began = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    first_s, data = 0.0, []
    while piece := await reader.read(65536):
        data.append(piece)
        if not first_s and b"data: " in piece:
            first_s = time.perf_counter() - began
    writer.close()
    return first_s, data


async def over_http(port: int, prompts: list[list[int]], tokens: int) -> tuple[float, list[Answer]]:
    """Tokens per second over HTTP, and the answers."""
    bodies = [
        json.dumps(
            {
                "model": "bench",
                "prompt": prompt,
                "max_tokens": tokens,
                "seed": seed,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        ).encode()
        for seed, prompt in enumerate(prompts)
    ]
    began = time.perf_counter()
    raw = await asyncio.gather(*(stream(port, body) for body in bodies))
    seconds = time.perf_counter() - began
    answers, written = [], 0
    for first_s, data in raw:
        answer, usage = read_events(b"".join(data))
        answer.first_s = first_s
        written += usage
        answers.append(answer)
    return written / seconds, answers


def read_events(data: bytes) -> tuple[Answer, int]:
    """The answer in a raw response, and how many tokens its usage says; the finish is "" where [DONE] is missing."""
    lines = [line[6:] for line in data.split(b"\n") if line.startswith(b"data: ")]
    text, finish, usage = "", "", 0
    for line in lines[:-1]:
        chunk = json.loads(line)
        for choice in chunk.get("choices", ()):
            text += choice["text"]
            finish = choice["finish_reason"] or finish
        usage = (chunk.get("usage") or {}).get("completion_tokens", usage)
    return Answer(text, finish if lines and lines[-1].strip() == b"[DONE]" else ""), usage


def start(console: Console, slots: int) -> int:
    """A server with this many slots; gives its port."""
    port = machine.free_ports({"http": ports.DEFAULT_PORT}, lambda line: None)["http"]
    args = serving.ServeFlags(port=port, slots=str(slots), context=str(CONTEXT), dtype="float32")
    serving.start(serving.application(args, os.environ), console)
    return port


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="30m", choices=sorted(MODEL_PRESETS))
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    console = Console(width=110)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    rates: dict[str, list[float]] = {"alone": [], "http": []}
    firsts: list[float] = []
    lost = mixed = 0
    table = Table("round", "engine alone", "over HTTP", "share", "first token p50, p95")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINIMIND_HOME"] = folder
        try:
            model, tokenizer = write_model(args.model)
            port = start(console, args.streams)
            engine = Engine(model, slots=args.streams, context_tokens=CONTEXT, tokenizer=tokenizer)
            for number in range(args.rounds + 1):
                # New ones in each round: the server would know how the old ones begin.
                begins = [f"{number}, {stream}: " for stream in range(args.streams)]
                prompts = [tokenizer.encode(begin + "What is the capital of France? " * 4) for begin in begins]
                rate, expected = alone(engine, tokenizer, prompts, args.tokens)
                http_rate, answers = asyncio.run(over_http(port, prompts, args.tokens))
                lost += sum(answer.finish != right.finish for answer, right in zip(answers, expected, strict=True))
                mixed += sum(answer.text != right.text for answer, right in zip(answers, expected, strict=True))
                if not number:
                    continue  # the first one loads the model
                rates["alone"].append(rate)
                rates["http"].append(http_rate)
                times = sorted(answer.first_s for answer in answers)
                firsts += times
                p50, p95 = times[len(times) // 2], times[int(0.95 * len(times))]
                table.add_row(
                    str(number),
                    f"{rate:.0f} tokens/s",
                    f"{http_rate:.0f} tokens/s",
                    f"{http_rate / rate:.2f}",
                    f"{p50:.2f} s, {p95:.2f} s",
                )
        finally:
            cluster.stop()
    console.print(table)
    firsts.sort()
    figures = {
        "http_share": round(statistics.median(rates["http"]) / statistics.median(rates["alone"]), 3),
        "lost": lost,
        "mixed": mixed,
        "ttft_p50_s": round(firsts[len(firsts) // 2], 3),
        "ttft_p95_s": round(firsts[int(0.95 * len(firsts))], 3),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
