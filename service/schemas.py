"""What clients send, under OpenAI's names. Anything else in a request is refused by its name.

Values are strict (no number in quotes). A field that is not known asks for nothing if it is null, [] or {}: clients
send their objects back with every field there is. Others that are not in these models are in a table: IGNORED ones
cannot change an answer and are passed over, as are the `passed_over` ones of a model; UNSUPPORTED ones would change it,
so they are refused with the reason, unless their value asks for nothing; ELSEWHERE has the names of other servers.
"""

from __future__ import annotations

import difflib
import math
import re
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal, TypeVar, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

MAX_DEPTH = 64
"""How deeply objects and arrays of a request may be nested."""

MAX_PARTS = 40_000
"""Lists and objects in one body: more of them than any conversation has, and few enough to be looked at at once."""

MANY = 10
"""So many unknown fields of one object are enough to refuse it: no more are looked at."""

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
        "request_id",
        "priority",
        "cache_prompt",
        "cache_salt",
    }
)
"""Fields that cannot change an answer: OpenAI's, and in the last line vLLM's and llama.cpp's."""

_SWITCH = "thinking is on or off: chat_template_kwargs.enable_thinking"
_CONSTRAINED = "answers are free text; ask for the format in the prompt"

UNSUPPORTED: dict[str, tuple[str, tuple[Any, ...]]] = {
    "logit_bias": ("biases on single tokens do not exist here", ()),
    "response_format": (_CONSTRAINED, ({"type": "text"},)),
    "functions": ("it is OpenAI's old name, use tools", ()),
    "function_call": ("it is OpenAI's old name, use tool_choice", ()),
    "modalities": ("models here read and write text", (["text"],)),
    "audio": ("models here read and write text", ()),
    "web_search_options": ("the server does not search the web", ()),
    "reasoning": (_SWITCH, ()),
    "thinking": (_SWITCH, ()),
    "verbosity": ("ask for it in the prompt", ("medium",)),
    "best_of": ("use n, and choose", (1,)),
    "suffix": ("models here continue a text, they do not fill a gap", ("",)),
    "min_tokens": ("an answer may be as short as the model likes", (0,)),
    "use_beam_search": ("answers are drawn; temperature 0 takes the likeliest token", (False,)),
    "length_penalty": ("it belongs to beam search, which does not exist here", (1,)),
    "typical_p": ("use top_p or min_p", (1,)),
    "tfs_z": ("use top_p or min_p", (1,)),
    "top_a": ("use min_p", (0,)),
    "mirostat": ("use top_p or min_p", (0,)),
    "stop_token_ids": ("name the texts that end an answer in stop", ()),
    "bad_words": ("words cannot be forbidden here", ()),
    "include_stop_str_in_output": ("a stop string is no part of an answer", (False,)),
    "skip_special_tokens": ("special tokens are no text here", (True,)),
    "spaces_between_special_tokens": ("special tokens are no text here", (True, False)),
    "prompt_logprobs": ("/v1/completions scores a prompt: echo = true with logprobs", ()),
    "continue_final_message": ("/v1/completions goes on with a text", (False,)),
    "add_generation_prompt": ("a conversation is always answered; /v1/completions goes on with a text", (True,)),
    "chat_template": ("the template of a checkpoint is the one that it learnt with", ()),
    "guided_json": (_CONSTRAINED, ()),
    "guided_regex": (_CONSTRAINED, ()),
    "guided_choice": (_CONSTRAINED, ()),
    "guided_grammar": (_CONSTRAINED, ()),
    "structured_outputs": (_CONSTRAINED, ()),
    "grammar": (_CONSTRAINED, ("",)),
    "json_schema": (_CONSTRAINED, ()),
    "num_ctx": ("the context is the server's: minimind serve --context N", ()),
    "options": ("it is Ollama's own; its entries are fields of their own here", ()),
}
"""Fields that are refused -> why, and the values that change nothing, beside null, [] and {}."""

ELSEWHERE = {
    "max_new_tokens": "max_tokens",
    "max_length": "max_tokens",
    "n_predict": "max_tokens",
    "num_predict": "max_tokens",
    "max_output_tokens": "max_tokens",
    "stop_sequences": "stop",
    "stop_strings": "stop",
    "random_seed": "seed",
    "repeat_penalty": "repetition_penalty",
    "rep_pen": "repetition_penalty",
    "do_sample": "temperature (0 takes the likeliest token)",
    "num_return_sequences": "n",
    "system": "messages (a first one with role 'system')",
    "system_prompt": "messages (a first one with role 'system')",
    "input": "messages, prompt at /v1/completions, or conversations at /v1/scores",
    "inputs": "messages, prompt at /v1/completions, or conversations at /v1/scores",
    "think": "enable_thinking",
    "thinking_budget": "enable_thinking, on or off",
    "chat_template_kwargs.thinking": "chat_template_kwargs.enable_thinking",
}
"""What other servers call a field -> what it is here."""


def unknown_field(path: str) -> str:
    """What to say about a field that is not in these models, given its path in the request."""
    if path in UNSUPPORTED:
        return f"is not supported: {UNSUPPORTED[path][0]}"
    if path in ELSEWHERE:
        return f"there is no such field; here it is {ELSEWHERE[path]}"
    requests = (("chat/completions", ChatRequest), ("completions", CompletionRequest), ("scores", ScoreRequest))
    fields = {f"/v1/{endpoint}": request.model_fields for endpoint, request in requests}
    if other := next((endpoint for endpoint, known in fields.items() if path in known), None):
        return f"there is no such field here; {other} has it"
    known = [name for names in fields.values() for name in names]
    near = difflib.get_close_matches(path, known, n=1) if "." not in path else []
    return f"there is no such field; did you mean {near[0]}?" if near else "there is no such field"


T = TypeVar("T")

Some = Annotated[list[T], Field(fail_fast=True)]
"""A list of which the first bad entry is told: millions of errors would keep everybody waiting."""


class _Body(BaseModel):
    """Frozen and strict; unknown fields, infinities and NaN are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    passed_over: ClassVar[frozenset[str]] = frozenset()
    """Fields that clients send with this object and that cannot change an answer."""

    @model_validator(mode="before")
    @classmethod
    def _without_what_asks_for_nothing(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        unknown = (name for name in values if name not in cls.model_fields and not cls._asks_for_nothing(name, values))
        refused = {name: values[name] for name in islice(unknown, MANY)}
        return {name: value for name, value in values.items() if name in cls.model_fields} | refused

    @classmethod
    def _asks_for_nothing(cls, name: str, values: dict[str, Any]) -> bool:
        return name in cls.passed_over or _is_nothing(values[name])


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, (list, dict)) and not value)


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

    passed_over = frozenset({"cache_control", "annotations", "index", "id"})

    type: Literal["text"]
    text: str


Content = str | Some[TextPart]


class FunctionCall(_Body):
    """A call that the assistant made; arguments is the JSON text of an object."""

    passed_over = frozenset({"parsed_arguments"})

    name: Name
    arguments: str


class ToolCall(_Body):
    """A tool call of an assistant message."""

    passed_over = frozenset({"index", "cache_control", "provider_specific_fields", "extra_content"})

    id: str
    type: Literal["function"] | None = "function"
    function: FunctionCall


class _Message(_Body):
    """What all messages may have. `type` is what old evaluation harnesses write into each."""

    passed_over = frozenset({"cache_control", "id"})

    name: str | None = None
    type: Literal["text"] | None = None


class SystemMessage(_Message):
    """Instructions; `developer` is OpenAI's newer word for the same."""

    role: Literal["system", "developer"]
    content: Content


class UserMessage(_Message):
    """What the user says."""

    role: Literal["user"]
    content: Content


class AssistantMessage(_Message):
    """An earlier answer, as the server gave it, or as a client keeps it. reasoning: a name of reasoning_content."""

    passed_over = _Message.passed_over | {
        "annotations",
        "parsed",
        "provider_specific_fields",
        "thinking_blocks",
        "reasoning_details",
        "images",
    }

    role: Literal["assistant"]
    content: Content | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: Some[ToolCall] | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None

    @model_validator(mode="after")
    def _says_something(self) -> AssistantMessage:
        if self.content is None and not self.tool_calls and not self.thoughts:
            raise ValueError("an assistant message needs content or tool_calls")
        if len({self.reasoning_content, self.reasoning} - {None, ""}) > 1:
            raise ValueError("reasoning and reasoning_content are two names of one text; here they differ")
        ids = [call.id for call in self.tool_calls or ()]
        if len(set(ids)) < len(ids):
            raise ValueError(f"two of its tool_calls have one id ({', '.join(ids)}): results are bound to calls by it")
        return self

    @property
    def thoughts(self) -> str:
        """What was thought before the answer."""
        return self.reasoning_content or self.reasoning or ""


class ToolMessage(_Message):
    """What a tool answered."""

    passed_over = _Message.passed_over | {"artifact", "status"}

    role: Literal["tool"]
    content: Content
    tool_call_id: str


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]
Messages = Annotated[Some[Message], Field(min_length=1, max_length=10_000)]


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

    passed_over = frozenset({"cache_control"})

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

    passed_over = frozenset({"include_obfuscation"})

    include_usage: bool | None = None


class ChatTemplateOptions(_Body):
    """enable_thinking: true makes the model think first, false keeps it from it; left out, it decides.

    open_thinking: MiniMind's first server calls it so.
    """

    enable_thinking: bool | None = None
    open_thinking: bool | None = None


Stop = Annotated[str, Field(min_length=1, max_length=1000)]

NO_LIMIT = -1
"""As clients of vLLM, llama.cpp and LM Studio write it."""


def _some(tokens: int) -> int:
    if tokens == 0:
        raise ValueError(f"an answer has at least 1 token; {NO_LIMIT} is as many as fit")
    return tokens


AnswerTokens = Annotated[int, Field(ge=NO_LIMIT), AfterValidator(_some)]


class _Request(_Body):
    """What all endpoints share. None stands for the default, as with OpenAI."""

    model: Annotated[str, Field(min_length=1, max_length=200)]

    @model_validator(mode="before")
    @classmethod
    def _can_be_written(cls, values: Any) -> Any:
        if isinstance(values, dict):
            _require_plain(values)
        return values

    @classmethod
    def _asks_for_nothing(cls, name: str, values: dict[str, Any]) -> bool:
        changes_nothing = UNSUPPORTED[name][1] if name in UNSUPPORTED else ()
        return name in IGNORED or values[name] in changes_nothing or super()._asks_for_nothing(name, values)


class _Sampling(_Request):
    """What the endpoints share that write."""

    n: Annotated[int, Field(ge=1, le=128)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=NO_LIMIT, le=1_000_000)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=2)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: Stop | Annotated[Some[Stop], Field(max_length=16)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    ignore_eos: bool | None = None

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

    messages: Messages
    max_tokens: AnswerTokens | None = None
    max_completion_tokens: AnswerTokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[Some[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: ChatTemplateOptions | None = None
    enable_thinking: bool | None = None
    open_thinking: bool | None = None
    reasoning_effort: str | None = None

    @model_validator(mode="after")
    def _check(self) -> ChatRequest:
        both = (self.max_tokens, self.max_completion_tokens)
        if None not in both and both[0] != both[1]:
            raise ValueError(
                f"max_tokens = {both[0]} and max_completion_tokens = {both[1]} are two names of one number"
            )
        if self.top_logprobs and not self.logprobs:
            raise _wrong("top_logprobs", "needs logprobs = true")
        names = [tool.function.name for tool in self.tools or ()]
        if len(set(names)) < len(names):
            raise _wrong("tools", f"two functions have one name ({', '.join(names)})")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            there = ", ".join(names) or "none"
            raise _wrong("tool_choice", f"names {self.tool_choice.function.name!r}; tools has: {there}")
        if self.tool_choice == "required" and not names:
            raise _wrong("tool_choice", "'required' needs tools")
        if self.reasoning_effort not in (None, "none"):
            raise _wrong("reasoning_effort", f"{self.reasoning_effort!r} is not supported: {_SWITCH} ('none' is off)")
        if len({value for _, value in self._switches()}) > 1:
            said = ", ".join(f"{name} = {str(value).lower()}" for name, value in self._switches())
            raise ValueError(f"names of one switch with different values: {said}")
        return self

    @property
    def thinking(self) -> bool | None:
        """Whether the model must think first, or must not; None leaves it to the model."""
        return next((value for _, value in self._switches()), None)

    def _switches(self) -> list[tuple[str, bool]]:
        """What is said about thinking, under its several names."""
        options = self.chat_template_kwargs or ChatTemplateOptions()
        said = [
            ("chat_template_kwargs.enable_thinking", options.enable_thinking),
            ("chat_template_kwargs.open_thinking", options.open_thinking),
            ("enable_thinking", self.enable_thinking),
            ("open_thinking", self.open_thinking),
            ("reasoning_effort 'none'", None if self.reasoning_effort is None else False),
        ]
        return [(name, value) for name, value in said if value is not None]


Ids = Some[Annotated[int, Field(ge=0, lt=2**31)]]


class CompletionRequest(_Sampling):
    """POST /v1/completions. prompt: one text, several, or token ids of one or several.

    logprobs: how many alternatives to name at each token; with echo, those of the prompt as well. add_special_tokens:
    (vLLM's name) put the token in front of each text with which documents began when the model learnt.
    """

    prompt: str | Ids | Some[str] | Some[Ids]
    max_tokens: Annotated[int, Field(ge=NO_LIMIT)] | None = None
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


def _answered(messages: list[Message]) -> list[Message]:
    if (role := messages[-1].role) != "assistant":
        raise ValueError(f"a score is that of the assistant's answer at the end; here the role at the end is {role!r}")
    return messages


class ScoreRequest(_Request):
    """POST /v1/scores. conversations: each with the answer at its end that is to be judged."""

    conversations: Annotated[Some[Annotated[Messages, AfterValidator(_answered)]], Field(min_length=1, max_length=128)]


def _require_plain(body: dict[str, Any]) -> None:
    """Refuses half a surrogate pair, NaN, and parts and nesting without end: no prompt or answer could hold them."""
    # A body may hold millions of values, and names as long as itself: a path is written for the bad one only.
    stack: list[tuple[Any, int, _Keys]] = [(body, 1, None)]
    seen = 1
    while stack:
        value, depth, keys = stack.pop()
        if depth > MAX_DEPTH:
            raise _wrong(_path(keys), f"is nested more than {MAX_DEPTH} deep")
        named = isinstance(value, dict)
        if named:
            for key in value:
                if not key.isascii():
                    _require_whole(key, keys)
        for key, item in value.items() if named else enumerate(value):
            if isinstance(item, str):
                if not item.isascii():
                    _require_whole(item, (keys, key))
            elif isinstance(item, float):
                if not math.isfinite(item):
                    raise _wrong(_path((keys, key)), f"{item} is no JSON number")
            elif isinstance(item, (list, dict)):
                seen += 1
                if seen > MAX_PARTS:
                    raise _wrong(
                        _path((keys, key)), f"is one list or object more than {MAX_PARTS}, all that a body may hold"
                    )
                stack.append((item, depth + 1, (keys, key)))


_Keys = tuple[Any, str | int] | None
"""Where a value stands: the keys of what holds it, of this form too, and its own; None for the body."""


def _path(keys: _Keys) -> str:
    names = []
    while keys is not None:
        keys, key = keys
        names.append(f"[{key}]" if isinstance(key, int) else f".{key}")
    return "".join(reversed(names)).removeprefix(".")


def _require_whole(text: str, keys: _Keys) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = text[error.start]
        raise _wrong(
            _path(keys), f"character {error.start} is half a surrogate pair ({half!r}); send whole characters"
        ) from None
