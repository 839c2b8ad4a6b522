from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
import torch
from rich.console import Console

from jobs.runs.directory import RunDirectory, RunRow, RunState, list_runs
from jobs.runs.show import runs_table, show, show_runs
from jobs.stages import table  # declares what stages measure
from minimind.checkpoints.checkpoint import Lineage, save
from minimind.events import EventLog
from minimind.language import speaking
from minimind.network.model import MiniMind, ModelConfig
from minimind.text.tokenizer import Tokenizer

CONFIG = ModelConfig(vocab_size=320, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2)


class Screen(Console):
    """A console that is not a terminal, and what was printed on it."""

    def __init__(self, width: int = 110, encoding: str = "utf-8") -> None:
        self.stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        super().__init__(file=self.stream, width=width)

    @property
    def text(self) -> str:
        self.stream.flush()
        buffer = self.stream.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode(self.stream.encoding)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "runs" / "demo")
    run.create(
        {"name": "demo", "seed": 42, "stage": {"kind": "pretrain"}, "loop": {"batch_size": 8, "max_steps": None}}
    )
    tokenizer = Tokenizer.train(["床前明月光", "the quick brown fox"] * 5, vocab_size=300)
    with run.hold(), EventLog(run.events_path) as log:
        log.state("RUNNING", step=0, total_steps=100, environment={"torch": torch.__version__})
        for step in range(1, 61):
            log.metrics(step, {"train/loss": 8 - step / 20, "perf/tokens_per_s": 12_345.0})
        log.state("RUNNING", step=50, total_steps=100, environment={"torch": torch.__version__, "gpu": "none"})
        for step in (60, 80):
            log.metrics(step, {"train/loss": 8 - step / 20, "val/bits_per_byte": 2.5 + abs(step - 60)})
            folder = save(
                run.checkpoints,
                step,
                model_config=CONFIG,
                weights=MiniMind(CONFIG).state_dict(),
                tokenizer=tokenizer,
                train_state={},
                lineage=Lineage("demo", "parent-run", 7, "f" * 64),
            )
            log.checkpoint(step, folder.relative_to(run.path))
        log.note("step_skipped", "step 70 was skipped [rows 3, 4]")
        log.state("FAILED", reason="the disk is full")
    run.samples_path.write_text(json.dumps({"step": 80, "prompt": "中国的首都是", "continuation": "[北京]"}) + "\n")
    return run


def test_show_tells_everything_and_draws_the_picture(run: RunDirectory) -> None:
    screen = Screen()
    path = show(run, screen)
    assert path == run.path / "curve.png"
    assert path.read_bytes().startswith(b"\x89PNG")
    text = screen.text
    for expected in (
        "demo   pretrain   FAILED",
        "the disk is full",
        "step 80 / 100 (80%)",
        "attempts 2",
        "train/loss  nats/token",
        "val/bits_per_byte  bits/byte",
        "resumed at step 50",
        "12.3k",
        "best so far",
        "batch_size=8",
        "kind=pretrain",
        "parent-run, step 7",
        "f" * 64,
        "gpu",
        torch.__version__,
        "step 70 was skipped [rows 3, 4]",
        "[北京]",
        str(run.path),
        "free",
    ):
        assert expected in text, expected
    assert "max_steps" not in text
    assert "⣀" in text or "⠤" in text


def test_show_of_a_run_that_tries(run: RunDirectory) -> None:
    """Its reward in place of its loss, facts beside plain text, and what an alarm is called."""
    assert "grpo" in table.STAGES
    with run.hold(), EventLog(run.events_path) as log:
        for step in (81, 90):
            log.metrics(step, {"train/reward": step / 100, "train/loss": 0.0})
            log.metrics(step, {"val/facts": step / 100, "val/pretrain_bits_per_byte": 2.0})
        log.note("alarm", "look at them", cause="proxy", step=90)
    screen = Screen()
    show(run, screen)
    assert "train/reward   0.81 → 0.9" in screen.text
    assert not re.search("train/loss.*→", screen.text)
    assert "forgetting (facts answered right, before and after): 81.0 -> 90.0 %" in screen.text
    assert re.search("step 90 proxy +look at them", screen.text)


def test_show_compares_the_planned_peak_with_the_measured_one(run: RunDirectory) -> None:
    plan = {"needed_bytes": 3 << 30, "capacity_bytes": 4 << 30, "peak_bytes": 2 << 30, "card": "a card"}
    with run.hold(), EventLog(run.events_path) as log:
        log.metrics(90, {"perf/peak_memory_bytes": float((2 << 30) * 0.99)})
    for counts, said in ((True, "1.98 GB (+1.01 %)"), (False, "")):
        run.write_plan(plan | {"counts_tensors": counts})
        screen = Screen()
        show(run, screen)
        assert "3.00 GB / 4.00 GB, a card" in screen.text
        assert said in screen.text
        assert ("measured peak" in screen.text) == counts


def test_the_best_checkpoint_is_the_one_with_the_fewest_bits(run: RunDirectory) -> None:
    screen = Screen()
    show(run, screen)
    lines = [line for line in screen.text.splitlines() if "KB" in line and line.startswith(("60", "80"))]
    assert [line.split()[0] for line in lines] == ["60", "80"]
    assert "best so far" in lines[0]
    assert "newest" in lines[1]
    assert "best" not in lines[1]


def test_show_in_chinese(run: RunDirectory) -> None:
    screen = Screen()
    with speaking("zh"):
        show(run, screen)
    for expected in ("失败", "检查点", "初始权重", "每秒处理的有效词元数", "奈特/词元"):
        assert expected in screen.text, expected


def test_show_on_a_console_without_braille(run: RunDirectory) -> None:
    screen = Screen(encoding="gbk")
    with speaking("zh"):
        show(run, screen)
    assert "***" in screen.text
    assert "训练数据" in screen.text


def test_show_a_run_that_has_not_started(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "new")
    run.create({"name": "new", "stage": {"kind": "pretrain"}, "init_from": "base@best"})
    screen = Screen()
    assert show(run, screen) is None
    for expected in ("PENDING", "no metrics yet", "no picture yet", "base@best"):
        assert expected in screen.text
    assert not (run.path / "curve.png").exists()


def test_show_a_damaged_checkpoint_says_so_and_goes_on(run: RunDirectory) -> None:
    manifest = run.checkpoints / "step_00000080" / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "step": 81}))
    screen = Screen()
    show(run, screen)
    assert "is damaged" in screen.text
    assert "free" in screen.text


def row(**changes: object) -> RunRow:
    values: dict[str, object] = {
        "name": "pretrain-1",
        "stage": "pretrain",
        "state": RunState("RUNNING"),
        "step": 1500,
        "total_steps": 2000,
        "loss": 2.1234,
        "bits_per_byte": None,
        "tokens_per_s": 12_345.0,
        "peak_memory_bytes": 1.2e9,
        "updated": 1000.0,
    }
    return RunRow(**{**values, **changes})  # type: ignore[arg-type]


def test_the_table_fits_eighty_columns() -> None:
    screen = Screen(width=80)
    screen.print(runs_table([row(), row(name="b", step=None, loss=None, updated=None)], now=1000 + 200))
    header, _, first, second = [line for line in screen.text.splitlines() if line.strip()]
    assert header.split() == ["run", "stage", "state", "step", "loss", "tokens/s", "memory", "age"]
    expected = ["pretrain-1", "pretrain", "RUNNING", "1500/2000", "2.123", "12.3k", "1.12", "GB", "3", "min"]
    assert first.split() == expected
    assert max(map(len, (header, first, second))) <= 80
    assert second.split() == ["b", "pretrain", "RUNNING", "12.3k", "1.12", "GB"]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_narrow_terminal_shows_whole_cells_of_fewer_columns(lang: str) -> None:
    rows = [row(), row(name="a-much-longer-name-of-a-run")]

    def cells(width: int, fits: int) -> list[list[str]]:
        screen = Screen(width=width)
        with speaking(lang):
            screen.print(runs_table(rows, now=1200, width=fits))
        return [re.split(" {2,}", line.strip()) for line in screen.text.splitlines() if "─" not in line]

    header, first, _ = cells(200, 0)
    for width in range(34, 81):
        narrow = cells(width, width)
        assert set(narrow[0]) <= set(header)
        assert set(narrow[1]) <= set(first)
        assert len(narrow[0]) == len(narrow[1]) >= 3
        assert "".join(line[0] for line in narrow[2:]) == rows[1].name


def test_the_list_says_why_runs_failed(run: RunDirectory) -> None:
    killed = RunDirectory(run.path.parent / "killed")
    killed.create({"name": "killed", "stage": {"kind": "pretrain"}})
    with EventLog(killed.events_path) as log:
        log.state("RUNNING", step=0, total_steps=5)
    for lang, reason in (("en", "ended without saying so"), ("zh", "进程意外结束")):
        screen = Screen(width=100)
        with speaking(lang):
            show_runs(run.path.parent, list_runs(run.path.parent), screen)
        assert "demo  the disk is full" in screen.text
        assert reason in screen.text
        assert "`--name killed --from_resume 1`" in screen.text


def test_the_list_of_nothing_says_where_it_looked(tmp_path: Path) -> None:
    screen = Screen()
    show_runs(tmp_path / "runs", [], screen)
    assert f"no runs yet in {tmp_path}/runs" in screen.text


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            (3.0, 2.0, 2.6),
            "It was at its best at step 20 (2.0000), and 2.6000 at the end: it has learnt its rows by heart",
        ),
        ((3.0, 2.5, 2.2), "It was still getting better when it ended"),
        ((3.0, 2.21, 2.2), ""),
        ((3.0, 2.2), ""),
    ],
)
def test_show_says_whether_a_run_went_on_too_long(tmp_path: Path, values: tuple[float, ...], said: str) -> None:
    run = RunDirectory(tmp_path / "runs" / "mine")
    run.create({"name": "mine", "stage": {"kind": "pretrain"}})
    with run.hold(), EventLog(run.events_path) as log:
        log.state("RUNNING", step=0)
        for number, value in enumerate(values, start=1):
            log.metrics(10 * number, {"train/loss": value, "val/bits_per_byte": value})
        log.state("SUCCEEDED")
    screen = Screen()
    show(run, screen, only=())
    assert said in screen.text
    if not said:
        assert "getting better" not in screen.text
        assert "by heart" not in screen.text
