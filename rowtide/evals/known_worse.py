"""Plant candidates that are known to be worse, made of a job's own files: what golden rows do not notice, they do not
test.

The idea is mutation testing's. A rule is dropped, a tool taken away, two values exchanged. Most such changes harm; one
that a set does not notice says that the rule does nothing, or that no golden row needs it. Neither is good to have.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from rowtide.job.job_spec import JobSpec

RULES = 3  # dropped, one in each candidate: the longest, which say most
DIVIDER = "\n---\n"  # between what all rows get and each row's own message
ITEM = re.compile(r"[ \t]*(?:[-*+]|\d+[.)])[ \t]+(?=\S)")
SENTENCE = re.compile(r"[^.!?\n][^.!?]*(?:[.!?](?=\s|$)|[.!?](?!\s)[^.!?]*)+")
HOLE = re.compile(r"\{\{.*?\}\}")
MISLEADING = "For example, where it is not plain at once, the right answer is {}."
FROM_MEMORY = "Rows that look familiar need no tools: answer them from memory."


@dataclass(frozen=True, slots=True)
class Plant:
    """A candidate that should be refused."""

    name: str
    """What is planted, in words: `--tiers haiku`."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Files of the job's folder with other words, by their path in it."""
    settings: tuple[str, ...] = ()
    """KEY=VALUE of job.yaml, as `--set` takes them."""


@dataclass(frozen=True, slots=True)
class JobWords:
    """A job as people wrote it."""

    spec: JobSpec
    prompt: str
    answer: str
    """Its answer.py."""
    model: str
    """The name of the answer model there."""
    skills: Mapping[str, str]
    """The files of its skills, by their path in its folder."""
    values: Mapping[str, Sequence[str]]
    """The fields that are one of several values: field → the values."""
    known: Mapping[str, Sequence[Any]]
    """The golden rows' answers: field → its values, as often as they come."""


def plant_known_worse(job: JobWords) -> list[Plant]:
    """Every candidate that this job gives occasion for, in the order in which they are evaluated."""
    plants = [
        *_without_rules(job),
        _weakest_tier(job.spec),
        _without_tools(job.spec),
        _added(job, FROM_MEMORY, "answers from memory") if job.spec.tools else None,
        _misleading_example(job),
        _exchanged_values(job),
        _exchanged_descriptions(job),
        _without_a_column(job),
        _first_half(job),
    ]
    return [plant for plant in plants if plant is not None]


def _without_rules(job: JobWords) -> Iterator[Plant]:
    texts = {str(job.spec.prompt): job.prompt, **job.skills}
    found = [(file, rule) for file, text in texts.items() for rule in rules_of(_for_all(text), _all_values(job))]
    chosen = sorted(found, key=lambda each: -len(each[1].split()))[:RULES]
    for file, rule in (each for each in found if each in chosen):
        yield Plant(f"a rule of {file} dropped: {_short(rule)}", {file: texts[file].replace(rule, "", 1)})


def rules_of(text: str, values: Sequence[str] = ()) -> list[str]:
    """The rules that a text gives, as they stand there: the items of its lists, but for those that explain a value
    (`- VALUE: words`); where it has fewer than are dropped, its sentences too."""
    items = [each for each in _items(text) if not any(ITEM.sub("", each, 1).startswith(f"{v}:") for v in values)]
    if len(items) >= RULES:
        return items
    rest = text
    for each in _items(text):
        rest = rest.replace(each, "\n\n", 1)
    return [*items, *(each[0] for each in SENTENCE.finditer(rest) if len(each[0].split()) > 2 and each[0] in text)]


def _items(text: str) -> list[str]:
    """The items of a text's lists, each with the lines that it goes on in."""
    found, is_open = list[list[str]](), False
    for line in text.splitlines(keepends=True):
        if ITEM.match(line):
            found.append([line])
            is_open = True
        elif is_open and line.strip() and line[0] in " \t":
            found[-1].append(line)
        else:
            is_open = False
    return ["".join(lines) for lines in found]


def _weakest_tier(spec: JobSpec) -> Plant | None:
    weakest = spec.tiers[0]
    return Plant(f"the weakest tier only: {weakest}", settings=(_set("tiers", [weakest]),)) if spec.tiers[1:] else None


def _without_tools(spec: JobSpec) -> Plant | None:
    """Without the server that offers most tools, and without the claims that only it could prove."""
    if not spec.tools:
        return None
    gone = max(spec.tools, key=lambda name: len(spec.tools[name].tools or ()))
    left = {name: each.model_dump(mode="json", exclude_unset=True) for name, each in spec.tools.items() if name != gone}
    claims = [each for each in spec.checks.grounding if each.tool.partition(".")[0] != gone]
    settings = [_set("tools", left)]
    if claims != spec.checks.grounding:
        settings.append(_set("checks.grounding", [each.model_dump(mode="json", exclude_unset=True) for each in claims]))
    return Plant(f"tools taken away: {gone}", settings=tuple(settings))


def _misleading_example(job: JobWords) -> Plant | None:
    """The value that is right most often, said to be right whenever in doubt."""
    named = sorted(job.known, key=lambda name: name not in job.values)
    if not named:
        return None
    (value, _), *_ = Counter(orjson.dumps(each).decode() for each in job.known[named[0]]).most_common(1)
    return _added(job, MISLEADING.format(f'{{"{named[0]}": {value}}}'), "a misleading example")


def _added(job: JobWords, sentence: str, what: str) -> Plant:
    shared, divider, own = job.prompt.partition(DIVIDER)
    text = f"{shared.rstrip()}\n\n{sentence}{divider}{own}" if divider else f"{sentence}\n\n{shared}"
    return Plant(f"{what}: {sentence}", {str(job.spec.prompt): text})


def _exchanged_values(job: JobWords) -> Plant | None:
    """The words that explain two values of a field, exchanged: those of the values that are right most often."""
    for name, values in job.values.items():
        lines = {value: each for each in _items(_for_all(job.prompt)) for value in values if _explains(each, value)}
        often = [each for each, _ in Counter(job.known.get(name, ())).most_common() if each in lines]
        if len(often) < 2:
            continue
        one, other = often[:2]
        swapped = {one: lines[one].replace(one, other, 1), other: lines[other].replace(other, one, 1)}
        text = job.prompt.replace(lines[one], "\0", 1).replace(lines[other], swapped[other], 1)
        return Plant(f"{one} and {other} exchanged", {str(job.spec.prompt): text.replace("\0", swapped[one], 1)})
    return None


def _exchanged_descriptions(job: JobWords) -> Plant | None:
    """The descriptions of a golden field and of its neighbour, exchanged."""
    found = list(_descriptions(job.answer, job.model))
    for at, (name, _) in enumerate(found):
        if name in job.known and len(found) > 1:
            pair = sorted(
                [found[at], found[at + 1] if at + 1 < len(found) else found[at - 1]], key=lambda e: e[1].start
            )
            (one, first), (other, second) = pair
            text = job.answer
            words = text[first], text[second]
            text = f"{text[: first.start]}{words[1]}{text[first.stop : second.start]}{words[0]}{text[second.stop :]}"
            return Plant(f"the descriptions of {one} and {other} exchanged", {"answer.py": text})
    return None


def _descriptions(source: str, model: str) -> Iterator[tuple[str, slice]]:
    """The fields of the answer model that have a description, each with where that stands."""
    starts = [0]
    for line in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef) and node.name == model:
            for each in node.body:
                if (
                    isinstance(each, ast.AnnAssign)
                    and isinstance(each.target, ast.Name)
                    and isinstance(each.value, ast.Call)
                ):
                    for word in each.value.keywords:
                        if word.arg == "description" and isinstance(word.value, ast.Constant):
                            yield each.target.id, _place(source, starts, word.value)


def _place(source: str, starts: Sequence[int], node: ast.Constant) -> slice:
    """Where an expression stands in a text; ast counts bytes."""
    content = source.encode()
    first = starts[node.lineno - 1] + node.col_offset
    last = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
    return slice(len(content[:first].decode()), len(content[:last].decode()))


def _without_a_column(job: JobWords) -> Plant | None:
    """The row's message without the first line that says nothing but one column."""
    shared, divider, own = job.prompt.partition(DIVIDER)
    message = own if divider else shared
    lines = [line for line in message.splitlines(keepends=True) if len(HOLE.findall(line)) == 1]
    if len(lines) < 2 or "{%" in message:
        return None
    text = message.replace(lines[0], "", 1)
    return Plant(
        f"rows without a column: {_short(lines[0])}",
        {str(job.spec.prompt): f"{shared}{divider}{text}" if divider else text},
    )


def _first_half(job: JobWords) -> Plant | None:
    """The instructions, cut off in their middle: as a merge that went wrong leaves them."""
    shared, divider, own = job.prompt.partition(DIVIDER)
    lines = shared.splitlines(keepends=True)
    if not divider or len(lines) < 2:
        return None
    kept = "".join(lines[: len(lines) // 2])
    return Plant("the second half of the instructions dropped", {str(job.spec.prompt): f"{kept}{divider}{own}"})


def _explains(item: str, value: str) -> bool:
    return ITEM.sub("", item, count=1).startswith(f"{value}:")


def _for_all(text: str) -> str:
    """The part of a prompt that all rows get; of a skill, all below its header."""
    if text.startswith("---\n"):
        return text.partition("\n---")[2]
    return text.partition(DIVIDER)[0]


def _all_values(job: JobWords) -> list[str]:
    return [value for values in job.values.values() for value in values]


def _set(key: str, value: object) -> str:
    return f"{key}={orjson.dumps(value).decode()}"


def _short(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= 60 else f"{words[:59].rstrip()}…"
