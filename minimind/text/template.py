"""The chat template as text: who may follow whom, the words about tools, and the Jinja that other programs read.

`minimind.text.chat` writes token ids by the same rules; tests/parity holds the two together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from minimind.language import say

MAY_FOLLOW: dict[str, tuple[str, ...]] = {
    "": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}
"""Which roles may come after a role; "" is the beginning of a conversation."""

TOOLS_HEAD = "# Tools\n\nWhat can be called, one a line:\n<tools>\n"
TOOLS_TAIL = (
    "</tools>\n\nA call is written so:\n"
    '<tool_call>\n{"name": "the tool", "arguments": {"an argument": "its value"}}\n</tool_call>'
)

JOINER = "\u2060"
"""WORD JOINER: no width, no meaning of its own. After its first character it breaks the name of a special token."""

# Numbered names (<|buffer1|>, <|spare17|>) are broken by what stands before the number: there may be thousands.
_NUMBER = re.compile(r"(?<=\w)\d+\|>$")

_SOURCE = """\
{#- A joiner, U+2060, keeps the names of special tokens in a message from being read as the tokens. -#}
{%- macro plain(text) -%}
  {%- if text is string -%}
    {{- text@REPLACE@ -}}
  {%- elif text -%}
    {{- raise_exception('content must be text or null') -}}
  {%- endif -%}
{%- endmacro -%}
{%- set may_follow = @MAY_FOLLOW@ -%}
{%- set ns = namespace(before='') -%}
{%- if not messages -%}
  {{- raise_exception('messages is empty') -}}
{%- endif -%}
{%- set system = messages[0] if messages[0].role == 'system' else {} -%}
{%- if system.content or system.tools or tools -%}
  {{- '<|im_start|>system\\n' -}}
  {{- plain(system.content) -}}
  {%- if system.tools or tools -%}
    {{- '\\n\\n' if system.content else '' -}}
    {{- @TOOLS_HEAD@ -}}
    {%- for tool in system.tools or [] -%}
      {{- plain(tool | tojson) + '\\n' -}}
    {%- endfor -%}
    {%- for tool in tools or [] -%}
      {{- plain(tool | tojson) + '\\n' -}}
    {%- endfor -%}
    {{- @TOOLS_TAIL@ -}}
  {%- endif -%}
  {{- '<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
  {%- if message.role not in may_follow[ns.before] -%}
    {{- raise_exception('turn ' ~ loop.index ~ ' is ' ~ message.role ~ (' after ' ~ ns.before if ns.before else
        ' at the beginning') ~ '; allowed there: ' ~ (may_follow[ns.before] | join(' or '))) -}}
  {%- endif -%}
  {%- if message.role == 'user' -%}
    {{- '<|im_start|>user\\n' + plain(message.content) + '<|im_end|>\\n' -}}
  {%- elif message.role == 'assistant' -%}
    {{- '<|im_start|>assistant\\n' -}}
    @TARGET@
    {%- set content = plain(message.content) | trim -%}
    {%- set reasoning = plain(message.reasoning_content) | trim -%}
    {%- if reasoning -%}
      {{- '<think>\\n' + reasoning + '\\n</think>\\n\\n' -}}
    {%- endif -%}
    {{- content -}}
    {%- for tool_call in message.tool_calls or [] -%}
      {%- set call = tool_call.function or tool_call -%}
      {{- '\\n' if content or not loop.first else '' -}}
      {{- '<tool_call>\\n{"name": ' + plain(call.name | tojson) + ', "arguments": ' -}}
      {%- if not call.arguments -%}
        {{- '{}' -}}
      {%- elif call.arguments is string -%}
        {{- plain(call.arguments) -}}
      {%- else -%}
        {{- plain(call.arguments | tojson) -}}
      {%- endif -%}
      {{- '}\\n</tool_call>' -}}
    {%- endfor -%}
    {{- '<|im_end|>' -}}
    @END_TARGET@
    {{- '\\n' -}}
  {%- elif message.role == 'tool' -%}
    {{- '<|im_start|>user' if ns.before != 'tool' else '' -}}
    {{- '\\n<tool_response>\\n' + plain(message.content) + '\\n</tool_response>' -}}
    {%- if loop.last or messages[loop.index].role != 'tool' -%}
      {{- '<|im_end|>\\n' -}}
    {%- endif -%}
  {%- endif -%}
  {%- set ns.before = message.role -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {%- if 'assistant' not in may_follow[ns.before] -%}
    {{- raise_exception('an answer can not follow ' ~ ns.before) -}}
  {%- endif -%}
  {{- '<|im_start|>assistant\\n' -}}
  {%- if enable_thinking is defined and enable_thinking is not none -%}
    {{- '<think>\\n' if enable_thinking else '<think>\\n\\n</think>\\n\\n' -}}
  {%- endif -%}
{%- endif -%}
"""


class Escaping:
    """Keeps special tokens' names in ordinary text from being read as the tokens. Get one from `escaping_for`.

    A name is broken by a joiner after its first character. Where a joiner follows such a character in the text already,
    one more goes in, so that `unescape` gives back what `escape` was given, whatever it was.

    replacements: pairs of what is replaced by what, to be done in this order.
    """

    def __init__(self, special_tokens: Iterable[str]) -> None:
        names = {_NUMBER.sub("", token) for token in special_tokens}
        # A single character has no inside that could be broken.
        ordered = sorted(name for name in names if len(name) > 1 and not name.isspace())
        firsts = sorted({name[0] for name in ordered})
        self.replacements = [(first + JOINER, first + 2 * JOINER) for first in firsts]
        self.replacements += [(name, name[0] + JOINER + name[1:]) for name in ordered]

        rests = {first: [JOINER, *(name[1:] for name in ordered if name[0] == first)] for first in firsts}
        joiners = [
            f"(?<={re.escape(first)}){JOINER}(?=" + "|".join(map(re.escape, after)) + ")"
            for first, after in rests.items()
        ]
        self._joiner = re.compile("|".join(joiners) or "(?!)")
        broken = [new for _, new in self.replacements]
        self._beginnings = {text[:length] for text in broken for length in range(1, len(text))}
        self._longest = max(map(len, broken), default=1) - 1

    def escape(self, text: str) -> str:
        """The text with every special token's name broken."""
        for old, new in self.replacements:
            text = text.replace(old, new)
        return text

    def unescape(self, text: str) -> str:
        """The text with broken names whole again. A name that nobody broke stays as well."""
        return self._joiner.sub("", text)

    def unfinished(self, text: str) -> int:
        """How many characters at the end of `text` may be the beginning of a broken name."""
        longest = min(self._longest, len(text))
        return next((size for size in range(longest, 0, -1) if text[-size:] in self._beginnings), 0)


@lru_cache(maxsize=8)
def escaping_for(special_tokens: tuple[str, ...]) -> Escaping:
    """The escaping for a tokenizer's special tokens."""
    return Escaping(special_tokens)


def jinja_source(special_tokens: Iterable[str], *, mark_targets: bool = False) -> str:
    """The chat template for a tokenizer with these special tokens, as tokenizer_config.json has it.

    It takes messages, tools, add_generation_prompt and enable_thinking (undefined or none, true, false).

    mark_targets: put what is learnt between `generation` tags, from which transformers makes its assistant mask. The
        exported template is without: plain Jinja2 (llama-cpp-python) and minijinja (text-generation-inference) refuse
        the tag, and training here needs no mask from Jinja.
    """
    replace = "".join(
        f"\n      | replace({_literal(old)}, {_literal(new)})" for old, new in Escaping(special_tokens).replacements
    )
    may_follow = json.dumps({role: list(after) for role, after in MAY_FOLLOW.items()})
    parts = {
        "@REPLACE@": replace,
        "@MAY_FOLLOW@": may_follow,
        "@TOOLS_HEAD@": _literal(TOOLS_HEAD),
        "@TOOLS_TAIL@": _literal(TOOLS_TAIL),
        "    @TARGET@\n": "    {%- generation -%}\n" if mark_targets else "",
        "    @END_TARGET@\n": "    {%- endgeneration -%}\n" if mark_targets else "",
    }
    source = _SOURCE
    for name, part in parts.items():
        source = source.replace(name, part)
    return source


def order_problem(roles: Sequence[str]) -> str | None:
    """What is wrong with the order of a conversation's roles, in words; None if nothing is."""
    before = ""
    for number, role in enumerate(roles, start=1):
        if role not in MAY_FOLLOW[before]:
            where = say("after {before}", before=before) if before else say("at the beginning")
            return say(
                "turn {number} is {role} {where}; allowed there: {may_follow}",
                number=number,
                role=role,
                where=where,
                may_follow=say(" or ").join(MAY_FOLLOW[before]),
            )
        before = role
    return None


def _literal(text: str) -> str:
    """A text as a string in Jinja."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"
