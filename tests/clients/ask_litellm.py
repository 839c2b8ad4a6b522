"""What litellm gets from a server: run with its address and a model's name, says what came as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import litellm

litellm.suppress_debug_info = True


def main(address: str, name: str, capital: str, forecast: str, tool: str, prime: str) -> None:
    tools = [json.loads(tool)]
    common: dict[str, Any] = {
        "model": f"openai/{name}",
        "api_base": f"{address}/v1",
        "api_key": "none",
        "temperature": 0,
        "num_retries": 0,
    }

    def ask(question: str, *more: Any, **how: Any) -> Any:
        return litellm.completion(messages=[{"role": "user", "content": question}, *more], **common, **how)

    def message(reply: Any) -> Any:
        return reply.choices[0].message

    said: dict[str, Any] = {}
    again = {"role": "user", "content": capital}
    answer = message(ask(capital))
    said["answer"] = answer.content
    said["second_turn"] = [
        message(ask(capital, answer, again)).content,
        message(ask(capital, answer.model_dump(), again)).content,
    ]

    chunks = list(ask(capital, stream=True, stream_options={"include_usage": True}))
    whole: Any = litellm.stream_chunk_builder(chunks)
    said["streamed"] = message(whole).content
    said["usage"] = whole.usage.completion_tokens > 1
    said["after_a_stream"] = message(ask(capital, message(whole).model_dump(), again)).content

    thought = message(ask(prime))
    said["thought"] = [thought.reasoning_content, thought.content]
    said["after_a_thought"] = message(ask(prime, thought.model_dump(), again)).content

    for way in ("whole", "stream"):
        if way == "whole":
            call = message(ask(forecast, tools=tools))
        else:
            call = message(litellm.stream_chunk_builder(list(ask(forecast, tools=tools, stream=True))))
        made = call.tool_calls[0]
        said[f"call_{way}"] = [made.function.name, json.loads(made.function.arguments)]
        result = {"role": "tool", "tool_call_id": made.id, "content": '{"sky": "sunny"}'}
        said[f"result_{way}"] = message(ask(forecast, call.model_dump(), result, tools=tools)).content

    as_text: Any = litellm.text_completion(
        prompt="1, 2, 3", max_tokens=4, **{**common, "model": f"text-completion-openai/{name}"}
    )
    said["text"] = as_text.choices[0].text
    try:
        litellm.completion(messages=[again], **{**common, "model": "openai/nobody"})
    except litellm.NotFoundError as error:
        said["nobody"] = "there is no run 'nobody'" in str(error)
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
