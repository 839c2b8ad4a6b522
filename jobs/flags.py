"""The flags of `train`: short names for places in the RunSpec. Anything else is reached by `--set a.b=c`."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from jobs.spec import RunSpec
from minimind.config import override
from minimind.model import MODEL_PRESETS

FLAGS: dict[str, str] = {
    "name": "name",
    "data_path": "data.path",
    "tokenizer": "data.tokenizer",
    "max_seq_len": "data.max_seq_len",
    "num_workers": "data.num_workers",
    "max_bad_rows": "data.limits.max_bad_rows",
    "batch_size": "loop.batch_size",
    "accumulation_steps": "loop.accumulation_steps",
    "epochs": "loop.epochs",
    "max_steps": "loop.max_steps",
    "learning_rate": "optim.learning_rate",
    "optimizer": "optim.name",
    "grad_clip": "optim.grad_clip",
    "dtype": "loop.dtype",
    "use_compile": "loop.compile",
    "activation_checkpointing": "loop.activation_checkpointing",
    "log_interval": "loop.log_interval",
    "save_interval": "loop.save_interval",
    "eval_interval": "loop.eval_interval",
    "hidden_size": "model.hidden_size",
    "num_hidden_layers": "model.num_hidden_layers",
    "from_weight": "init_from",
    "workers": "scaling.workers",
    "seed": "seed",
}
"""Flag -> dotted path. The handbook's names, with the handbook's meaning."""


def add_flags(parser: argparse.ArgumentParser, preset: RunSpec) -> None:
    """Every flag of FLAGS with the description of its field and the default of this preset; `--model`; `--set`."""
    sizes = ", ".join(
        f"{name} ({config.hidden_size}x{config.num_hidden_layers})" for name, config in MODEL_PRESETS.items()
    )
    parser.add_argument("--model", choices=sorted(MODEL_PRESETS), default=None, help=f"model size: {sizes}")
    for flag, path in FLAGS.items():
        info, value = _field(preset, path)
        shown = "" if value is None or "default:" in (info.description or "") else f" (default: {value})"
        parser.add_argument(
            f"--{flag}", dest=path, metavar="X", default=None, help=f"{info.description or path}{shown}"
        )
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="PATH=VALUE",
        action="append",
        default=[],
        help="any other setting of the spec by its dotted path, such as optim.weight_decay=0.1; may be repeated",
    )


def changes(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that the command line gives, by dotted path."""
    given = {path: value for path in FLAGS.values() if (value := getattr(args, path)) is not None}
    return given | dict(_assignment(text) for text in args.settings)


def apply(preset: RunSpec, settings: dict[str, Any]) -> RunSpec:
    """The spec with the settings; what is wrong is named by its flag where it has one.

    Raises ValueError.
    """
    flags = {path: flag for flag, path in FLAGS.items()}
    try:
        return override(preset, settings)
    except ValueError as error:
        lines = [_by_flag(line, flags) for line in str(error).splitlines()]
        raise ValueError("\n".join(lines)) from None


def absolute(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The settings with paths that count from `folder` made absolute; names of runs stay as they are."""
    result = dict(settings)
    for path in ("data.path", "eval.path"):
        if result.get(path) is not None:
            result[path] = str(folder / Path(result[path]).expanduser())
    for path in ("data.tokenizer", "init_from"):
        text = result.get(path)
        if text is not None and (folder / text).exists():
            result[path] = str(folder / text)
    return result


def arguments(settings: dict[str, Any]) -> list[str]:
    """The command line that gives these settings: for passing them on to a job."""
    return [part for path, value in settings.items() for part in ("--set", f"{path}={value}")]


def _by_flag(line: str, flags: dict[str, str]) -> str:
    path = line.split(" = ", maxsplit=1)[0].split(":", maxsplit=1)[0]
    return f"--{flags[path]} ({path}){line.removeprefix(path)}" if path in flags else line


def _assignment(text: str) -> tuple[str, str]:
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise ValueError(f"--set {text!r}: it takes PATH=VALUE, such as --set optim.weight_decay=0.1")
    return path, value


def _field(spec: BaseModel, path: str) -> tuple[FieldInfo, Any]:
    node: Any = spec
    parts: Iterable[str] = path.split(".")
    info: FieldInfo | None = None
    for part in parts:
        info = type(node).model_fields[part]
        node = getattr(node, part)
    assert info is not None
    return info, node
