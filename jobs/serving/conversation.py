"""A conversation in the terminal: what is said, shown as it comes, and the commands that begin with a slash."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from rich.console import Console
from rich.markup import escape

from jobs.serving.answerer import Answerer, Manner, Message, Model, Part
from minimind.language import phrase, say


@dataclass
class Conversation:
    """What has been said, and how to go on. failed: whether a question got no answer."""

    answerer: Answerer
    model: Model
    system: str = ""
    manner: Manner = field(default_factory=Manner)
    turns: list[Message] = field(default_factory=list)
    failed: bool = False

    @property
    def messages(self) -> list[Message]:
        """All of it, with the system prompt in front."""
        return [*([{"role": "system", "content": self.system}] if self.system else []), *self.turns]

    def ask(self, text: str, console: Console) -> None:
        """Say something and show the answer as it comes; a model that continues text gets `text` as a beginning.

        Ctrl-C stops it; what had come stays said.
        """
        if not self.model.chat:
            _show(text, console)
            self._show(self.answerer.go_on(self.model.id, text, self.manner), console)
            return
        self.turns.append({"role": "user", "content": text})
        said = self._show(self.answerer.answer(self.model.id, self.messages, self.manner), console)
        if said:
            answer: Message = {"role": "assistant", "content": said.get("content", "")}
            if reasoning := said.get("reasoning"):
                answer["reasoning_content"] = reasoning
            self.turns.append(answer)
        else:
            self.turns.pop()  # unanswered: asking again begins where this began

    def _show(self, parts: Iterator[Part], console: Console) -> dict[str, str]:
        """Shows what comes, and gives it by kind."""
        said: dict[str, str] = {}
        try:
            for part in parts:
                if part.kind == "content" and said.get("reasoning") and not said.get("content"):
                    console.print("\n")
                said[part.kind] = said.get(part.kind, "") + part.text
                _show(part.text, console, _STYLES.get(part.kind))
            console.print()
        except KeyboardInterrupt:
            console.print(f"\n[dim]{say('stopped')}[/]", markup=True)
        except ValueError as error:
            self.failed = True
            console.print(f"\n[red]{escape(str(error))}[/]", markup=True)
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()
        return said

    def command(self, line: str, console: Console) -> bool:
        """A line that begins with a slash. False: leave."""
        name, _, rest = line[1:].partition(" ")
        rest = rest.strip()
        match name:
            case "exit" | "quit" | "q":
                return False
            case "help" | "?":
                for command, what in HELP.items():
                    console.print(f"{command:<23}{phrase(what)}")
            case "new":
                self.turns.clear()
                console.print(say("A new conversation."))
            case "model":
                self._choose(rest, console)
            case "system":
                self.system = rest
                self.turns.clear()
                console.print(_pair(say("system prompt"), rest or say("none")), markup=False)
            case "think":
                if rest in ("on", "off", "auto"):
                    self.manner = replace(self.manner, thinking={"on": True, "off": False, "auto": None}[rest])
                shown = {True: "on", False: "off", None: "auto"}[self.manner.thinking]
                console.print(f"{_pair(say('thinking'), shown)}   (/think on|off|auto)")
            case "temperature":
                try:
                    self.manner = replace(self.manner, temperature=temperature(rest)) if rest else self.manner
                except ValueError as error:
                    console.print(f"[red]{escape(str(error))}[/]", markup=True)
                console.print(f"{_pair(say('temperature'), self._temperature())}   (/temperature X|auto)")
            case _:
                console.print(_pair(f"/{name}", say("no such command; /help")), markup=False)
        return True

    def _choose(self, name: str, console: Console) -> None:
        """Take the model of this name, or without one show what there is."""
        try:
            if name:
                self.model = self.answerer.find(name)
            else:
                _list(self.answerer.models(), console)
        except ValueError as error:
            console.print(f"[red]{escape(str(error))}[/]", markup=True)
        console.print(_pair(say("model"), self.model.id))
        if name and not self.model.chat:
            introduce(self.model, console)

    def _temperature(self) -> str:
        if self.manner.temperature is not None:
            return str(self.manner.temperature)
        own = "" if self.model.temperature is None else f"{self.model.temperature:g} "
        return f"{own}({say('of the model')})"


_STYLES = {"reasoning": "dim italic", "tool_call": "cyan"}


def _show(text: str, console: Console, style: str | None = None) -> None:
    console.print(text, end="", style=style)


def _pair(name: str, value: str) -> str:
    return say("{name}: {value}", name=name, value=value)


def _list(models: Sequence[Model], console: Console) -> None:
    """One line for each model: what it is, and of which it is another name."""
    first: dict[str, str] = {}
    for model in models:
        same = first.setdefault(model.weights, model.id) if model.weights else model.id
        notes = [*([f"{say('the same as')} {same}"] if same != model.id else [])]
        notes += [] if model.chat else [say("continues text")]
        note = f"   [dim]{escape(say(', ').join(notes))}[/]" if notes else ""
        console.print(f"  {escape(model.id)}{note}", markup=True)
    if not models:
        console.print(phrase(NO_MODEL))


def introduce(model: Model, console: Console) -> None:
    """Says what a model is that has not learnt to answer, and what teaches it."""
    run = model.id.partition("@")[0]
    console.print(f"[yellow]{say('It has not learnt to answer: it goes on with the text you begin.')}[/]", markup=True)
    console.print(_pair(say("To teach it"), f"minimind train sft --from_weight {run} --data_path YOUR.jsonl"))


def temperature(text: str) -> float | None:
    """The number in a text; None of "auto". Raises ValueError for one that is no temperature."""
    if text == "auto":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 2:
        raise ValueError(say("temperature {text!r}: a number from 0 (always the likeliest word) to 2", text=text))
    return value


NO_MODEL = "There is no model yet: minimind train"

HELP = {
    "/model [NAME]": "show the models, or take another one",
    "/system TEXT": "give the model a role, and begin anew",
    "/think on|off|auto": "let the model think before it answers",
    "/temperature X": "0 always takes the likeliest word, 2 is the wildest; auto: what the model's checkpoint says",
    "/new": "forget what was said",
    "/exit": "leave (also Ctrl-D); Ctrl-C stops an answer",
}
"""Command -> what it does."""
