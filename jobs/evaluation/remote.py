"""A model behind an endpoint, examined as a checkpoint is: it has answers, and no likelihoods."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.suite import Rows
from jobs.evaluation.ask import Tools, answers
from jobs.evaluation.evaluate import elsewhere
from jobs.runs.evals import Record
from jobs.runs.program import program
from jobs.serving.endpoint import Endpoint, EndpointError
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
            offered = tools or [()] * len(talks)
            bodies = [_body(*one) for one in zip(talks, params, offered, strict=True)]
            began = [time.perf_counter()] * len(bodies)

            def told(place: int) -> None:
                nonlocal done
                done += 1
                began[place] = time.perf_counter() - began[place]
                progress(0)

            found = self.endpoint.chat(bodies, told)
            return [_reply(answer, seconds) for answer, seconds in zip(found, began, strict=True)]

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


def _reply(answer: dict[str, Any], seconds: float) -> Reply:
    """What came, in our words. Raises EndpointError for an answer that is not as OpenAI's are."""
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        made = [call["function"] for call in message.get("tool_calls") or ()]
        calls = [(str(call["name"]), str(call.get("arguments") or "{}")) for call in made]
        broken = "".join(arguments for _, arguments in calls if not _is_json(arguments))
        return Reply(
            text=str(message.get("content") or "") + broken,
            thinking=str(message.get("reasoning_content") or message.get("reasoning") or ""),
            calls=tuple(call for call in calls if _is_json(call[1])),
            finish=str(choice.get("finish_reason") or "stop"),
            tokens=int((answer.get("usage") or {}).get("completion_tokens") or 0),
            logprob=0.0,
            seconds=seconds,
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise EndpointError(say("an answer that is not as OpenAI's are: {error}", error=repr(error))) from None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
