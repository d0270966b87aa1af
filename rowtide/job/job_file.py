"""Read `job.yaml` strictly: a mistake names the file, the line, the key and the nearest legal name."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from rowtide.errors import UserMistake, nearest_name
from rowtide.job.evals_spec import COMPARERS
from rowtide.job.job_spec import JobSpec
from rowtide.job.yaml_file import explain_yaml_coercion, find_node, read_yaml

JOB_FILE = "job.yaml"
COMPARED = ("evals", "fields")  # below it stands a mapping for each field, whose `compare` says what is legal in it


def read_spec(folder: Path) -> JobSpec:
    """Read `folder/job.yaml`. Raises UserMistake naming file, line, key and the nearest legal name."""
    file = folder / JOB_FILE
    if not file.is_file():
        raise UserMistake("no such file; a job is a folder with a job.yaml", file=file)
    values, node = read_yaml(file)
    if not isinstance(values, dict) or node is None:
        raise UserMistake("a job is a mapping of keys to values", file=file)
    try:
        spec = JobSpec.model_validate({"job": folder.resolve().name, **values})
    except ValidationError as error:
        raise _first_mistake(error, file, node) from None
    return spec


def line_of_key(folder: Path, *path: str | int) -> int | None:
    """Return the line, from 1, of a key in `folder/job.yaml`, or of its nearest parent there; None for an
    empty file.
    """
    _, node = read_yaml(folder / JOB_FILE)
    return find_node(node, list(path))[1] if node else None


def _first_mistake(error: ValidationError, file: Path, node: yaml.Node) -> UserMistake:
    first = error.errors()[0]
    places = [part for part in first["loc"] if not _is_union_branch(part)]
    path = [part for place, part in enumerate(places) if not _is_tag(places, place)]
    key = ".".join(str(part) for part in path)
    found, line = find_node(node, path)
    if first["type"] == "extra_forbidden":
        legal = _legal_keys(JobSpec, places[:-1])
        meant = nearest_name(str(path[-1]), legal)
        return UserMistake(f"unknown key; legal here: {', '.join(legal)}", file=file, line=line, key=key, meant=meant)
    if first["type"] == "union_tag_invalid":
        tag = str(first.get("ctx", {}).get("tag"))
        meant = nearest_name(tag, COMPARERS)
        what = f"{tag!r} is no comparer; comparers: {', '.join(COMPARERS)}"
        return UserMistake(what, file=file, line=line, key=key, meant=meant)
    if first["type"] == "missing":
        return UserMistake("this key is required", file=file, line=line, key=key)
    what = f"{first['msg']} (got {_short(first['input'])}){explain_yaml_coercion(found, first['input'])}"
    return UserMistake(what, file=file, line=line, key=key)


def _is_union_branch(part: Any) -> bool:
    return isinstance(part, str) and (part in {"str"} or part.startswith(("list[", "function-")))


def _is_tag(places: list[Any], place: int) -> bool:
    """Whether a part of a place is not written there: which comparer's keys are legal, which `compare` says."""
    return place == len(COMPARED) + 1 and tuple(places[: len(COMPARED)]) == COMPARED


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _legal_keys(model: type[BaseModel], path: list[Any]) -> list[str]:
    """The keys legal in the mapping at `path`."""
    for place, part in enumerate(path):
        if _is_tag(path, place):
            model = COMPARERS[part]
        elif isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return sorted(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The spec model inside an annotation such as dict[str, ToolServerSpec]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in getattr(annotation, "__args__", ()) if (found := _model_in(arg))), None)
