"""What clients send, under OpenAI's names. Anything else in a request is refused by its name.

Values are strict (no number in quotes). Fields of OpenAI's API that are not in these models are in one of two tables:
IGNORED ones cannot change an answer and are passed over; UNSUPPORTED ones would, so they are refused with the reason,
unless their value asks for nothing.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

MAX_DEPTH = 64
"""How deeply objects and arrays of a request may be nested."""

IGNORED = frozenset(
    {
        "user",
        "store",
        "metadata",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prediction",
    }
)

UNSUPPORTED: dict[str, tuple[str, tuple[Any, ...]]] = {
    "logit_bias": ("biases on single tokens do not exist here", ({},)),
    "response_format": ("answers are free text; ask for the format in the prompt", ({"type": "text"},)),
    "functions": ("it is OpenAI's old name, use tools", ([],)),
    "function_call": ("it is OpenAI's old name, use tool_choice", ()),
    "modalities": ("models here read and write text", (["text"],)),
    "audio": ("models here read and write text", ()),
    "web_search_options": ("the server does not search the web", ()),
    "reasoning_effort": ("thinking is on or off: chat_template_kwargs.enable_thinking", ()),
    "verbosity": ("ask for it in the prompt", ("medium",)),
    "parallel_tool_calls": ("the model decides how many tools it calls", (True,)),
    "best_of": ("use n, and choose", (1,)),
    "suffix": ("models here continue a text, they do not fill a gap", ("",)),
}
"""OpenAI's fields that are refused -> why, and the values that change nothing."""


class _Body(BaseModel):
    """Frozen and strict; unknown fields, infinities and NaN are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise ValueError("a name has 1 to 64 letters (a-z, A-Z), digits, '_' and '-'")
    return text


def _wrong(field: str, message: str) -> PydanticCustomError:
    """An error of the whole request that belongs to one field; errors.py reads the field out of it."""
    return PydanticCustomError("wrong_field", "{message}", {"field": field, "message": message})


Name = Annotated[str, AfterValidator(_name)]


class TextPart(_Body):
    """A piece of a message's content."""

    type: Literal["text"]
    text: str


Content = str | list[TextPart]


class FunctionCall(_Body):
    """A call that the assistant made; arguments is the JSON text of an object."""

    name: Name
    arguments: str


class ToolCall(_Body):
    """A tool call of an assistant message."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class SystemMessage(_Body):
    """Instructions; `developer` is OpenAI's newer word for the same."""

    role: Literal["system", "developer"]
    content: Content
    name: str | None = None


class UserMessage(_Body):
    """What the user says."""

    role: Literal["user"]
    content: Content
    name: str | None = None


class AssistantMessage(_Body):
    """An earlier answer, as the server gave it."""

    role: Literal["assistant"]
    content: Content | None = None
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    name: str | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None

    @model_validator(mode="after")
    def _says_something(self) -> AssistantMessage:
        if self.content is None and not self.tool_calls and not self.reasoning_content:
            raise ValueError("an assistant message needs content or tool_calls")
        return self


class ToolMessage(_Body):
    """What a tool answered."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str
    name: str | None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


def _object_schema(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type", "object") != "object":
        raise ValueError("parameters must be a JSON schema of type 'object'")
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, dict) or not all(isinstance(value, (dict, bool)) for value in properties.values()):
        raise ValueError("parameters.properties must be an object whose values are JSON schemas")
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise ValueError("parameters.required must be an array of names")
    if missing := [name for name in required if name not in properties]:
        raise ValueError(f"parameters.required names {missing[0]!r}, which parameters.properties has not")
    return schema


class Function(_Body):
    """A tool's function. parameters: the JSON schema of its arguments."""

    name: Name
    description: str | None = None
    parameters: Annotated[dict[str, Any], AfterValidator(_object_schema)] | None = None
    strict: bool | None = None


class Tool(_Body):
    """A tool that the model may call."""

    type: Literal["function"]
    function: Function


class FunctionName(_Body):
    """The name of a tool's function."""

    name: Name


class NamedTool(_Body):
    """A tool that the model must call."""

    type: Literal["function"]
    function: FunctionName


class StreamOptions(_Body):
    """include_usage: a last chunk says how many tokens there were."""

    include_usage: bool | None = None
    include_obfuscation: Literal[False] | None = None


class ChatTemplateOptions(_Body):
    """enable_thinking: true makes the model think first, false keeps it from it; left out, it decides."""

    enable_thinking: bool | None = None


Stop = Annotated[str, Field(min_length=1, max_length=1000)]


class _Sampling(_Body):
    """What both endpoints share. None stands for the default, as with OpenAI."""

    model: Annotated[str, Field(min_length=1, max_length=200)]
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=2)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _pass_over(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        _require_plain(values)
        return {
            name: value
            for name, value in values.items()
            if name not in IGNORED and not (name in UNSUPPORTED and (value is None or value in UNSUPPORTED[name][1]))
        }

    @model_validator(mode="after")
    def _stream_options_need_stream(self) -> _Sampling:
        if self.stream_options is not None and not self.stream:
            raise _wrong("stream_options", "is for streams: set stream to true, or leave it out")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return () if self.stop is None else (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(_Sampling):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=10_000)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    chat_template_kwargs: ChatTemplateOptions | None = None

    @model_validator(mode="after")
    def _check(self) -> ChatRequest:
        both = (self.max_tokens, self.max_completion_tokens)
        if None not in both and both[0] != both[1]:
            raise ValueError(
                f"max_tokens = {both[0]} and max_completion_tokens = {both[1]} are two names of one number"
            )
        if self.top_logprobs is not None and not self.logprobs:
            raise _wrong("top_logprobs", "needs logprobs = true")
        names = [tool.function.name for tool in self.tools or ()]
        if len(set(names)) < len(names):
            raise _wrong("tools", f"two functions have one name ({', '.join(names)})")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            there = ", ".join(names) or "none"
            raise _wrong("tool_choice", f"names {self.tool_choice.function.name!r}; tools has: {there}")
        if self.tool_choice == "required" and not names:
            raise _wrong("tool_choice", "'required' needs tools")
        return self


Ids = list[Annotated[int, Field(ge=0, lt=2**31)]]


class CompletionRequest(_Sampling):
    """POST /v1/completions. prompt: one text, several, or token ids of one or several.

    logprobs: how many alternatives to name at each token; with echo, those of the prompt as well. add_special_tokens:
    (vLLM's name) put the token in front of each text with which documents began when the model learnt.
    """

    prompt: str | Ids | list[str] | list[Ids]
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    add_special_tokens: bool | None = None

    @model_validator(mode="after")
    def _check(self) -> CompletionRequest:
        prompts = self.prompts
        if not prompts or not all(prompts):
            raise _wrong("prompt", "is empty: at least one token is needed to go on from")
        if len(prompts) * (self.n or 1) > 128:
            raise _wrong("n", f"{len(prompts)} prompts times n = {self.n or 1}; up to 128 answers may be asked for")
        if self.add_special_tokens and (self.echo or not all(isinstance(text, str) for text in prompts)):
            raise _wrong("add_special_tokens", "is for prompts that are texts, and has no place beside echo")
        if self.max_tokens == 0 and not self.echo:
            raise _wrong("max_tokens", "0 is for echo = true: without it nothing would come back")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """The prompts, each a text or token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if self.prompt and isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(cast("list[str | list[int]]", self.prompt))


def _require_plain(body: dict[str, Any]) -> None:
    """Refuses half a surrogate pair, NaN, and nesting without end: neither a prompt nor an answer could hold them."""
    stack: list[tuple[Any, int, str]] = [(body, 1, "")]
    while stack:
        value, depth, path = stack.pop()
        if depth > MAX_DEPTH:
            raise _wrong(path, f"is nested more than {MAX_DEPTH} deep")
        if isinstance(value, list):
            items = [(f"{path}[{index}]", item) for index, item in enumerate(value) if isinstance(item, _ODD)]
        else:
            items = [(f"{path}.{key}".lstrip("."), item) for key, item in value.items() if isinstance(item, _ODD)]
            items += [(path, key) for key in value]
        for where, item in items:
            if isinstance(item, str):
                _require_whole(item, where)
            elif isinstance(item, float):
                if not math.isfinite(item):
                    raise _wrong(where, f"{item} is no JSON number")
            else:
                stack.append((item, depth + 1, where))


_ODD = (str, float, list, dict)


def _require_whole(text: str, path: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start]
        raise _wrong(
            path, f"character {error.start} is half a surrogate pair ({half!r}); send whole characters"
        ) from None
