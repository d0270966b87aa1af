"""The folder of a version that is to be compared: a copy of a job's, with what the candidate changes.

A copy, because the job's own folder may change while the eval runs, and because a run is resumed with the folder it
began with. Copied is what a version is made of: words, code and settings. All else (the source, golden rows, what tools
read) is linked to, and so is what `job.yaml` names outside of the folder.
"""

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copyfile, copytree
from typing import Any

import yaml

from rowtide.errors import UserMistake
from rowtide.job.job_file import JOB_FILE
from rowtide.job.skills import SKILL_FILE
from rowtide.job.yaml_file import read_yaml

WRITTEN = frozenset({".md", ".py", ".toml", ".yaml", ".yml"})  # what people write a version in
GIT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Changes:
    """What a candidate has that the job has not."""

    tiers: tuple[str, ...] = ()
    prompt: Path | None = None
    skills: tuple[Path, ...] = ()
    settings: tuple[str, ...] = ()
    """KEY=VALUE: a key of job.yaml by its path, and YAML."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Files of the folder with other words, by their path in it."""
    name: str = ""
    """What it is called, where no command line says so."""

    @property
    def label(self) -> str:
        """In words of the command line; empty where nothing is changed."""
        if self.name:
            return self.name
        words = [f"--tiers {','.join(self.tiers)}"] if self.tiers else []
        words += [f"--prompt {self.prompt}"] if self.prompt else []
        words += [f"--skill {each}" for each in self.skills]
        return " ".join([*words, *(f"--set {each}" for each in self.settings)])


def write_arm(folder: Path, into: Path, changes: Changes = Changes(), revision: str | None = None) -> Path:
    """Write the version of the job in `folder` below `into`; of a git revision, where one is named. Returns its folder.

    Raises UserMistake for what cannot be changed so.
    """
    arm = into / "jobs" / folder.name  # `..` of it, and `../..`, are the eval's own
    arm.mkdir(parents=True)
    if revision is None:
        _copy(folder, arm)
    else:
        _check_out(folder, arm, revision)
    values, _ = read_yaml(arm / JOB_FILE)
    _own_what_is_named(arm, values)
    _link_outside(folder, arm, values)
    _change(arm, values, changes)
    return arm


def revision_of(folder: Path, name: str) -> str | None:
    """The commit that a name means in the repository that holds `folder`; None where it means none."""
    found = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    return found.decode().strip() or None if found is not None else None


def _copy(folder: Path, arm: Path) -> None:
    for place, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if each[0] != "." and each != "__pycache__"]
        into = arm / Path(place).relative_to(folder)
        for each in list(folders):
            if (Path(place) / each).is_symlink():
                (into / each).symlink_to((Path(place) / each).resolve())
                folders.remove(each)
            else:
                (into / each).mkdir()
        for each in files:
            if each[0] != ".":
                _take(Path(place) / each, into / each)


def _take(file: Path, into: Path) -> None:
    if file.suffix in WRITTEN and file.is_file():
        copyfile(file, into)
    else:
        into.symlink_to(file.resolve())


def _own_what_is_named(arm: Path, values: Mapping[str, Any]) -> None:
    """What job.yaml names inside of the folder is part of the version too, such as a server's program; not its source,
    and not what is written to."""
    for text in _texts({key: value for key, value in values.items() if key not in ("source", "sink")}):
        file = arm / text
        if file.is_symlink() and file.is_file() and arm in file.parents:
            there = file.resolve()
            file.unlink()
            copyfile(there, file)


def _check_out(folder: Path, arm: Path, revision: str) -> None:
    """The folder as a revision has it; what git is told to ignore, such as data, as it is now."""
    packed = _git(folder, "archive", "--format=tar", revision, ".")
    if packed is None:
        raise UserMistake(f"git cannot give this folder as it was at {revision}", file=folder, key="--against")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member in archive:
            if not _link_unchanged(archive, member, folder, arm):
                archive.extract(member, arm, filter="data")
    if not (arm / JOB_FILE).is_file():
        raise UserMistake(f"there is no {JOB_FILE} in this folder at {revision}", file=folder, key="--against")
    ignored = _git(folder, "ls-files", "-z", "--others", "--ignored", "--exclude-standard", ".") or b""
    for name in filter(None, os.fsdecode(ignored).split("\0")):
        into = arm / name
        if "__pycache__" not in into.parts and not into.exists() and not into.is_symlink():
            into.parent.mkdir(parents=True, exist_ok=True)
            _take(folder / name, into)


def _link_unchanged(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, arm: Path) -> bool:
    """Link to a file of data that is as it was at the revision. Returns whether it is one."""
    now, packed = folder / member.name, archive.extractfile(member) if member.isreg() else None
    if packed is None or now.suffix in WRITTEN or not now.is_file() or now.stat().st_size != member.size:
        return False
    if now.read_bytes() != packed.read():
        return False
    (arm / member.name).parent.mkdir(parents=True, exist_ok=True)
    (arm / member.name).symlink_to(now.resolve())
    return True


def _git(folder: Path, *words: str) -> bytes | None:
    """What git prints; None where it fails, or is not there."""
    try:
        done = subprocess.run(["git", "-C", folder, *words], capture_output=True, timeout=GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _link_outside(folder: Path, arm: Path, values: object) -> None:
    """What job.yaml names above its folder, at the same place above the copy."""
    named = [text for text in _texts(values) if text.startswith("..")]
    named += [f"{up}/{each}" for up in ("..", "../..") for each in _texts(_at(values, "registry", "registry.yaml"))]
    for text in dict.fromkeys(named):
        there, here = Path(os.path.normpath(folder / text)), Path(os.path.normpath(arm / text))
        is_above = here.is_relative_to(arm.parent.parent) and here not in (arm.parent, arm.parent.parent)
        if there.exists() and is_above and not here.exists():
            here.parent.mkdir(parents=True, exist_ok=True)
            here.symlink_to(there)


def _at(values: object, key: str, default: str) -> object:
    return values.get(key, default) if isinstance(values, Mapping) else default


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _change(arm: Path, values: dict[str, Any], changes: Changes) -> None:
    if changes.prompt is not None:
        if not changes.prompt.is_file():
            raise UserMistake("no such file", file=changes.prompt, key="--prompt")
        copyfile(changes.prompt, arm / values.get("prompt", "prompt.md"))
    for name, text in changes.files.items():
        (arm / name).write_text(text, encoding="utf-8")
    for skill in changes.skills:
        _add_skill(arm, values, skill)
    for each in changes.settings:
        _set(values, each)
    if changes.tiers:
        values["tiers"] = list(changes.tiers)
    if changes.settings or changes.tiers:
        (arm / JOB_FILE).write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _add_skill(arm: Path, values: dict[str, Any], skill: Path) -> None:
    """A skill of the candidate's; it takes the place of one that is called so."""
    if not (skill / SKILL_FILE).is_file():
        raise UserMistake(f"a skill is a folder with a {SKILL_FILE}", file=skill, key="--skill")
    folders = (values.get("skills") or {}).get("folders") or ["skills"]
    into = arm / folders[0] / skill.resolve().name
    into.mkdir(parents=True, exist_ok=True)
    copytree(skill, into, dirs_exist_ok=True)


def _set(values: dict[str, Any], setting: str) -> None:
    path, is_set, text = setting.partition("=")
    if not is_set or not all(names := path.split(".")):
        raise UserMistake(f"{setting!r} is not KEY=VALUE, such as limits.turns=4", key="--set")
    if names[0] == "evals":
        raise UserMistake("what a version is measured by is the job's to say, not the candidate's", key="--set evals")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserMistake(f"{text!r} is not YAML: {' '.join(str(error).split())}", key=f"--set {path}") from None
    here: Any = values
    for name in names[:-1]:
        here = here[int(name)] if isinstance(here, list) and _is_place(here, name) else _below(here, name, path)
    if isinstance(here, list) and _is_place(here, names[-1]):
        here[int(names[-1])] = value
    elif isinstance(here, dict):
        here[names[-1]] = value
    else:
        raise UserMistake("is in no mapping of job.yaml", key=f"--set {path}")


def _is_place(values: list[Any], name: str) -> bool:
    return name.isdecimal() and int(name) < len(values)


def _below(here: Any, name: str, path: str) -> Any:
    if not isinstance(here, dict):
        raise UserMistake("is in no mapping of job.yaml", key=f"--set {path}")
    if here.get(name) is None:
        here[name] = {}
    return here[name]
