"""A model's card in Markdown: what it is, what it was made from, scores and cannot, and how to repeat it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data.prepare import content_sha256
from data.read import row_files
from jobs import paths
from jobs.evaluation.report import templates
from jobs.evaluation.texts import cell, fenced, quoted
from jobs.evaluation.view import title_of
from jobs.experiment.facts import Facts, facts_of, spec_of
from jobs.runs import evals
from jobs.runs.directory import RunDirectory
from jobs.runs.references import Weights
from jobs.stages.facts import is_stock_questions
from jobs.stages.lineage import learnt_to_answer
from jobs.stages.spec import NO_WEIGHTS, RunSpec
from jobs.stages.table import STAGES
from jobs.stages.weights import policy_shape, trained_parameters
from jobs.stock.build import FILES as STOCK_FILES
from minimind.events import standing
from minimind.language import phrase, say
from minimind.units import amount, duration, memory, size

LICENCES = "LICENSES.md"
"""Beside the stock data: what it was made of."""

_MACHINE = ("device", "driver", "cuda", "cpu", "vectors", "kernels", "threads", "workers", "dtype", "platform")
_PROGRAM = ("python", "torch", "ray", "commit", "source")


@dataclass(frozen=True)
class Link:
    """A checkpoint on the way to the model. facts: of its run, None where that is not here any more."""

    name: str
    step: int | None
    facts: Facts | None

    @property
    def stage(self) -> str:
        """The stage in words."""
        if self.facts is None:
            return ""
        stage = STAGES.get(self.facts.row.stage)
        return phrase(stage.title) if stage else say("learn a vocabulary from text")


@dataclass(frozen=True)
class DataFile:
    """A file of data that was read. sha256: when the run was created, "" where that was not kept. bytes: None where the
    file that lies there now is another one, or none.
    """

    run: str
    setting: str
    name: str
    bytes: int | None
    sha256: str
    licensed: Path | None


def render(weights: Weights) -> str:
    """The card of a checkpoint. Raises ValueError for one that is no run's, or whose run's files are damaged."""
    if weights.run is None or weights.step is None:
        raise ValueError(
            say(
                "{folder} is the checkpoint of no run here, so nothing is known of how it was made: name a run",
                folder=weights.folder,
            )
        )
    run = RunDirectory(paths.runs() / weights.run)
    spec, facts = spec_of(run), facts_of(run)
    links = lineage(facts, weights.step)
    files = data_files(links)
    licences = {file.licensed: file.licensed.read_text("utf-8") for file in files if file.licensed is not None}
    return (
        templates(Path(__file__).parent)
        .get_template("card.md.jinja")
        .render(
            name=weights.name,
            model=_model(spec),
            adapter=spec.adapter,
            links=links,
            files=files,
            licences=[_below_its_heading(text) for text in licences.values()],
            all_stock=bool(files) and all(file.licensed is not None for file in files),
            settings=_settings(spec, facts),
            logs=[log for log in evals.logs(run) if log.summary.get("step") == weights.step],
            measured=_measured(facts, weights.step),
            samples=[one for one in facts.samples if one["step"] == weights.step],
            answers=learnt_to_answer(run),
            folder=paths.kept(str(weights.folder)),
            run=run.name,
            machine=[(key, facts.environment[key]) for key in _MACHINE if key in facts.environment],
            program=[(key, facts.environment[key]) for key in _PROGRAM if key in facts.environment],
            commands=[(link.name, link.facts.command) for link in links if link.facts and link.facts.command],
            cell=cell,
            quoted=quoted,
            fenced=fenced,
            number=evals.number,
            title_of=title_of,
            size=size,
            duration=duration,
            amount=amount,
        )
    )


def lineage(facts: Facts, step: int) -> list[Link]:
    """The checkpoints that lead to one, the first of them first, as far back as their runs are here; before them all
    the run of the tokenizer, where there was one.
    """
    links = [Link(f"{facts.run.name}@{step}", step, facts)]
    seen = {facts.run.path}
    while (named := links[0].facts and links[0].facts.asked("init_from")) not in (None, NO_WEIGHTS):
        link = _named(str(named))
        if link.facts is not None and link.facts.run.path in seen:
            break
        links.insert(0, link)
        if link.facts is not None:
            seen.add(link.facts.run.path)
    named = links[0].facts.asked("data.tokenizer") if links[0].facts is not None else None
    if named is not None and (link := _named(str(named))).facts is not None and link.facts.row.stage == "tokenizer":
        links.insert(0, link)
    return links


def _named(text: str) -> Link:
    """What `init_from` names."""
    if paths.is_path(text):
        folder = paths.absolute(text)
        run, step = RunDirectory(folder.parent.parent), folder.name.removeprefix("step_")
        name = f"{run.name}@{int(step)}" if run.exists and step.isdecimal() else folder.name
    else:
        run, name, step = RunDirectory(paths.runs() / text.partition("@")[0]), text, text.partition("@")[2]
    try:
        return Link(name, int(step) if step.isdecimal() else None, facts_of(run))
    except ValueError:
        return Link(name, None, None)


def data_files(links: list[Link]) -> list[DataFile]:
    """The files that the runs on the way have read, each once."""
    found: dict[tuple[str, str], DataFile] = {}
    for link in links:
        for setting, (text, digest) in link.facts.files.items() if link.facts is not None else ():
            path = paths.absolute(text)
            same = path.exists() and (not digest or content_sha256(path) == digest)
            found.setdefault(
                (str(path), digest),
                DataFile(
                    run=link.name,
                    setting=setting,
                    name=path.name,
                    bytes=_bytes(path) if same else None,
                    sha256=digest,
                    licensed=_licences_of(path),
                ),
            )
    known = {path for path, digest in found if digest}
    return [file for (path, digest), file in found.items() if digest or path not in known]


def _bytes(path: Path) -> int:
    """The size of a file, or of the files of rows in a folder."""
    return path.stat().st_size if path.is_file() else sum(file.path.stat().st_size for file in row_files(path))


def _licences_of(path: Path) -> Path | None:
    """The list of licences beside a file of the stock data or of the samples that come with the project."""
    ours = (paths.stock_folder(), paths.checkout() / "data" / "samples")
    if is_stock_questions(path):
        return _licences_of(paths.stock_folder() / "eval.jsonl")
    beside = path.parent / LICENCES
    return beside if path.name in STOCK_FILES and path.parent in ours and beside.is_file() else None


def _below_its_heading(text: str) -> str:
    """A list of licences without its own title: it stands below one of the card."""
    lines = text.strip().splitlines()
    return "\n".join(lines[1:] if lines[:1] and lines[0].startswith("# ") else lines).strip()


def _model(spec: RunSpec) -> list[tuple[str, str]]:
    shape = spec.model
    everything = {id(parameter): parameter.numel() for parameter in policy_shape(spec).parameters()}
    heads = say(
        "{heads} for queries, {pairs} for keys and values",
        heads=shape.num_attention_heads,
        pairs=shape.num_key_value_heads,
    )
    rows = [
        (say("Layout"), say("Qwen3: a dense transformer, RMSNorm, rotary positions, SwiGLU")),
        (say("Parameters"), f"{sum(everything.values()):,}"),
        (say("Blocks"), str(shape.num_hidden_layers)),
        (say("Width"), str(shape.hidden_size)),
        (say("Attention heads"), heads),
        (say("Vocabulary"), str(shape.vocab_size)),
        (say("Longest text it was trained on, in tokens"), str(spec.data.max_seq_len)),
        (say("Precision of the weights"), "float32"),
    ]
    if spec.adapter is not None:
        rows.insert(2, (say("Of them the adapter's"), f"{trained_parameters(spec):,}"))
    return rows


def _settings(spec: RunSpec, facts: Facts) -> list[tuple[str, str]]:
    """Those without which nobody comes to a model like it."""
    loop, optim = spec.loop, spec.optim
    batch = f"{loop.batch_size} x {loop.accumulation_steps} x {spec.world}"
    rows = [
        (say("Rows per step (batch x accumulation x workers)"), batch),
        (say("Tokens per row"), str(spec.data.max_seq_len)),
        (say("Epochs"), str(loop.epochs) + (f", max_steps {loop.max_steps}" if loop.max_steps else "")),
        (say("Learning rate"), f"{optim.learning_rate:g}, {optim.schedule}"),
        (say("Optimizer"), f"{optim.name}, weight_decay {optim.weight_decay:g}, grad_clip {optim.grad_clip:g}"),
        (say("Precision while training"), facts.environment.get("dtype", loop.dtype)),
        (say("Seed"), str(spec.seed)),
    ]
    if spec.data.mix:
        rows.append((say("Share of rows that are plain text"), f"{spec.data.mix:g}"))
    if spec.adapter is not None:
        rows.append((say("Adapter"), f"rank {spec.adapter.rank}, alpha {spec.adapter.alpha:g}"))
    if (tokenizer := facts.run.began_with.get("tokenizer")) is not None:
        rows.append((say("Tokenizer"), str(tokenizer)))
    if facts.seconds:
        rows.append((say("Time"), duration(facts.seconds)))
    if (peak := facts.last("perf/peak_memory_bytes")) is not None:
        rows.append((say("Peak memory"), memory(peak)))
    return rows


def _measured(facts: Facts, step: int) -> list[tuple[str, str]]:
    """What held-out rows showed at this step."""
    measured = standing(facts.events).get(step, {})
    if "val/right" in measured:  # of a run that tries, whose loss is near 0 whatever it learns
        return [(say("Held-out prompts answered right"), f"{100 * measured['val/right']:.1f} %")]
    titles = {"val/loss": say("Validation loss"), "val/bits_per_byte": say("Bits/byte")}
    return [(title, f"{measured[name]:.4f}") for name, title in titles.items() if name in measured]
