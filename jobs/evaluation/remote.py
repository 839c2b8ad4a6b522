"""A model behind an endpoint, examined as a checkpoint is: it has answers, and no likelihoods."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.suite import Rows
from jobs.endpoints.endpoint import Endpoint, EndpointError
from jobs.endpoints.reply import read_reply
from jobs.evaluation.ask import Tools, answers
from jobs.evaluation.evaluate import elsewhere
from jobs.runs.evals import Record
from jobs.runs.program import program
from minimind.evaluation.asking import Progress, Reply
from minimind.inference.sampling import SamplingParams
from minimind.language import say


@dataclass(frozen=True)
class RemoteExaminee:
    """Asked over HTTP with the same prompts, seeds and limits; what its server makes of them is its own."""

    endpoint: Endpoint

    @property
    def name(self) -> str:
        """The model and where it is."""
        return self.endpoint.name

    def path_of(self, suite: str) -> Path:
        """Where the log of a suite lies."""
        return elsewhere(suite, self.name)

    def known(self) -> dict[str, Any]:
        """What the log says of it: nobody knows its weights."""
        unknown = dict.fromkeys(("run", "step", "context"))
        nothing = dict.fromkeys(("stage", "checkpoint", "weights", "tokenizer", "template", "precision"), "")
        return {"model": self.name, **unknown, **nothing, "device": self.endpoint.url, "program": program()}

    def ask(self, rows: Rows, progress: Progress) -> list[Record]:
        """The records. Raises ValueError for a suite that asks for likelihoods, EndpointError where it stops."""
        if rows.suite.ask.how != "answer":
            raise ValueError(
                say(
                    "{suite} asks how likely texts are, which no endpoint says; it can be asked what answers: skills",
                    suite=rows.suite.name,
                )
            )
        done = 0

        def reply(
            talks: list[list[dict[str, Any]]],
            params: list[SamplingParams],
            tools: list[Tools] | None,
            progress: Progress,
        ) -> list[Reply]:
            def told() -> None:
                nonlocal done
                done += 1
                progress(0)

            offered = tools or [()] * len(talks)
            bodies = [_body(*one) for one in zip(talks, params, offered, strict=True)]
            return self.endpoint.chat(bodies, read_reply, told)

        try:
            return answers(reply, (), rows, progress)
        except EndpointError as error:
            raise EndpointError(
                say("{error}. {done} answers had come; nothing was kept", error=error, done=done)
            ) from None


def _body(talk: list[dict[str, Any]], params: SamplingParams, tools: Tools) -> dict[str, Any]:
    return {
        "messages": talk,
        "temperature": params.temperature,
        "max_tokens": params.max_tokens,
        "seed": (params.seed or 0) % 2**31,  # some servers read 32 bits
        **({"tools": list(tools)} if tools else {}),
    }
