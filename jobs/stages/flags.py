"""The flags of `train`: short names for places in the RunSpec. Anything else is reached by `--set a.b=c`."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from jobs import paths
from jobs.runs.directory import CREATED
from jobs.stages.spec import CODE, FILES, RunSpec
from minimind.config import WORDS, C, json_problem, override
from minimind.language import phrase, say
from minimind.network.model import MODEL_PRESETS

Adder = argparse.ArgumentParser | argparse._ArgumentGroup

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
    "vram": "memory.vram",
    "seed": "seed",
}
"""Flag -> dotted path. The handbook's names, with the handbook's meaning."""

ADAPTER_FLAGS: dict[str, str] = {
    "lora_rank": "adapter.rank",
    "lora_alpha": "adapter.alpha",
    "lora_dropout": "adapter.dropout",
}
"""Flags of the stages that have an adapter to begin with."""

STAGE_FLAGS: dict[str, dict[str, str]] = {
    "dpo": {"loss": "stage.loss", "beta": "stage.beta", "reference": "stage.reference"},
    "kto": {"beta": "stage.beta", "reference": "stage.reference"},
    "distill": {
        "teacher": "roles.teacher",
        "alpha": "stage.alpha",
        "temperature": "stage.temperature",
        "on_policy": "stage.on_policy",
        "cached": "stage.cached",
    },
    "grpo": {
        "reward_model": "roles.reward_model",
        "group_size": "stage.group_size",
        "max_new_tokens": "stage.max_new_tokens",
    },
    "spo": {"reward_model": "roles.reward_model", "max_new_tokens": "stage.max_new_tokens"},
    "ppo": {"reward_model": "roles.reward_model", "max_new_tokens": "stage.max_new_tokens"},
}
"""Flags of one stage alone."""

ALL_FLAGS = FLAGS | ADAPTER_FLAGS | {flag: path for own in STAGE_FLAGS.values() for flag, path in own.items()}
"""Flag -> dotted path, of any stage."""

GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "stage": ("what is learnt", ("stage", "roles")),
    "size": ("size", ("model", "adapter")),
    "data": ("data", ("data",)),
    "steps": (
        "length and steps",
        ("loop.batch_size", "loop.accumulation_steps", "loop.epochs", "loop.max_steps", "loop.log_interval",
         "loop.save_interval", "loop.eval_interval"),
    ),
    "schedule": ("learning rate", ("optim",)),
    "memory": ("memory and speed", ("loop", "memory")),
    "machines": ("machines", ("scaling",)),
    "run": ("the run", ("",)),
}  # fmt: skip
"""Group -> its title, and how the dotted paths of its flags begin; the first that fits counts."""

RUNS_OR_FOLDERS = ("data.tokenizer", "init_from")
"""Settings that are the name of a run, or a path where they look like one; those below `roles` are as well."""


def references(settings: Iterable[str]) -> list[str]:
    """Those of the settings that name a run, or a folder."""
    return [path for path in settings if path in RUNS_OR_FOLDERS or path.startswith("roles.")]


def add_flags(
    parser: argparse.ArgumentParser,
    preset: Callable[[str], RunSpec],
    default_model: str,
    *,
    without: Collection[str] = (),
    other_words: Mapping[str, str] | None = None,
) -> dict[str, argparse._ArgumentGroup]:
    """Every flag of FLAGS, and of ADAPTER_FLAGS where there is an adapter, with the description of its field and its
    default; `--model`; `--set`. They stand in the groups of GROUPS, which are given, for more flags to be added.

    preset: model size -> the spec that the flags change. without: settings that get no flag. other_words: settings
    that mean something else here, with what they mean.
    """
    groups = {name: parser.add_argument_group(phrase(title)) for name, (title, _) in GROUPS.items()}
    sizes = ", ".join(
        f"{name} ({config.hidden_size}x{config.num_hidden_layers})" for name, config in MODEL_PRESETS.items()
    )
    groups["size"].add_argument(
        "--model",
        type=model_size,
        metavar="SIZE",
        help=say(
            "size, hidden x layers: {sizes}; with --from_weight that of the weights (default: {model})",
            sizes=sizes,
            model=default_model,
        ),
    )
    specs = {name: preset(name) for name in (default_model, *MODEL_PRESETS)}
    usual = specs[default_model]
    own = STAGE_FLAGS.get(usual.stage.kind, {})
    for flag, path in (own | FLAGS | (ADAPTER_FLAGS if usual.adapter else {})).items():
        if path in without:
            continue
        info = field_in(usual, path)
        english = (other_words or {}).get(path) or info.description or path
        description = phrase(english)
        defaults = {name: at(spec, path) for name, spec in specs.items()}
        if defaults[default_model] is not None and "default:" not in english:
            others = [
                say("{name}: {value}", name=name, value=value)
                for name, value in defaults.items()
                if value != defaults[default_model]
            ]
            value = say("; ").join([default_text(defaults[default_model]), *others])
            description = say("{words} (default: {value})", words=description, value=value)
        add_flag(groups[group_of(path)], flag, path, info, description)
    add_set(groups["run"], "optim.weight_decay=0.1")
    return groups


def group_of(path: str) -> str:
    """The group of the flag for a dotted path."""
    return next(name for name, (_, roots) in GROUPS.items() if path.startswith(roots))


def add_flag(parser: Adder, flag: str, path: str, info: FieldInfo, description: str) -> None:
    """One flag that sets a field: its value is kept as text, for `override` to read by the field's own type."""
    parser.add_argument(f"--{flag}", dest=path, metavar=_metavar(info), help=description.replace("%", "%%"))


_SIZES = {"tiny": 2.0, **{name: float(name[:-1]) for name in MODEL_PRESETS if name != "tiny"}}
"""Millions of parameters, by what the name says."""


def model_size(text: str) -> str:
    """A name in MODEL_PRESETS, for argparse. Raises ArgumentTypeError with the nearest ones."""
    if (name := text.lower()) in MODEL_PRESETS:
        return name
    there = {name: f"{name} ({model.hidden_size}x{model.num_hidden_layers})" for name, model in MODEL_PRESETS.items()}
    near = ""
    if number := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mb])?", name):
        millions = float(number[1]) * (1000 if number[2] == "b" else 1)
        nearest = min(_SIZES, key=lambda size: abs(_SIZES[size] - millions))
        near = say("the nearest is {size}; ", size=nearest)
    raise argparse.ArgumentTypeError(
        say(
            "{text!r} is no size, hidden x layers: {near}there are {sizes}; any other by --hidden_size and "
            "--num_hidden_layers",
            text=text,
            near=near,
            sizes=", ".join(there.values()),
        )
    )


def default_text(value: Any) -> str:
    """A default as it would be written on the command line."""
    if isinstance(value, float):
        return str(float(f"{value:.12g}"))  # a rate that is a fortieth of another has digits that nobody would type
    return str(int(value)) if isinstance(value, bool) else str(value)


def add_set(parser: Adder, example: str) -> None:
    """`--set PATH=VALUE`."""
    parser.add_argument(
        "--set",
        dest="settings",
        metavar="PATH=VALUE",
        action="append",
        default=[],
        help=say("any other setting by its dotted path, such as {example}; may be repeated", example=example),
    )


def changes(args: argparse.Namespace, flags: Mapping[str, str] = ALL_FLAGS) -> dict[str, Any]:
    """The settings that the command line gives, by dotted path.

    Raises ValueError for a `--set` that is no assignment, or that says what a flag says as well.
    """
    given: dict[str, Any] = {path: value for path in flags.values() if (value := getattr(args, path, None)) is not None}
    for text in args.settings:
        path, value = _assignment(text)
        if path in given:
            raise ValueError(
                say(
                    "{path} is given twice: {given!r} and {value!r}; say it once",
                    path=path,
                    given=given[path],
                    value=value,
                )
            )
        given[path] = value
    return given


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a JSON file, by dotted path. Raises ValueError."""
    try:
        content: Any = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(say("--spec {path} cannot be read: {error}", path=path, error=json_problem(error))) from None
    if not isinstance(content, dict):
        raise ValueError(
            say('--spec {path}: it holds one object, dotted path -> value, such as {{"loop.batch_size": 4}}', path=path)
        )
    if "schema_version" in content:
        content = _settings_of_run(content, path)
    return dict(content)


def _settings_of_run(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """The spec.json of a run as settings by dotted path, all but its name: that is the new run's own."""
    if "space" in content:
        raise ValueError(
            say(
                "--spec {path} is that of a sweep; the settings of its best trial are in best.json beside it", path=path
            )
        )
    result: dict[str, Any] = {}
    for name, value in content.items():
        if name in ("schema_version", CREATED, "name"):
            continue
        if isinstance(value, dict) and name != "adapter":  # a run without one has nothing to set parts of
            result |= {f"{name}.{part}": inner for part, inner in value.items()}
        else:
            result[name] = value
    return result


def apply(preset: C, settings: Mapping[str, Any], flags: Mapping[str, str] = ALL_FLAGS) -> C:
    """The spec with the settings; what is wrong is named by its flag where it has one.

    Raises ValueError.
    """
    try:
        return override(preset, settings)
    except ValueError as error:
        problems = [re.split("( = |: |：)", line, maxsplit=1) for line in str(error).splitlines()]
        raise ValueError("\n".join(named(path, flags) + "".join(rest) for path, *rest in problems)) from None


def named(path: str, flags: Mapping[str, str] = ALL_FLAGS) -> str:
    """A dotted path as the user knows it: with its flag in front, where it has one."""
    flag = next((flag for flag, place in flags.items() if place == path), None)
    return f"--{flag} ({path})" if flag else path


TOOLS = "stage.tools"
"""The setting whose tools may have tables, which are files."""


def absolute(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The settings with paths that count from `folder` made absolute; names of runs stay as they are.

    Raises ValueError for one that is no text, as a JSON file may have it.
    """
    result = dict(settings)
    for path in (*FILES, CODE, *references(settings)):
        text = result.get(path)
        if not isinstance(text, str | None):
            raise ValueError(f"{named(path)} = {text!r}: {phrase(WORDS['string_type'])}")
        if text not in (None, "null") and (path in (*FILES, CODE) or paths.is_path(text)):
            result[path] = str(paths.absolute(text, folder))
    return _with_tables(result, lambda table: str(paths.absolute(table, folder)))


def kept(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with paths as `paths.kept` keeps them; names of runs stay as they are."""
    result = absolute(settings, paths.home())
    for path in (*FILES, CODE, *references(settings)):
        text = result.get(path)
        if text not in (None, "null") and paths.is_path(text):
            result[path] = paths.kept(text)
    return _with_tables(result, paths.kept)


def tables_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """The path of each tool's table, by the setting that names it."""
    tables = {number: tool.get("table") for number, tool in enumerate(_tools(settings))}
    return {f"{TOOLS}.{number}.table": table for number, table in tables.items() if isinstance(table, str)}


def _with_tables(settings: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """The settings with the path of each tool's table changed."""
    if not tables_of(settings):
        return settings
    changed = [
        tool | {"table": change(tool["table"])} if isinstance(tool.get("table"), str) else tool
        for tool in _tools(settings)
    ]
    as_text = isinstance(settings[TOOLS], str)
    return settings | {TOOLS: json.dumps(changed, ensure_ascii=False) if as_text else changed}


def _tools(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tools that settings ask for; none where these are no tools, which the stage refuses."""
    given = settings.get(TOOLS)
    try:
        tools = json.loads(given) if isinstance(given, str) else given
    except ValueError:
        return []
    if not isinstance(tools, list | tuple) or not all(isinstance(tool, dict) for tool in tools):
        return []
    return list(tools)


def arguments(settings: Mapping[str, Any]) -> list[str]:
    """The command line that gives these settings, by their dotted paths."""
    return [part for path, value in settings.items() for part in ("--set", f"{path}={setting_text(value)}")]


def written(settings: Mapping[str, Any], flags: Mapping[str, str] = ALL_FLAGS) -> list[str]:
    """The command line that gives these settings, by their flags where they have one: for people."""
    of_path = {path: flag for flag, path in flags.items()}
    words = []
    for path, value in settings.items():
        text = setting_text(value)
        words += [f"--{of_path[path]}", text] if path in of_path else ["--set", f"{path}={text}"]
    return words


def setting_text(value: Any) -> str:
    """A value as a command line gives it, and `override` reads it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def at(spec: Any, path: str) -> Any:
    """The value at a dotted path; None at a name of the user's that is not there, such as one below `roles`."""
    for part in path.split("."):
        spec = spec.get(part) if isinstance(spec, dict) else getattr(spec, part)
    return spec


ROLE = FieldInfo(annotation=str, description="the frozen model of that role: a run, run@step, run@best or ./folder")
"""What there is to say of a setting below `roles`."""

REWARD_MODEL = FieldInfo(
    annotation=str,
    description="the model of a term reward_model: a run of the stage reward, run@step, run@best or ./folder",
)
"""As of `ROLE`, of the one that is no language model."""


def field_in(spec: RunSpec, path: str) -> FieldInfo:
    """The declaration of the field at a dotted path of a spec: what is below `stage` depends on which it is."""
    if path.startswith("roles."):
        return REWARD_MODEL if path == "roles.reward_model" else ROLE
    if path.startswith("stage."):
        return type(spec.stage).model_fields[path.removeprefix("stage.")]
    return field_of(RunSpec, path)


def field_of(config: type[Any], path: str) -> FieldInfo:
    """The declaration of the field at a dotted path below a class of Config."""
    *sections, name = path.split(".")
    for section in sections:
        annotation = config.model_fields[section].annotation
        config = next(kind for kind in (*get_args(annotation), annotation) if kind is not type(None))
    info: FieldInfo = config.model_fields[name]
    return info


def _metavar(info: FieldInfo) -> str:
    """What a value looks like: the words that are allowed, or its kind."""
    if get_origin(info.annotation) is Literal:
        return "|".join(get_args(info.annotation))
    kinds = get_args(info.annotation) or (info.annotation,)
    return "0|1" if bool in kinds else "N" if int in kinds else "X" if float in kinds else "TEXT"


def _assignment(text: str) -> tuple[str, str]:
    path, equals, value = text.partition("=")
    if not equals or not path:
        raise ValueError(say("--set {text!r}: it takes PATH=VALUE, such as --set optim.weight_decay=0.1", text=text))
    return path, value
