"""A model behind an endpoint, examined as a checkpoint is: it has answers, and no likelihoods."""

from __future__ import annotations

import json
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
            def told() -> None:
                nonlocal done
                done += 1
                progress(0)

            offered = tools or [()] * len(talks)
            return self.endpoint.chat([_body(*one) for one in zip(talks, params, offered, strict=True)], _reply, told)

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
    """What came, in our words. Raises whatever comes of an answer that is not as OpenAI's are."""
    choice = answer["choices"][0]
    message = choice.get("message") or {}  # none where a filter kept it back
    made = [call["function"] for call in message.get("tool_calls") or ()]
    calls = [(str(call["name"]), _arguments(call.get("arguments"))) for call in made]
    thinking, text = _thought(_text(message.get("content")))
    usage = (answer.get("usage") or {}).get("completion_tokens")
    return Reply(
        text=text + "".join(arguments for _, arguments in calls if not _is_json(arguments)),
        thinking=str(message.get("reasoning_content") or message.get("reasoning") or thinking),
        calls=tuple(call for call in calls if _is_json(call[1])),
        finish=str(choice.get("finish_reason") or "stop"),
        tokens=None if usage is None else int(usage),
        logprob=None,
        seconds=seconds,
    )


def _text(content: Any) -> str:
    """What a message says: a text, or a list of parts of which some are texts."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if part.get("type", "text") == "text")
    return str(content or "")


def _thought(text: str) -> tuple[str, str]:
    """What a model thought, where its server leaves that in the answer, and the answer."""
    before, end, answer = text.partition("</think>")
    return (before.strip().removeprefix("<think>").strip(), answer.lstrip()) if end else ("", text)


def _arguments(value: Any) -> str:
    return value or "{}" if isinstance(value, str | None) else json.dumps(value, ensure_ascii=False)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
