"""Errors over HTTP, in the shape that OpenAI's clients read, and the one handler that writes them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException

logger = logging.getLogger(__name__)

MODELS_LISTED = 20

COMPARED = 50
"""Problems of one request that are looked at."""

_LONGEST = 4000
"""Characters of a message, or of a field's name, that are told: a request may repeat itself in them."""


class ApiError(Exception):
    """What a client is told: an HTTP status and OpenAI's `{"error": {message, type, param, code}}`.

    param: the field that is wrong. retry_after_s: when to come again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = _beginning(message)
        self.code = code
        self.param = None if param is None else _beginning(param)
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        """The JSON body; half surrogate pairs, which have no UTF-8, are written as escapes."""
        return {
            "error": {
                "message": _encodable(self.message),
                "type": _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error"),
                "param": None if self.param is None else _encodable(self.param),
                "code": self.code,
            }
        }

    def response(self) -> Response:
        """The whole HTTP response."""
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return Response(to_json(self.body()), self.status, headers, "application/json")

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.status, self.message, self.code, self.param, self.retry_after_s)


def _rebuild(status: int, message: str, code: str | None, param: str | None, retry_after_s: int | None) -> ApiError:
    return ApiError(status, message, code=code, param=param, retry_after_s=retry_after_s)


_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def invalid(message: str, param: str | None = None) -> ApiError:
    """400: a field holds what it may not."""
    return ApiError(400, message, param=param)


def unknown_model(model: str, why: str, known: Sequence[str]) -> ApiError:
    """404 that lists the models there are."""
    listed = ", ".join(known[:MODELS_LISTED]) + (", …" if len(known) > MODELS_LISTED else "")
    there = f"models: {listed}" if known else "there is no model yet: train one with `minimind train`"
    return ApiError(404, f"model {model!r}: {why}; {there}", code="model_not_found", param="model")


def too_long(
    prompt_tokens: int, max_tokens: int | None, context_tokens: int, param: str, *, at_least: bool = False
) -> ApiError:
    """400 with both numbers. at_least: the prompt was not cut into tokens, it cannot have fewer."""
    wanted = f"the prompt has {'at least ' if at_least else ''}{prompt_tokens} tokens"
    ways = "Shorten it,"
    if prompt_tokens >= context_tokens or max_tokens is None:
        wanted += ", which leaves none for an answer"
    else:
        wanted += f" and {max_tokens} more were asked for, {prompt_tokens + max_tokens} together"
        ways = "Ask for fewer (max_tokens), shorten the prompt,"
    return ApiError(
        400,
        f"this model's context is {context_tokens} tokens; {wanted}. {ways} or start the server with more "
        f"(minimind serve --context N)",
        code="context_length_exceeded",
        param=param,
    )


def continues_text(model: str) -> ApiError:
    """400: a conversation for a model that has learnt from plain text alone."""
    run = model.partition("@")[0]
    return ApiError(
        400,
        f"model {model!r} has not learnt to answer, it continues text: ask it at /v1/completions, or teach it to "
        f"answer with `minimind train sft --from_weight {run} --data_path YOUR.jsonl`",
        code="not_a_chat_model",
        param="model",
    )


def too_long_to_score(where: str, tokens: int, context_tokens: int, *, at_least: bool) -> ApiError:
    """400 for a conversation. at_least: it was not cut into tokens, it cannot have fewer."""
    return ApiError(
        400,
        f"{where} has {'at least ' if at_least else ''}{tokens} tokens; a score is given to {context_tokens} at most. "
        f"Shorten it, or start the server with more (minimind serve --context N)",
        code="context_length_exceeded",
        param=where,
    )


def gives_scores(model: str) -> ApiError:
    """400: a reward model is to write."""
    return ApiError(
        400,
        f"model {model!r} is a reward model: it gives scores and writes nothing; it is asked at /v1/scores",
        code="not_a_language_model",
        param="model",
    )


def gives_no_scores(model: str, chat: bool) -> ApiError:
    """400: a model that writes is to give scores. chat: it has learnt to answer."""
    return ApiError(
        400,
        f"model {model!r} writes text and gives no scores: it is asked at /v1/{'chat/' if chat else ''}completions; a "
        f"reward model comes of `minimind train reward`",
        code="not_a_reward_model",
        param="model",
    )


def queue_full(waiting: int) -> ApiError:
    """429: come again in a moment."""
    return ApiError(
        429, f"the server is busy: {waiting} answers wait already; try again soon", code="queue_full", retry_after_s=2
    )


def loading(message: str, retry_after_s: int = 5) -> ApiError:
    """503: nothing is wrong, it is not ready yet."""
    return ApiError(503, message, code="loading", retry_after_s=retry_after_s)


def install(app: FastAPI, unknown_field: Callable[[str], str]) -> None:
    """Gives `app` the handler of all errors. unknown_field: what to say about a field, given its path."""

    def told(request: Request, error: Exception) -> Response:
        if isinstance(error, ApiError):
            return error.response()
        if isinstance(error, RequestValidationError):
            return _validation(error, unknown_field).response()
        if isinstance(error, HTTPException):
            return _http(request, error).response()
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return broken(error).response()

    for kind in (ApiError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, told)


def broken(error: BaseException) -> ApiError:
    """500: a bug of ours; the log has its traceback."""
    return ApiError(500, f"the server failed ({type(error).__name__}); its log says where", code="internal_error")


def _http(request: Request, error: HTTPException) -> ApiError:
    if error.status_code == 404:
        return ApiError(
            404,
            f"there is nothing at {request.method} {request.url.path}; the API is at /v1/…, described by /openapi.json",
        )
    if error.status_code == 405:
        return ApiError(405, f"{request.url.path} does not take {request.method}")
    if error.status_code == 400:  # FastAPI's word for whatever went wrong in between
        encoding = request.headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            return ApiError(415, f"Content-Encoding: {encoding}: send the body as it is, not compressed")
        return invalid(
            "the body cannot be read: it must be JSON in UTF-8, nested a few levels deep at most, with numbers of a "
            "few digits"
        )
    return ApiError(error.status_code, str(error.detail))


def _validation(error: RequestValidationError, unknown_field: Callable[[str], str]) -> ApiError:
    problems: dict[str, str] = {}
    # Each is compared with each below, and three are told: a few are enough.
    found = [(_path(error.body, item["loc"], item["type"]), item) for item in error.errors()[:COMPARED]]
    for path, item in found:
        if any(_outdoes(path, item, other_path, other) for other_path, other in found):
            continue
        if item["type"] == "wrong_field":
            path, message = item["ctx"]["field"], item["ctx"]["message"]
        elif item["type"] == "extra_forbidden":
            message = unknown_field(path)
        elif item["type"] == "json_invalid":
            path, message = "", f"the body is not JSON: {item['ctx']['error']}"
        elif isinstance(item["input"], bytes):
            message = "the body must be JSON, with the header 'Content-Type: application/json'"
        elif item["type"] == "missing":
            message = "is missing" if path else "the body is missing: it must be JSON"
        else:
            message = f"{item['msg'].removeprefix('Value error, ')} (got {_short(item['input'])})"
        problems.setdefault(path, message)  # the branches of a union each have their say; one is enough
    texts = [f"{path}: {message}" if path else message for path, message in list(problems.items())[:3]]
    more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
    return invalid("; ".join(texts) + more, next(iter(problems)) or None)


def _outdoes(path: str, item: Any, other_path: str, other: Any) -> bool:
    """Whether `item` comes of a branch of a union that was not meant: another branch liked the value's type."""
    if not item["type"].endswith("_type"):
        return False
    return other_path.startswith((f"{path}.", f"{path}[")) or (
        other_path == path and not other["type"].endswith("_type")
    )


def _path(body: Any, location: Sequence[Any], kind: str) -> str:
    """`messages[0].content` of pydantic's location, without the names of the union branches in between."""
    text, node = "", body
    for position, part in enumerate(location[1:], start=2):
        last = position == len(location) and kind in ("missing", "extra_forbidden")
        if isinstance(node, dict) and isinstance(part, str) and (part in node or last):
            text += ("." if text else "") + part
            node = node.get(part)
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            text += f"[{part}]"
            node = node[part]
    return text


def _short(value: Any, limit: int = 60) -> str:
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'an array'} of {len(value)}"
    text = repr(value[: limit + 1] if isinstance(value, str) else value)
    return text if len(text) <= limit else text[:limit] + "…"


def _beginning(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
