"""Stub tools: a YAML file of names, schemas and canned answers, until somebody writes real ones.

The first answer whose `when` holds is the answer. No process is started.
"""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from rowtide.errors import UserMistake, nearest_name
from rowtide.job.yaml_file import read_yaml
from rowtide.json_bytes import dump_json
from rowtide.tools.tool_rules import Listed

Read = TypeVar("Read", bound=BaseModel)


class StrictModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CannedAnswer(StrictModel):
    when: dict[str, Any] = {}
    """The arguments this answers, each by its value; without any, every call."""
    say: Any
    """Text, or anything else, which is said as JSON."""
    is_error: bool = False


class StubTool(StrictModel):
    name: str
    description: str = ""
    input_schema: dict[str, Any] = {"type": "object"}
    read_only: bool = True
    """What the real tool would say of itself."""
    answers: list[CannedAnswer] = []


class Stub(StrictModel):
    tools: list[StubTool]

    def listed(self) -> dict[str, Listed]:
        return {
            tool.name: Listed(tool.name, tool.description or tool.name, tool.input_schema, tool.read_only)
            for tool in self.tools
        }

    def answer(self, name: str, arguments: dict[str, object]) -> tuple[str, bool]:
        """The canned answer to a call: (text, whether it is an error)."""
        tool = next(tool for tool in self.tools if tool.name == name)
        for canned in tool.answers:
            if all(key in arguments and arguments[key] == value for key, value in canned.when.items()):
                text = canned.say if isinstance(canned.say, str) else dump_json(canned.say, default=str).decode()
                return text, canned.is_error
        return f"The stub of {name} has no answer for {dump_json(arguments).decode()}.", True


def load_stub(file: Path) -> Stub:
    """Read a stub. Raises UserMistake naming the file, the key and the nearest legal name."""
    return read_strictly(file, Stub)


def read_strictly(file: Path, model: type[Read]) -> Read:
    """Read a YAML (or JSON) file into a model. Raises UserMistake naming file, key and nearest legal name."""
    if not file.is_file():
        raise UserMistake("no such file", file=file)
    values, _ = read_yaml(file)
    return validate_strictly(values, model, file)


def validate_strictly(values: object, model: type[Read], file: Path | str) -> Read:
    """Return what a file holds as a Pydantic model. Raises UserMistake for the first fault, with file and key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        raise UserMistake("unknown key", file=file, key=key, meant=nearest_name(str(first["loc"][-1]), _keys(model)))
    what = "this key is required" if first["type"] == "missing" else first["msg"]
    raise UserMistake(what, file=file, key=key or None)


def _keys(annotation: Any) -> set[str]:
    """Every key that is legal somewhere in a model."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields
        return set(fields).union(*(_keys(field.annotation) for field in fields.values()))
    return set[str]().union(*(_keys(each) for each in getattr(annotation, "__args__", ())))
