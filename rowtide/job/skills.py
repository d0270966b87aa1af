"""Read skills (folders with a SKILL.md), and choose those that the rows of a group get.

A skill's description decides. It is searched, not understood: a skill goes to a group when every word of the group's
name stands in its description, so "not for banks" speaks of banks too. What is sent is the description and the body
of SKILL.md; `references/`, `scripts/` and `assets/` are not, and `allowed-tools` grants nothing: job.yaml does.
"""

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from rowtide.errors import UserMistake, nearest_name

SKILL_FILE = "SKILL.md"
FENCE = "---"
SMALL_WORDS = {"a", "an", "and", "for", "in", "of", "or", "the", "to", "with"}
WORD = re.compile(r"[^\W_]+")
CODE = re.compile(r"[A-Z]{2}")

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Frontmatter(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Line = Field(max_length=64, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    description: Line = Field(max_length=1024)
    license: Line | None = None
    compatibility: Line | None = Field(default=None, max_length=500)
    metadata: dict[str, str] | None = None
    allowed_tools: str | list[str] | None = Field(default=None, alias="allowed-tools")


KEYS = [field.alias or name for name, field in Frontmatter.model_fields.items()]


@dataclass(frozen=True)
class Skill:
    """One skill, as the model reads it. `file` is its SKILL.md."""

    name: str
    description: str
    body: str
    file: Path


def skills_for_group(skills: Sequence[Skill], group: str | None, always: Collection[str]) -> list[Skill]:
    """Return the skills a group's rows are taught, by name; without groups (None) all of them.

    Words are compared without case, accents and plural endings. A near miss is another word: intrastate is not
    interstate, so there is no fuzziness. Two capitals (IT, US, DE) are a code, found only where they are capitals too.
    Small words in a group's name ("of", "and") are not looked for. A group without a name has what everybody has.
    """
    if group is None:
        taught = list(skills)
    else:
        sought = _sought(group)
        taught = [skill for skill in skills if skill.name in always or _speaks_of(skill, sought)]
    return sorted(taught, key=lambda skill: skill.name)


def read_skills(folders: Sequence[Path], always: Sequence[str], *, job_file: Path) -> list[Skill]:
    """Read every skill in `folders`, strictly. Raises UserMistake naming file, line, key and the nearest legal name."""
    found: dict[str, Skill] = {}
    for file in (file for folder in folders for file in _skill_files(folder)):
        skill = _read(file)
        if skill.name in found:
            raise UserMistake(f"there is another {skill.name!r} in {found[skill.name].file}", file=file, key="name")
        found[skill.name] = skill
    for name in always:
        if name not in found:
            what = f"no skill {name!r}; skills: {', '.join(found) or 'none'}"
            raise UserMistake(what, file=job_file, key="skills.always", meant=nearest_name(name, found))
    return list(found.values())


def _speaks_of(skill: Skill, sought: Sequence[set[str]]) -> bool:
    return bool(sought) and all(forms & _words(skill.description) for forms in sought)


def _sought(group: str) -> list[set[str]]:
    """The words of a group's name to look for, each in its forms; small words only if there are no others."""
    terms = WORD.findall(group)
    telling = [word for word in terms if CODE.fullmatch(word) or word.lower() not in SMALL_WORDS]
    return [_forms(word) for word in telling or terms]


@cache
def _words(description: str) -> set[str]:
    return {form for word in WORD.findall(description) for form in _forms(word)}


def _forms(word: str) -> set[str]:
    """A word without case and accents, and what it may be the plural of; a code as it is."""
    if CODE.fullmatch(word):
        return {word}
    letters = unicodedata.normalize("NFKD", word.casefold())
    plain = "".join(letter for letter in letters if not unicodedata.combining(letter))
    forms = {plain}
    if len(plain) > 3 and plain.endswith("s") and not plain.endswith("ss"):
        forms.add(plain[:-1])
    if len(plain) > 4 and plain.endswith("es"):
        forms.add(plain[:-2])
    if len(plain) > 4 and plain.endswith("ies"):
        forms.add(plain[:-3] + "y")
    return forms


def _skill_files(folder: Path) -> list[Path]:
    """The SKILL.md files of a folder of skills, or of a folder that is itself one, by name."""
    if (folder / SKILL_FILE).is_file():
        return [folder / SKILL_FILE]
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise UserMistake("is a file; skills are in folders", file=folder, key="skills.folders")
    inside = sorted(each for each in folder.iterdir() if each.is_dir() and each.name[0] not in "._")
    for each in inside:
        if SKILL_FILE not in (names := [file.name for file in each.iterdir()]):
            what = f"no {SKILL_FILE} here; a skill is a folder with one"
            raise UserMistake(what, file=each, meant=next((n for n in names if n.lower() == SKILL_FILE.lower()), None))
    return [each / SKILL_FILE for each in inside]


def _read(file: Path) -> Skill:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserMistake(f"not UTF-8: {error}", file=file) from None
    if not lines or lines[0].rstrip() != FENCE:
        raise UserMistake(f"a skill begins with a line {FENCE}, then its name and description", file=file, line=1)
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == FENCE), None)
    if end is None:
        raise UserMistake(f"no second line {FENCE}: where does the description end?", file=file, line=len(lines))
    # The first fence stays as an empty line, so that YAML counts lines as the file does.
    front = _frontmatter("\n".join(["", *lines[1:end]]), file)
    body = "\n".join(lines[end + 1 :]).strip()
    if not body:
        raise UserMistake("nothing below the second ---: this skill teaches nothing", file=file, line=end + 1)
    return Skill(front.name, front.description, body, file)


def _frontmatter(text: str, file: Path) -> Frontmatter:
    try:
        node = yaml.compose(text, Loader=yaml.BaseLoader)
        # BaseLoader: every value is the text that stands there; `name: on` is no boolean.
        values = yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = f"not YAML: {getattr(error, 'problem', None) or error}; quote a value that holds a colon"
        raise UserMistake(what, file=file, line=mark.line + 1 if mark else None) from None
    if not isinstance(node, yaml.MappingNode) or not isinstance(values, dict):
        raise UserMistake("between the --- lines stand keys and values", file=file, line=2)
    lines: dict[str, int] = {}
    for key, _ in node.value:
        if key.value in lines:
            raise UserMistake("this key stands twice", file=file, line=key.start_mark.line + 1, key=key.value)
        lines[key.value] = key.start_mark.line + 1
    try:
        front = Frontmatter.model_validate(values)
    except ValidationError as error:
        raise _first_mistake(error, file, lines) from None
    if front.name != (folder := file.resolve().parent.name):
        what = f"{front.name!r} is not its folder's name, {folder!r}"
        raise UserMistake(what, file=file, line=lines["name"], key="name")
    return front


def _first_mistake(error: ValidationError, file: Path, lines: dict[str, int]) -> UserMistake:
    # A misspelt key is two mistakes, and the one that was made says more than the one that is missed.
    first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
    key, line = str(first["loc"][0]), lines.get(str(first["loc"][0]))
    if first["type"] == "extra_forbidden":
        what = f"unknown key; legal here: {', '.join(KEYS)}"
        return UserMistake(what, file=file, line=line, key=key, meant=nearest_name(key, KEYS))
    if first["type"] == "missing":
        return UserMistake("this key is required", file=file, line=1, key=key)
    if first["type"] == "string_pattern_mismatch":
        what = "a skill's name is of a-z, 0-9 and single hyphens, like its folder's"
        return UserMistake(what, file=file, line=line, key=key)
    return UserMistake(str(first["msg"]), file=file, line=line, key=key)
