"""What a new run takes over from the weights it starts from: the model's shape, and the text they have learnt from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import log
from pathlib import Path
from typing import Any

from rich.console import Console

from jobs import paths
from jobs.runs.directory import RunDirectory
from jobs.runs.references import Weights, find_weights
from jobs.stages import flags
from jobs.stages.facts import stock_questions
from jobs.stages.lineage import is_from_stock, learnt_to_answer
from jobs.stages.spec import NO_WEIGHTS, RunSpec
from jobs.stages.stage import DEFAULT_MODEL
from jobs.stages.table import STAGES
from jobs.stages.trying import REWARD_MODEL, TryingSettings
from minimind.checkpoints.checkpoint import require_language_model, require_score_model
from minimind.checkpoints.convert import from_hf_config
from minimind.checkpoints.manifest import CheckpointError, read_manifest, verify
from minimind.config import override
from minimind.language import say
from minimind.network.model import MODEL_PRESETS, ModelConfig


def first_weights(settings: Mapping[str, Any]) -> Weights | None:
    """The checkpoint that the settings of a new run name; None where weights are drawn anew. Raises ValueError."""
    named = settings.get("init_from")
    return None if named in (None, "null", NO_WEIGHTS) else find_weights(named)


def new_spec(
    stage: str, settings: Mapping[str, Any], model: str | None = None, weights: Weights | None = None
) -> RunSpec:
    """The complete spec of a new run: the stage's preset, with the shape of the first weights, and the settings.

    model: a name in MODEL_PRESETS; by default the one that the weights are nearest to in size. weights: those that the
    settings name, where somebody has looked them up.

    Raises ValueError for settings that make no sense, weights that are not there, and a shape that is not theirs;
    CheckpointError for weights that are damaged.
    """
    _require_kind(stage, settings.get("stage.kind", stage))  # before the settings of another stage are found unknown
    preset = STAGES[stage].preset
    weights = weights or first_weights(settings)
    if weights is None:
        spec = of_preset(preset(model or DEFAULT_MODEL), settings)
    else:
        shape = _shape(weights.folder)
        spec = of_preset(preset(model or _nearest(shape)).model_copy(update={"model": shape}), settings)
        _require_shape(spec, model, settings, shape)
    _require_kind(stage, spec.stage.kind)
    require_weights(spec)
    if isinstance(spec.stage, TryingSettings):
        spec.stage.require_telling()
    for role, named in spec.roles.items():
        require_kind(spec, role, find_weights(named).folder)
    if weights is not None:
        _require_same_tokens(spec, weights)
    return spec


def of_preset(preset: RunSpec, settings: Mapping[str, Any]) -> RunSpec:
    """The preset with the settings, and with what suits these where they say nothing else."""
    spec = flags.apply(preset, settings)
    suiting = STAGES[spec.stage.kind].suiting(spec)
    return override(spec, {path: value for path, value in suiting.items() if path not in settings})


def _require_kind(stage: str, kind: object) -> None:
    if kind != stage:
        raise ValueError(say("stage.kind = {kind!r}: a stage is chosen by its name, `train {kind}`", kind=kind))


def require_kind(spec: RunSpec, role: str, folder: Path) -> None:
    """Raise CheckpointError for a checkpoint that gives scores where its role is to write, or the other way round."""
    require = require_score_model if role in STAGES[spec.stage.kind].scoring else require_language_model
    try:
        require(folder)
    except CheckpointError as error:
        raise CheckpointError(f"roles.{role} = {spec.roles.get(role, spec.weights)}: {error}") from None


def _require_same_tokens(spec: RunSpec, weights: Weights) -> None:
    """Raise ValueError for the model of a role that reads other tokens than the first weights."""
    own = read_manifest(weights.folder)["tokenizer_fingerprint"]
    for role, named in spec.roles.items():
        other = read_manifest(find_weights(named).folder)["tokenizer_fingerprint"]
        if other != own:
            raise ValueError(
                say(
                    "roles.{role} = {named} has another tokenizer: its fingerprint is {other}, that of the first "
                    "weights, {weights}, is {own}; name a model that was trained with the same one",
                    role=role,
                    named=named,
                    other=other,
                    weights=weights.name,
                    own=own,
                )
                + (
                    say("; as a teacher it can still answer for SFT, behind an address: minimind data distill")
                    if role == "teacher"
                    else ""
                )
            )


def require_weights(spec: RunSpec) -> None:
    """Raise ValueError, with what to type, where a run needs weights that have learnt something and names none."""
    stage = spec.stage.kind
    if STAGES[stage].continues and spec.init_from is None:
        raise ValueError(
            say(
                "{stage} goes on from weights that have learnt language: name them with --from_weight, "
                "such as --from_weight {run} (a run), {run}@500, {run}@best or ./folder. On "
                "weights drawn anew, to see what that gives: --from_weight {no_weights}",
                stage=stage,
                run="pretrain" if stage == "sft" else "sft",
                no_weights=NO_WEIGHTS,
            )
        )
    needed = [role for role in STAGES[stage].needs if role not in spec.stage.does_without]
    if missing := [role for role in needed if role not in spec.roles]:
        (role, *_) = missing
        what = (
            say("a run of the stage reward, with the same tokenizer")
            if role in STAGES[stage].scoring
            else say("such as a larger model that has learnt from the same data with the same tokenizer")
        )
        raise ValueError(
            say("{stage} needs a {role}: name it with --{role} RUN, {what}", stage=stage, role=role, what=what)
        )
    if (named := spec.roles.get(REWARD_MODEL)) is not None and REWARD_MODEL in spec.stage.does_without:
        raise ValueError(
            say(
                "roles.reward_model = {named}: no term of stage.rewards is its score; add one to them, such as "
                '{{"is": "reward_model", "weight": 0.5}}, or leave it out',
                named=named,
            )
        )
    if spec.adapter is not None and spec.weights is None:
        raise ValueError(
            say("adapter: it trains beside weights that stay as they are, and none are named: --from_weight RUN")
        )


def require_answers(weights: Weights) -> None:
    """Raise ValueError for weights of a run that continue text and have not learnt to answer."""
    if not _answers(weights):
        raise ValueError(say("{model} has not learnt to answer yet: SFT comes first", model=weights.name))


def _answers(weights: Weights) -> bool:
    run = RunDirectory(weights.folder.parent.parent)
    return not run.exists or learnt_to_answer(run)


def with_text(spec: RunSpec, weights: Weights | None, console: Console) -> RunSpec:
    """The spec with the text that its weights learnt from as `data.mix_path`, where it names none, with the
    conversations that they were taught as `data.chats_path`, where it replays some, and with facts that they were
    taught as `eval.facts_path`, where it tries.

    What a parent run's own spec says is taken, so that it holds over any number of stages. Says so where that text is
    no longer there, and raises ValueError if it is needed. Says too where weights are to try that have not learnt to
    answer.
    """
    text, held_out, chats = spec.data.mix_path, spec.eval.pretrain_path, spec.data.chats_path
    if chats is None and weights is not None and spec.data.mix and STAGES[spec.stage.kind].replays_chats:
        chats = _taught(weights.folder)
        if chats is None:
            console.print(
                say(
                    "The conversations that the weights were taught are not known, or gone: only plain text is "
                    "replayed. Name them with --set data.chats_path=FILE."
                )
            )
    facts = spec.eval.facts_path
    if facts is None and weights is not None and spec.stage.held_to is not None:
        taught = RunDirectory(weights.folder.parent.parent)
        questions = stock_questions() if is_from_stock(taught) else None
        facts = paths.kept(str(questions)) if questions is not None else None
    if weights is not None and STAGES[spec.stage.kind].rows == "rl" and not _answers(weights):
        console.print(
            say(
                "{model} has not learnt to answer yet, so hardly anything that it tries will be right: SFT comes "
                "first.",
                model=weights.name,
            ),
            style="yellow",
        )
    if text is None and weights is not None and STAGES[spec.stage.kind].continues:
        text, held_out = _learnt_from(weights.folder, held_out)
        gone = [path for path in (text, held_out) if path is not None and not paths.absolute(path).exists()]
        if gone:
            console.print(
                say("What is forgotten is not measured: the weights learnt from {gone}, which is gone.", gone=gone[0])
            )
            text = held_out = None
    if spec.data.mix and text is None and chats is None:
        raise ValueError(
            say(
                "data.mix = {mix}: it is not known which text the weights learnt from; name it with "
                "--set data.mix_path=FILE",
                mix=spec.data.mix,
            )
        )
    return spec.model_copy(
        update={
            "data": spec.data.model_copy(update={"mix_path": text, "chats_path": chats}),
            "eval": spec.eval.model_copy(update={"pretrain_path": held_out, "facts_path": facts}),
        }
    )


def _learnt_from(checkpoint: Path, held_out: str | None) -> tuple[str | None, str | None]:
    """The plain text that the run of a checkpoint learnt from or knew of, and its held-out file."""
    run = RunDirectory(checkpoint.parent.parent)
    if not run.exists:
        return None, held_out
    parent = RunSpec.model_validate(run.spec())
    if STAGES[parent.stage.kind].rows == "pretrain":
        return parent.data.path, held_out or parent.eval.path
    return parent.data.mix_path, held_out or parent.eval.pretrain_path


def _taught(checkpoint: Path) -> str | None:
    """The conversations that the weights of a checkpoint were taught last; None where that is not known, or gone."""
    seen: set[Path] = set()  # of two runs that were overwritten each may begin with the other
    while (run := RunDirectory(checkpoint.parent.parent)).exists and run.path not in seen:
        seen.add(run.path)
        spec = RunSpec.model_validate(run.spec())
        path = spec.data.path if STAGES[spec.stage.kind].rows == "sft" else spec.data.chats_path
        if path is not None:
            return path if paths.absolute(path).exists() else None
        if spec.weights is None:
            return None
        try:
            checkpoint = find_weights(spec.weights).folder
        except ValueError:  # they are gone
            return None
    return None


def _require_shape(spec: RunSpec, model: str | None, settings: Mapping[str, Any], shape: ModelConfig) -> None:
    weights = settings["init_from"]
    given = [path for path in settings if path.split(".")[0] == "model"]
    if spec.model != shape:
        wrong = [f"{flags.named(path)} = {settings[path]}" for path in given]
        raise ValueError(
            say(
                "{wrong}: the model's shape is that of its first weights, {weights}: leave it out",
                wrong=", ".join(wrong),
                weights=weights,
            )
        )
    if model is not None and not given and _size(MODEL_PRESETS[model]) != _size(shape):
        wanted, there = ("x".join(map(str, _size(config))) for config in (MODEL_PRESETS[model], shape))
        raise ValueError(
            say(
                "--model {model} is {wanted}, the first weights, {weights}, are {there}: leave it out",
                model=model,
                wanted=wanted,
                weights=weights,
                there=there,
            )
        )


def _shape(folder: Path) -> ModelConfig:
    try:
        require_language_model(folder)
        return from_hf_config(json.loads((folder / "config.json").read_text("utf-8")))
    except (OSError, ValueError):
        verify(folder)  # says what is damaged
        raise


def _nearest(shape: ModelConfig) -> str:
    """The preset that is nearest in the numbers its blocks hold."""

    def numbers(config: ModelConfig) -> float:
        return log(config.hidden_size**2 * config.num_hidden_layers)

    return min(MODEL_PRESETS, key=lambda name: abs(numbers(MODEL_PRESETS[name]) - numbers(shape)))


def _size(config: ModelConfig) -> tuple[int, int]:
    return config.hidden_size, config.num_hidden_layers
