"""A model in this process as an answerer: no server is needed."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jobs import paths
from jobs.runs import references
from jobs.runs.directory import RunDirectory
from jobs.serving.answerer import CONTINUED_TOKENS, Manner, Message, Model, Part
from minimind.language import phrase, say

MAX_TOKENS = 1024
"""Longest answer without a server, in tokens."""


class InProcess:
    """A model loaded into this process."""

    def __init__(self, place: Callable[[str], Path] = paths.absolute) -> None:
        """place: the absolute form of a folder's path."""
        self._place = place
        self._loaded: tuple[str, Any, Any, Any] | None = None

    def models(self) -> list[Model]:
        """The checkpoints of all runs that write."""
        from jobs.serving.models import model_cards

        cards = [card for card in model_cards(paths.runs()) if not card.scores]
        return [Model(card.id, card.chat, card.sampling["temperature"], card.weights) for card in cards]

    def find(self, name: str) -> Model:
        """The model of a run, or of a folder with a slash in it."""
        from jobs.stages.lineage import learnt_to_answer
        from minimind.checkpoints.checkpoint import read_sampling, require_language_model

        folder = self._folder(name)
        require_language_model(folder)
        run = RunDirectory(folder.parent.parent)
        sampling = read_sampling(folder)
        return Model(name, not run.exists or learnt_to_answer(run), sampling.temperature if sampling else None)

    def _folder(self, name: str) -> Path:
        return references.find_weights(str(self._place(name)) if paths.is_path(name) else name).folder

    def answer(self, model: str, messages: Sequence[Message], manner: Manner) -> Iterator[Part]:
        """The answer of an engine with one slot."""
        from minimind.text.chat import StreamParser, ends_in_thought, render

        _, tokenizer, _ = self._engine(model)
        prompt = render(tokenizer, messages, thinking=manner.thinking, add_generation_prompt=True).ids
        parser = StreamParser(tokenizer, thinking=ends_in_thought(tokenizer, prompt))
        for token_id in self._generate(model, prompt, MAX_TOKENS, manner):
            yield from (Part(delta.kind, delta.text) for delta in parser.push(token_id))
        yield from (Part(delta.kind, delta.text) for delta in parser.finish())

    def go_on(self, model: str, text: str, manner: Manner) -> Iterator[Part]:
        """The continuation of an engine with one slot."""
        from jobs.stages.pretrain import beginning

        _, tokenizer, _ = self._engine(model)
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")  # a token may be half a character
        for token_id in self._generate(model, beginning(tokenizer, text), CONTINUED_TOKENS, manner):
            yield Part("content", decoder.decode(tokenizer.decode_bytes((token_id,))))
        yield Part("content", decoder.decode(b"", final=True))

    def _generate(self, model: str, prompt: list[int], most: int, manner: Manner) -> Iterator[int]:
        """The ids of the answer, without the one that ends it. Raises ValueError for an answer that fails."""
        from minimind.inference.sampling import SamplingParams

        engine, tokenizer, sampling = self._engine(model)
        room = engine.context_tokens - len(prompt)
        if room < 1:
            raise ValueError(
                say(
                    "{count} / {most} tokens: the conversation is too long; /new",
                    count=len(prompt),
                    most=engine.context_tokens,
                )
            )
        how = sampling if manner.temperature is None else {**sampling, "temperature": manner.temperature}
        stop_ids = (tokenizer.eos_id, tokenizer.pad_id)
        request = engine.add(prompt, SamplingParams(min(room, most), stop_ids=stop_ids, **how))
        try:
            while engine.busy:
                for event in engine.step():
                    if event.error:
                        raise ValueError(phrase(event.error))
                    if event.token_id is not None and event.token_id not in stop_ids:
                        yield event.token_id
        finally:
            engine.cancel(request)

    def _engine(self, model: str) -> tuple[Any, Any, dict[str, Any]]:
        from dataclasses import asdict

        from minimind.checkpoints.checkpoint import load_model, read_sampling
        from minimind.inference.engine import Engine
        from minimind.inference.sampling import Sampling

        if self._loaded is None or self._loaded[0] != model:
            folder = self._folder(model)
            weights, tokenizer, _ = load_model(folder)
            context = min(2048, weights.config.max_position_embeddings)
            engine = Engine(weights, slots=1, context_tokens=context)
            self._loaded = (model, engine, tokenizer, asdict(read_sampling(folder) or Sampling()))
        return self._loaded[1:]
