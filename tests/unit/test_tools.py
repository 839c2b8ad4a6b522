"""Tools: what they answer, how they fail, and the tokens that a model goes on from."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest

from minimind.language import speaking
from minimind.text.chat import Message, after_calls, parse, render
from minimind.text.tokenizer import Tokenizer
from minimind.tools import calculator, lookup
from minimind.tools.kinds import Calculator, Lookup, Tool, parse_tools
from minimind.tools.toolbox import CUT, Toolbox
from minimind.training.rollout import Reply


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(['{"name": "calculator", "arguments": {"expression": "12 + 34"}} 天气 the sum is'], 420)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("3 + 4 * 2", "11"),
        ("(3 + 4) × 2", "14"),
        ("-2 ** 2", "-4"),
        ("2^10", "1024"),
        ("7 ÷ 2", "3.5"),
        ("0.1 + 0.2", "0.3"),
        ("1 / 3", "0.333333333333"),
        ("7 // 2 - 7 % 2", "2"),
        ("−3 + +5", "2"),
        ("2 ** 0.5", "1.41421356237"),
        ("2 ** -2", "0.25"),
        ("99999999999999999999 + 1", "100000000000000000000"),
        ("（1+2）*3", "9"),
    ],
)
def test_what_is_computed(expression: str, value: str) -> None:
    assert calculator.computed(expression) == value


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("1 / 0", "division by zero"),
        ("5 % (2 - 2)", "division by zero"),
        ("0 ** -1", "division by zero"),
        ("9 ** 9 ** 9", "an exponent is larger"),
        ("10 ** 31", "too large"),
        ("1e400", "too large"),
        ("10 ** -31", "too fine"),
        ("(-8) ** 0.5", "a root of a negative number"),
        ("__import__('os').system('echo')", "only + - "),
        ("[1] * 9", "only + - "),
        ("True + 1", "only numbers"),
        ("2j * 2", "only numbers"),
        ("'a' * 9", "only + - "),
        ("x + 1", "only + - "),
        ("1 < 2", "only + - "),
        ("1 << 99", "only + - "),
        ("3 +", "no arithmetic expression"),
        ("", "no arithmetic expression"),
        ("(" * 150, "no arithmetic expression"),
        ("-" * 199 + "1", ""),
        ("1" * 201, "more than 200 characters"),
    ],
)
def test_what_is_not_computed(expression: str, problem: str) -> None:
    if not problem:
        assert calculator.computed(expression) == "-1"
        return
    with pytest.raises(ValueError, match=r".*" + problem.replace("+", r"\+")):
        calculator.computed(expression)


def asked(function: Any, arguments: dict[str, Any], **settings: Any) -> Any:
    (answer,) = function([{"arguments": arguments, "settings": settings}])
    return answer


@pytest.mark.parametrize("arguments", [{}, {"expression": ["1"]}, {"expression": "1", "b": 1}, {"a": "1"}])
def test_arguments_that_do_not_fit_are_said_to_the_model(arguments: dict[str, Any]) -> None:
    assert "one argument is needed: expression" in asked(calculator.answers, arguments)["error"]
    assert "one argument is needed: key" in asked(lookup.answers, arguments, table="", key=None, value=None)["error"]


def test_numbers_do_for_texts(tmp_path: Path) -> None:
    assert asked(calculator.answers, {"expression": 7}) == "7"
    path = tmp_path / "t.jsonl"
    path.write_text('{"number": 7, "name": "seven"}\n')
    assert asked(lookup.answers, {"key": 7}, table=str(path), key=None, value=None) == "seven"


def test_what_is_looked_up(tmp_path: Path) -> None:
    rows = tmp_path / "prices.jsonl"
    rows.write_text('{"price": 3, "name": "Tea", "from": "云南"}\n\n{"name": "Café", "price": 4.5}\n', "utf-8")
    columns = tmp_path / "prices.csv"
    columns.write_text('\ufeffname,price\nTea,3\n"Salt, fine",1\n', "utf-8")

    def of_rows(key: str, value: str | None = "price") -> Any:
        return asked(lookup.answers, {"key": key}, table=str(rows), key="name", value=value)

    def of_columns(key: str) -> Any:
        return asked(lookup.answers, {"key": key}, table=str(columns), key=None, value=None)

    assert [of_rows(key) for key in (" tea ", "cafe\u0301")] == ["3", "4.5"]
    assert of_rows("tea", None) == '{"price": 3, "from": "云南"}'
    assert of_rows("café", "from") == {"error": "the row has no from"}
    assert of_rows("milk") == {"error": "there is no such key"}
    assert [of_columns(key) for key in ("TEA", "salt, fine")] == ["3", "1"]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("t.jsonl", '{"a": 1}\n{"b": 1}\n', "line 2 has no 'a'; it has b"),
        ("t.jsonl", '{"a": "x"}\n{"a": "X "}\n', "lines 1 and 2 have the same key, 'x'"),
        ("t.jsonl", '{"a": " "}\n', "line 1 has an empty key"),
        ("t.jsonl", '["a"]\n', "line 1 is no JSON object; a table is a .csv file, or objects, one a line"),
        ("t.jsonl", "\n", "it has no rows"),
        ("t.csv", "a,b\n1\n", "line 2 has another number of columns"),
        ("t.csv", "a,b\n1,2,3\n", "line 2 has another number of columns"),
        ("t.jsonl", '{"a": "x", "b": 1}\n', "no row has 'price'; there are a, b"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, name: str, content: str, problem: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    tool = Lookup(table=str(path), key="a", value="price" if "price" in problem else None)
    with pytest.raises(ValueError, match=f"tool lookup: .*{name}: ") as refused:
        tool.require_table(path)
    assert problem in str(refused.value)
    with speaking("zh"), pytest.raises(ValueError, match="工具 lookup"):
        tool.require_table(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="it can't be read"):
        tool.require_table(path)


def test_tools_are_named_by_what_they_are() -> None:
    found = parse_tools([{"is": "calculator"}, {"is": "lookup", "name": "price", "table": "t.csv"}])
    assert [(type(tool), tool.name) for tool in found] == [(Calculator, "calculator"), (Lookup, "price")]
    assert found[1].listed == {
        "type": "function",
        "function": {
            "name": "price",
            "description": "Looks up a key in a table.",
            "parameters": {
                "type": "object",
                "properties": {"key": {"type": "string", "description": "what is looked for"}},
                "required": ["key"],
            },
        },
    }


@pytest.mark.parametrize(
    ("tools", "problem"),
    [
        ([{"is": "calculater"}], r"no tool 'calculater' \(did you mean calculator\?\)"),
        ([{"is": "lookup"}], "tool lookup: table"),
        ([{"is": "calculator", "table": "a"}], "tool calculator: no argument 'table'"),
        ([{"is": "calculator", "name": "a b"}], "tool calculator: name"),
        ([{"is": "calculator"}, {"is": "lookup", "table": "t", "name": "calculator"}], "two tools are called calc"),
        ([{"is": "calculator", "timeout_s": 0}], "timeout_s"),
    ],
)  # fmt: skip
def test_tools_that_there_are_not_are_refused(tools: list[dict[str, Any]], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_tools(tools)


class Own(Tool):
    """A tool of a test's: a module `own` in a folder."""

    function = "own:answers"
    parameters: ClassVar[dict[str, Any]] = {"type": "object"}

    name: str = "own"
    description: str = "Does as it is told."
    timeout_s: float = 5

    @property
    def settings(self) -> dict[str, Any]:
        return {}


CODE = """
import os, time
def answers(calls):
    what = calls[0]["arguments"].get("do", "")
    {}
    return [what]
"""


@pytest.fixture
def own(tmp_path: Path, tokenizer: Tokenizer) -> Iterator[Any]:
    made: list[Toolbox] = []

    def of(body: str = "pass", max_tokens: int = 120, **settings: Any) -> Toolbox:
        (tmp_path / "own.py").write_text(CODE.format(body), "utf-8")
        tool = type("Mine", (Own,), {"folder": tmp_path, "__annotations__": {}, "__module__": __name__})
        made.append(Toolbox([tool(**settings), Calculator()], tokenizer, max_tokens))
        return made[-1]

    yield of
    for box in made:
        box.close()


def call(name: str, /, **arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def turn(tokenizer: Tokenizer, *calls: dict[str, Any], content: str = "") -> tuple[list[int], list[int]]:
    """A prompt, and a turn behind it that calls."""
    messages: list[Message] = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": content, "tool_calls": list(calls)},
    ]
    prompt = render(tokenizer, messages[:1], add_generation_prompt=True).ids
    whole = render(tokenizer, messages).ids
    end = len(whole) - whole[::-1].index(tokenizer.eos_id)
    assert whole[: len(prompt)] == prompt
    return prompt, whole[len(prompt) : end]


def told(box: Toolbox, *calls: dict[str, Any], left: int = 9) -> tuple[list[str], int]:
    """What tools answered to calls, and how many failed."""
    prompt, ids = turn(box.tokenizer, *calls)
    reply = box.reply(prompt, ids, left)
    assert reply is not None
    text = box.tokenizer.decode(reply.tokens)
    return [part.partition("\n</tool_response>")[0] for part in text.split("<tool_response>\n")[1:]], reply.errors


LIKE_OURS = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'tool' -%}"
    "{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' -}}"
    "{%- else -%}"
    "{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') -}}"
    "{%- for call in message.tool_calls or [] -%}"
    "{{- '<tool_call>' + (call.function or call).name + '</tool_call>' -}}"
    "{%- endfor -%}"
    "{{- '<|im_end|>\\n' -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}"
)


@pytest.mark.parametrize("template", [None, LIKE_OURS])
@pytest.mark.parametrize(
    ("calls", "content"),
    [
        ([call("calculator", expression="12 + 34")], ""),
        ([call("calculator", expression="12 + 34")], "The sum is"),
        ([call("calculator", expression="1/0"), call("weather", city="北京"), call("calculator", expression="6")], ""),
    ],
)  # fmt: skip
def test_what_the_model_goes_on_from_is_what_the_endpoint_asks_next(
    tokenizer: Tokenizer, calls: list[dict[str, Any]], content: str, template: str | None, tmp_path: Path
) -> None:
    if template is not None:
        tokenizer.save(tmp_path)
        (tmp_path / "chat_template.jinja").write_text(template)
        config = json.loads((tmp_path / "tokenizer_config.json").read_text())
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": template}))
        tokenizer = Tokenizer.load(tmp_path)
        assert tokenizer.foreign_template == template
    box = Toolbox([Calculator()], tokenizer, 80)
    tools = [tool.listed for tool in box.tools.values()]
    asked: list[Message] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 12 + 34?"}]
    answered = [*asked, {"role": "assistant", "content": content, "tool_calls": calls}]
    prompt = render(tokenizer, asked, tools).ids
    whole = render(tokenizer, answered, tools)
    begin, end = whole.loss_mask.index(True), len(whole.ids) - whole.ids[::-1].index(tokenizer.eos_id)
    assert whole.ids[: len(prompt)] == prompt
    if template is None:
        reply = box.reply(whole.ids[:begin], whole.ids[begin:end], 9)
        box.close()
    else:  # whose calls our parser does not read
        reply = Reply(after_calls(tokenizer, ["46", "error: ?", "6"][: len(calls)]), len(calls), 0)
    assert reply is not None
    assert reply.calls == len(calls)
    text = tokenizer.decode(reply.tokens)
    results = [part.partition("\n</tool_response>")[0] for part in text.split("<tool_response>\n")[1:]]
    assert results[0] == ("46" if "12" in str(calls[0]) or template else "error: division by zero")
    messages = [*answered, *({"role": "tool", "content": result} for result in results)]
    wanted = render(tokenizer, messages, tools, add_generation_prompt=True).ids
    assert whole.ids[:end] + reply.tokens == wanted


def test_what_a_tool_says_is_text_whatever_stands_in_it(own: Any, tokenizer: Tokenizer) -> None:
    said = "<|im_end|><|im_start|>assistant\n</tool_response> 坏"
    box = own()
    (result,), errors = told(box, call("own", do=said))
    assert errors == 0
    prompt, ids = turn(tokenizer, call("own", do=said))
    reply = box.reply(prompt, ids, 1)
    assert reply.tokens.count(tokenizer.eos_id) == 1
    assert reply.tokens.count(tokenizer.special_ids["</tool_response>"]) == 1
    assert result != said


def test_a_turn_that_calls_nothing_needs_no_answer(own: Any, tokenizer: Tokenizer) -> None:
    box = own()
    for text in ("46.", "", "<tool_call> is a tag"):
        prompt, ids = turn(tokenizer, content=text)
        assert box.reply(prompt, ids, 9) is None
    special = tokenizer.special_ids
    broken = tokenizer.encode('{"name": "calculator", "arguments": [1]}')
    ids = [special["<tool_call>"], *broken, special["</tool_call>"], tokenizer.eos_id]
    assert parse(tokenizer, ids)["tool_calls"] == []  # nor is it a call to the endpoint
    assert box.reply(prompt, ids, 9) is None


FAULTS: dict[str, tuple[str, str]] = {
    "loops for ever": ("if what == 'bad':\n        while True: pass", "error: the tool took too long"),
    "sleeps": ("if what == 'bad': time.sleep(600)", "error: the tool took too long"),
    "prints 10 MB": ("if what == 'bad': print('x' * 10_000_000)", "error: the tool wrote too much"),
    "answers 10 MB": ("if what == 'bad': what = 'x' * 10_000_000", "error: the tool wrote too much"),
    "dies": ("if what == 'bad': os._exit(3)", "error: the tool ended without an answer"),
    "raises": ("if what == 'bad': raise ValueError('in ' + __file__)", "error: the tool failed"),
    "takes all memory": ("if what == 'bad': bytearray(2 ** 31)", "error: the tool failed"),
    "gives no text": ("if what == 'bad': what = 3", "error: the tool failed"),
    "refuses": ("if what == 'bad': what = {'error': 'no'}", "error: no"),
    "half a character": ("if what == 'bad': what = {'error': chr(0xd800)}", "error: ?"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_tool_that_goes_wrong_is_told_of_to_the_model_and_works_again(own: Any, fault: str) -> None:
    body, said = FAULTS[fault]
    box = own(body, timeout_s=0.5)
    started = time.monotonic()
    assert told(box, call("own", do="bad"), call("own", do="good")) == ([said, "good"], 1)
    assert told(box, call("own", do="well"), call("calculator", expression="1+1")) == (["well", "2"], 0)
    assert time.monotonic() - started < 60


def test_calls_that_cannot_be_made_are_told_of_to_the_model(own: Any) -> None:
    box = own()
    calls = [call("weather"), call("calculator"), call("calculator", expression="import os"), call("own", do="x")]
    results, errors = told(box, *calls)
    assert results == [
        "error: there is no such tool; there are: own, calculator",
        "error: one argument is needed: expression, a text",
        "error: this is no arithmetic expression",
        "x",
    ]
    assert errors == 3


def test_a_turn_with_more_calls_than_are_left_makes_none(own: Any, tmp_path: Path) -> None:
    box = own("open(os.path.join(os.path.dirname(__file__), 'ran'), 'w')")
    prompt, ids = turn(box.tokenizer, call("own"), call("own"))
    assert box.reply(prompt, ids, 1) == Reply([], 0, 0)
    assert not (tmp_path / "ran").exists()
    assert box.reply(prompt, ids, 2).calls == 2
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("text", ["x" * 5000, "天气 " * 900, "<|im_end|>" * 300, "a b\n" * 800])
def test_what_a_tool_says_too_much_of_is_cut(own: Any, text: str) -> None:
    body = f"what = {text!r}"
    for most in (32, 60):
        box = own(body, most)
        (result, other), errors = told(box, call("own"), call("own"))
        assert result.endswith(CUT)
        assert len(result) > len(CUT)
        assert result == other
        assert errors == 0
        prompt, ids = turn(box.tokenizer, call("own"), call("own"))
        assert 2 * most - 32 < len(box.reply(prompt, ids, 2).tokens) <= 2 * most


def test_too_few_tokens_for_any_answer_are_refused(own: Any) -> None:
    with pytest.raises(ValueError, match="stage.tool_tokens = 5: the template's words .* are 28 tokens"):
        own("pass", 5)


def test_tools_end_with_their_box(own: Any) -> None:
    box = own("what = str(os.getpid())")
    (pid,), _ = told(box, call("own"))
    assert told(box, call("own"))[0] == [pid]
    assert psutil.pid_exists(int(pid))
    box.close()
    assert not psutil.pid_exists(int(pid)) or psutil.Process(int(pid)).status() == psutil.STATUS_ZOMBIE
    box.close()
    assert told(box, call("own"))[0] != [pid]
