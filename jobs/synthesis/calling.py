"""A model's own answers with calls of tools among them, written as in training that tries."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from data.prompts import Prompt
from jobs.evaluation.evaluate import LocalExaminee
from jobs.stages import flags
from jobs.stages.grpo import GrpoConfig
from jobs.stages.prompts import attempt_of
from jobs.stages.trying import TryingSettings, toolbox
from jobs.synthesis.samples import Sampling, seed_of
from minimind.checkpoints.checkpoint import load_model
from minimind.config import override
from minimind.evaluation.asking import AskingError, Progress
from minimind.language import say
from minimind.rewards.terms import Attempt
from minimind.text.chat import render
from minimind.training.rollout import Writer, Writing


def tools_of(text: str, folder: Path) -> TryingSettings:
    """What an answer may call, as `stage.tools` has it in JSON, with the settings of a stage that tries. folder: from
    which the paths of tables count. Raises ValueError for what are no tools, and for a table that is not there.
    """
    try:
        json.loads(text)
    except ValueError as error:
        raise ValueError(say("{text}: not JSON ({error})", text=f"--tools {text}", error=error)) from None
    tools = flags.absolute({flags.TOOLS: text}, folder)[flags.TOOLS]
    own = override(GrpoConfig(), {"tools": tools})
    own.require_files()
    return own


class Caller:
    """Answers prompts, which list the tools, and lets the model read what these say. Close it: tools run in processes
    of their own.
    """

    def __init__(self, model: LocalExaminee, own: TryingSettings, sampling: Sampling) -> None:
        self.tokenizer, self.offers, self.sampling = model.tokenizer, own.offers, sampling
        self.context_tokens = model.engine.context_tokens
        self._toolbox = toolbox(own, model.tokenizer)
        policy = load_model(model.weights.folder)[0].to(torch.device(model.device))
        how = Writing(
            seed=sampling.seed,
            answers=sampling.samples,
            max_tokens=sampling.max_tokens,
            context_tokens=self.context_tokens,
            stop_id=model.tokenizer.eos_id,
            temperature=sampling.temperature,
            pad_id=model.tokenizer.pad_id,
            max_calls=own.max_calls,
        )
        self._writer = Writer({"policy": policy}, how, self._toolbox)

    def ask(self, prompts: Sequence[Prompt], progress: Progress) -> list[list[Attempt]]:
        """The answers to each prompt, as terms of a reward judge them. Raises AskingError for one that leaves no room,
        or that the template refuses.
        """
        asked = [(seed_of(self.sampling.seed, prompt, 0), self._ids(at, prompt)) for at, prompt in enumerate(prompts)]
        found = []
        for prompt, answers in zip(prompts, self._writer.write(0, asked), strict=True):
            found.append([attempt_of(self.tokenizer, one, prompt.answer or "") for one in answers])
            for one in answers:
                progress(len(one.own))
        return found

    def close(self) -> None:
        """Ends the tools' processes."""
        if self._toolbox is not None:
            self._toolbox.close()

    def _ids(self, place: int, prompt: Prompt) -> list[int]:
        turns: list[Mapping[str, object]] = [dict(turn) for turn in prompt.turns]
        lists = any(turn.get("tools") for turn in turns)  # its own count more, as in training
        try:
            ids = render(self.tokenizer, turns, () if lists else self.offers, add_generation_prompt=True).ids
        except ValueError as error:
            raise AskingError(place * self.sampling.samples, str(error)) from None
        if len(ids) >= self.context_tokens:
            problem = say(
                "a prompt of {count} tokens leaves no room for an answer: {most} fit",
                count=len(ids),
                most=self.context_tokens,
            )
            raise AskingError(place * self.sampling.samples, problem)
        return ids
