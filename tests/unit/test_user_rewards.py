"""A user's reward function in its own process: what it says, and every way in which it can go wrong."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from minimind.evaluation.checkers import Answer
from minimind.language import speaking
from minimind.rewards import user_code
from minimind.rewards.judging import Judged, Rewards
from minimind.rewards.terms import Attempt, parse_term

Make = Callable[..., Rewards]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Rewards of one function, `score` of my_rewards.py with the body that is given."""
    made: list[Rewards] = []

    def of(code: str, **more: Any) -> Rewards:
        (tmp_path / "my_rewards.py").write_text(code, "utf-8")
        term = parse_term({"is": "python", "function": "my_rewards:score", "memory_mb": 512} | more)
        made.append(Rewards([term], folder=tmp_path))
        return made[-1]

    yield of
    for rewards in made:
        rewards.close()


def attempts(*texts: str) -> list[Attempt]:
    return [Attempt(Answer(text, "stop", (), "q"), "r", 3, 9) for text in texts]


def judge(rewards: Rewards, *texts: str) -> Judged:
    return rewards.judge(attempts(*texts), range(len(texts)))


def code_of(rewards: Rewards) -> user_code.UserCode:
    (code,) = (getattr(scorer, "__self__", None) for scorer in rewards._scorers)
    assert isinstance(code, user_code.UserCode)
    return code


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE]


# After each of these the same function gives right scores for what has no "bad" in it.
FAULTS: dict[str, tuple[str, str]] = {
    "raises": ("raise ValueError('no such thing')", r"it raised ValueError: no such thing \(.*my_rewards\.py:\d+\)"),
    "raises what cannot be shown": (
        "class Odd(Exception):\n            def __str__(self): raise KeyError\n        raise Odd",
        r"it raised Odd \(",
    ),
    "asks to end": ("sys.exit(3)", r"it raised SystemExit: 3"),
    "one too few": ("return [1.0] * (len(attempts) - 1)", "it gave 1 scores for 2 answers"),
    "one too many": ("return [1.0] * (len(attempts) + 1)", "it gave 3 scores for 2 answers"),
    "a text": ("return 'fine'", "it gave a value of the type str; a list of numbers is expected"),
    "nothing": ("return None", "it gave a value of the type NoneType"),
    "a number": ("return 1.0", "it gave a value of the type float"),
    "texts": ("return ['1'] * len(attempts)", "it gave '1' for an answer; a finite number is expected"),
    "not a number": ("return [float('nan')] * len(attempts)", "it gave nan for an answer"),
    "infinity": ("return [float('inf')] * len(attempts)", "it gave inf for an answer"),
    "too large a number": ("return [10 ** 400] * len(attempts)", "it gave 1000"),
    "a list of lists": ("return [[1]] * len(attempts)", r"it gave \[1\] for an answer"),
    "ends": ("os._exit(7)", r"its process ended \(exit code 7\)"),
    "ends with a word": (
        "print('all is lost 坏', flush=True)\n        os._exit(7)",
        r"its process ended \(exit code 7\), and had printed: all is lost 坏",
    ),
    "kills itself": ("os.kill(os.getpid(), signal.SIGKILL)", r"its process ended \(signal SIGKILL\)"),
    "takes all memory": ("x = bytearray(2 ** 31)", r"it raised MemoryError.*it may use 512 MiB \(memory_mb\)"),
    "recurses": ("f = lambda: f()\n        f()", "it raised RecursionError"),
    "closes its pipes": ("os.closerange(0, 256)", r"its process ended|it wrote into"),
    "writes into its pipes": (
        "for number in range(3, 32):\n            try: os.write(number, b'junk\\n')\n            except OSError: pass",
        "it wrote into the pipe",
    ),
}
TEMPLATE = """
import os, signal, sys

def score(attempts):
    if any("bad" in attempt["answer"] for attempt in attempts):
        {fault}
    return [float(len(attempt["answer"])) for attempt in attempts]
"""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_function_that_goes_wrong(make: Make, fault: str) -> None:
    body, said = FAULTS[fault]
    rewards = make(TEMPLATE.format(fault=body))
    assert judge(rewards, "a", "bcd").values_KA.tolist() == [[1, 3]]
    assert rewards.problems == {}
    judged = judge(rewards, "bad", "a")
    assert judged.failed_K.tolist() == [2]
    assert judged.values_KA.tolist() == [[0, 0]]
    assert rewards.problems["python"].startswith("function = 'my_rewards:score': ")
    assert re.search(said, rewards.problems["python"]), rewards.problems
    judged = judge(rewards, "a", "bcd")
    assert (judged.values_KA.tolist(), judged.failed_K.tolist()) == ([[1, 3]], [0])


def test_what_a_function_is_given(make: Make, tmp_path: Path) -> None:
    rewards = make(
        "import json\n"
        "def score(attempts):\n"
        "    open('seen.json', 'w').write(json.dumps(attempts))\n"
        "    return [1] * len(attempts)\n"
    )
    call = ("weather", {"city": "北京", "days": [1, None]})
    answer = Answer("你好\ud800\n", "tool_calls", (call,), "问", "想")
    assert rewards.judge([Attempt(answer, "答", 5, 8)], [0]).failed_K.tolist() == [0]
    (seen,) = json.loads((tmp_path / "seen.json").read_text("utf-8"))
    assert seen == {
        "prompt": "问",
        "answer": "你好\ud800\n",
        "thinking": "想",
        "reference": "答",
        "finish": "tool_calls",
        "calls": [{"name": "weather", "arguments": {"city": "北京", "days": [1, None]}}],
        "tokens": 5,
        "room": 8,
    }


def test_scores_may_be_of_any_kind_of_number(make: Make) -> None:
    rewards = make(
        "import numpy\n"
        "from fractions import Fraction\n"
        "KINDS = {'a': [1, True, Fraction(1, 2)], 'b': (0.5,), 'c': numpy.float32([0.5, 2]), 'd': [numpy.int64(3)]}\n"
        "def score(attempts):\n"
        "    return KINDS[attempts[0]['answer']]\n",
        memory_mb=1024,
    )
    for texts, values in {"a--": [1, 1, 0.5], "b": [0.5], "c-": [0.5, 2], "d": [3]}.items():
        assert judge(rewards, *texts).values_KA.tolist() == [values]
    assert rewards.problems == {}


def test_a_function_may_take_the_answers_out_of_its_list(make: Make) -> None:
    rewards = make("def score(attempts):\n    return [len(attempts.pop(0)['answer']) for _ in range(len(attempts))]\n")
    assert judge(rewards, "a", "bcd").values_KA.tolist() == [[1, 3]]


def test_only_what_was_not_judged_is_neutral(make: Make) -> None:
    rewards = make("def score(attempts):\n    return [4, None, 2, float('nan')]\n")
    judged = rewards.judge(attempts("", "", "", ""), [0, 0, 0, 1])
    assert judged.values_KA.tolist() == [[4, 3, 2, 3]]
    assert judged.failed_K.tolist() == [2]
    assert "it gave None for an answer" in rewards.problems["python"]


def test_one_that_hangs_is_killed_with_what_it_started(make: Make, tmp_path: Path) -> None:
    rewards = make(
        TEMPLATE.format(
            fault="import subprocess, time\n"
            "        child = subprocess.Popen(['sleep', '600'])\n"
            "        open('child', 'w').write(str(child.pid))\n"
            "        time.sleep(600)"
        ),
        timeout_s=2,
    )
    begun = time.monotonic()
    assert judge(rewards, "bad").failed_K.tolist() == [1]
    assert time.monotonic() - begun < 30
    assert "it took more than 2 s" in rewards.problems["python"]
    child = int((tmp_path / "child").read_text())
    until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)
    assert judge(rewards, "ab").values_KA.tolist() == [[2]]


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_one_that_takes_no_calls_is_killed_however_much_it_is_sent(make: Make) -> None:
    """Nothing reads the pipe where a thread of the user's holds the interpreter, and a pipe has room for little."""
    rewards = make(
        "import threading, time\n"
        "def hold():\n"
        "    time.sleep(0.2)\n"
        "    sum(range(10 ** 12))\n"
        "def score(attempts):\n"
        "    if attempts[0]['answer'] == 'hold':\n"
        "        threading.Thread(target=hold, daemon=True).start()\n"
        "    return [float(len(attempt['answer'])) for attempt in attempts]\n",
        timeout_s=2,
        cpu_s=1000,
    )
    assert judge(rewards, "hold").values_KA.tolist() == [[4]]
    time.sleep(0.5)
    assert judge(rewards, "x" * 5_000_000).failed_K.tolist() == [1]
    assert "it took more than 2 s" in rewards.problems["python"]
    assert judge(rewards, "x" * 5_000_000).values_KA.tolist() == [[5_000_000]]


def test_an_answer_that_nobody_waited_for_is_not_taken_for_the_next(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewards = make("def score(attempts):\n    return [float(len(attempt['answer'])) for attempt in attempts]\n")

    written = os.write

    def interrupted(descriptor: int, data: bytes) -> int:
        written(descriptor, data)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            judge(rewards, "abc")
    assert judge(rewards, "a").values_KA.tolist() == [[1]]


@pytest.mark.slow
def test_processor_time_is_limited_by_the_call(make: Make) -> None:
    body = "import time\n        while time.process_time() < 600: pass"
    rewards = make(TEMPLATE.format(fault=body), cpu_s=1, timeout_s=120)
    for _ in range(2):
        assert judge(rewards, "bad").failed_K.tolist() == [1]
        assert "it took more than 1 s of processor time (cpu_s)" in rewards.problems["python"]
        assert judge(rewards, "a").failed_K.tolist() == [0]


@pytest.mark.slow
def test_calls_have_their_processor_time_each(make: Make) -> None:
    body = "import time\n        end = time.process_time() + 0.7\n        while time.process_time() < end: pass"
    rewards = make(TEMPLATE.format(fault=body), cpu_s=1, timeout_s=120)
    for _ in range(4):
        assert judge(rewards, "bad").values_KA.tolist() == [[3]]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_printing_blocks_nothing_and_is_no_score(make: Make, stream: str) -> None:
    rewards = make(
        "import sys\n"
        "print('{\"ready\": false}')\n"
        "def score(attempts):\n"
        "    for _ in range(10_000):\n"
        f"        print('x' * 1023, file=sys.{stream})\n"
        "    print('{\"scores\": [9]}\\n坏\\ud800')\n"
        "    return [1.0]\n",
        timeout_s=100,
    )
    for _ in range(2):
        assert judge(rewards, "a").values_KA.tolist() == [[1]]
    assert rewards.problems == {}
    assert len(code_of(rewards)._printed) == 4096


def test_it_reads_nothing_from_the_standard_input(make: Make) -> None:
    rewards = make("import sys\ndef score(attempts):\n    return [1 + len(sys.stdin.read())]\n")
    assert judge(rewards, "a").values_KA.tolist() == [[1]]


def test_the_process_is_kept_and_started_again(make: Make) -> None:
    rewards = make("import os\ndef score(attempts):\n    return [os.getpid()]\n")
    first = judge(rewards, "a").values_KA[0, 0]
    assert judge(rewards, "a").values_KA[0, 0] == first
    process = code_of(rewards)._process
    assert process is not None
    assert process.pid == first
    process.kill()
    process.wait()
    judged = judge(rewards, "a")
    assert judged.failed_K.tolist() == [0]
    assert judged.values_KA[0, 0] != first


def test_a_module_that_breaks_later_is_told_and_not_raised(make: Make, tmp_path: Path) -> None:
    rewards = make(TEMPLATE.format(fault="os._exit(1)"))
    assert judge(rewards, "bad").failed_K.tolist() == [1]
    (tmp_path / "my_rewards.py").write_text("def score(:\n")
    assert judge(rewards, "a").failed_K.tolist() == [1]
    assert "the module cannot be imported: SyntaxError" in rewards.problems["python"]


def test_it_works_in_a_thread_that_is_not_the_main_one(make: Make) -> None:
    found: list[Any] = []

    def work() -> None:
        rewards = make(TEMPLATE.format(fault="import time; time.sleep(600)"), timeout_s=2)
        found.extend([judge(rewards, "bad").failed_K.tolist(), judge(rewards, "ab").values_KA.tolist()])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(100)
    assert found == [[1], [[2]]]


def test_closing_ends_the_process(make: Make) -> None:
    before = len(children())
    rewards = make("def score(attempts):\n    return [1]\n")
    judge(rewards, "a")
    assert len(children()) == before + 1
    rewards.close()
    rewards.close()
    assert len(children()) == before


def test_nothing_is_left_where_another_term_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("def score(attempts):\n    return [1]\n")
    before = len(children())
    functions = ("good:score", "good:scores")
    with pytest.raises(ValueError, match=r"good\.py has no function 'scores' \(did you mean score\?\)"):
        Rewards([parse_term({"is": "python", "function": name}) for name in functions], folder=tmp_path)
    assert len(children()) == before


def test_it_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """Even where the function hangs, and whoever waited for it was killed."""
    (tmp_path / "slow.py").write_text(
        "import os, time\n"
        "def score(attempts):\n"
        "    open('pid.part', 'w').write(str(os.getpid()))\n"
        "    os.rename('pid.part', 'pid')\n"
        "    time.sleep(600)\n"
    )
    program = (
        "from pathlib import Path\n"
        "from minimind.evaluation.checkers import Answer\n"
        "from minimind.rewards.judging import Rewards\n"
        "from minimind.rewards.terms import Attempt, parse_term\n"
        "term = parse_term({'is': 'python', 'function': 'slow:score', 'timeout_s': 600})\n"
        f"rewards = Rewards([term], folder=Path({str(tmp_path)!r}))\n"
        "rewards.judge([Attempt(Answer('a', 'stop', (), ''), '', 1, 2)], [0])\n"
    )
    root = Path(user_code.__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", program], cwd=root) as parent:
        until((tmp_path / "pid").exists, 100)
        parent.kill()
    process = int((tmp_path / "pid").read_text())
    until(lambda: not psutil.pid_exists(process) or psutil.Process(process).status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize(
    ("code", "function", "said"),
    [
        ("", "my_reward:score", r"'my_reward' in .* or PYTHONPATH \(did you mean my_rewards\?\); .*: my_rewards"),
        ("", "my_rewards.sub:score", "there is no module 'my_rewards.sub'"),
        ("def scores(x): 0\ndef _own(x): 0", "my_rewards:score", r"_rewards\.py has no function 'score' \(.*: scores$"),
        ("score = 3", "my_rewards:score", "has no function 'score'; functions there: none"),
        ("import no_such_thing", "my_rewards:score", r"cannot be imported: ModuleNotFoundError: .*no_such_thing.*:1\)"),
        ("def f(:", "my_rewards:score", "cannot be imported: SyntaxError"),
        ("1 / 0", "my_rewards:score", r"imported: ZeroDivisionError: division by zero \(.*my_rewards\.py:1\)"),
        ("raise SystemExit", "my_rewards:score", "cannot be imported: SystemExit"),
        ("print('bye'); import os; os._exit(0)", "my_rewards:score", r"ended \(exit code 0\), and had printed: bye"),
    ],
)  # fmt: skip
def test_mistakes_are_found_before_anything_is_judged(tmp_path: Path, code: str, function: str, said: str) -> None:
    (tmp_path / "my_rewards.py").write_text(code)
    before = len(children())
    with pytest.raises(ValueError, match=said) as caught:
        Rewards([parse_term({"is": "python", "function": function})], folder=tmp_path)
    assert str(caught.value).startswith(f"function = '{function}': ")
    assert len(children()) == before


def test_mistakes_are_told_in_chinese(tmp_path: Path) -> None:
    term = parse_term({"is": "python", "function": "a:b"})
    with speaking("zh"), pytest.raises(ValueError, match="没有模块 'a'；目录里的模块有：无"):
        Rewards([term], folder=tmp_path)
    with pytest.raises(ValueError, match="nowhere is no folder"):
        Rewards([term], folder=tmp_path / "nowhere")


def test_an_import_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(user_code, "IMPORT_S", 1)
    with pytest.raises(ValueError, match="it took more than 1 s"):
        Rewards([parse_term({"is": "python", "function": "slow:score"})], folder=tmp_path)


def test_modules_are_found_in_the_working_directory_and_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, path = tmp_path / "here", tmp_path / "path"
    for folder, value in ((here, 1), (path, 2)):
        (folder / "pack").mkdir(parents=True)
        (folder / f"only_{folder.name}.py").write_text(f"def score(attempts):\n    return [{value}]\n")
    (path / "judging.py").write_text("def score(attempts):\n    return [3]\n")  # a name of ours
    (here / "pack" / "__init__.py").touch()
    (here / "pack" / "part.py").write_text("def score(attempts):\n    return [4]\n")
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(path), os.environ.get("PYTHONPATH", "")]))
    functions = ("only_here:score", "only_path:score", "judging:score", "pack.part:score")
    with Rewards([parse_term({"is": "python", "function": name}) for name in functions]) as rewards:
        assert rewards.names == ("python", "python_2", "python_3", "python_4")
        assert rewards.judge(attempts("a"), [0]).values_KA[:, 0].tolist() == [1, 2, 3, 4]


def test_no_answers_are_no_call(make: Make) -> None:
    rewards = make("def score(attempts):\n    raise ValueError\n")
    assert rewards.judge([], []).values_KA.shape == (1, 0)
    assert rewards.problems == {}
    assert math.isfinite(judge(rewards, "a").total([1.0])[0])
