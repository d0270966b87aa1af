"""What is imported late is the same module as ever, loaded when something of it is first used, and once."""

import importlib
import sys
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from rowtide.late_imports import import_late

Write = Callable[[str, str], str]


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Write]:
    """Writes a module of this test's own, to be imported late. Gives its name."""
    monkeypatch.syspath_prepend(tmp_path)
    before = [*sys.meta_path]

    def write(file: str, text: str) -> str:
        name = f"{tmp_path.name}_{Path(file).parts[0].removesuffix('.py')}"
        place = tmp_path / name / Path(*Path(file).parts[1:]) if "/" in file else tmp_path / f"{name}.py"
        place.parent.mkdir(exist_ok=True)
        place.write_text(text)
        importlib.invalidate_caches()
        return name

    yield write
    sys.meta_path[:] = before


def imported_late(name: str) -> ModuleType:
    import_late(name)
    return importlib.import_module(name)


def test_a_module_is_loaded_by_its_first_attribute_and_once(late: Write, capsys: pytest.CaptureFixture[str]) -> None:
    module = imported_late(late("one.py", "print('loaded')\nanswer = 42"))
    assert capsys.readouterr().out == ""
    assert (module.answer, module.answer) == (42, 42)
    assert capsys.readouterr().out == "loaded\n"
    assert type(module) is ModuleType


def test_to_ask_for_it_twice_is_to_ask_for_it_once(late: Write) -> None:
    name = late("one.py", "answer = 42")
    import_late(name)
    assert imported_late(name).answer == 42


def test_a_name_it_does_not_have_is_missing_as_ever(late: Write) -> None:
    module = imported_late(late("one.py", "answer = 42"))
    with pytest.raises(AttributeError, match="has no attribute 'question'"):
        _ = module.question
    assert not hasattr(module, "question")


def test_a_module_that_makes_its_names_up_makes_them_up(late: Write) -> None:
    module = imported_late(late("one.py", "def __getattr__(name):\n    return name.upper()"))
    assert (module.first, module.second) == ("FIRST", "SECOND")


def test_to_import_a_part_of_a_package_loads_the_package_first(late: Write) -> None:
    name = late("pack/__init__.py", "ready = True")
    late("pack/part.py", f"import {name}\nseen = {name}.ready")
    imported_late(name)
    assert importlib.import_module(f"{name}.part").seen


def test_a_second_thread_waits_until_the_first_has_loaded_it(late: Write) -> None:
    """Else it would find a module without half of its names."""
    text = "import threading\nfirst = 1\nbegun.set()\nassert may_end.wait(60)\nlast = 2"
    module = imported_late(late("one.py", text))
    begun, may_end = threading.Event(), threading.Event()
    vars(module).update(begun=begun, may_end=may_end)
    with ThreadPoolExecutor() as threads:
        ones = threads.submit(lambda: module.first)
        assert begun.wait(60)
        twos = threads.submit(lambda: module.last)
        may_end.set()
        assert (ones.result(), twos.result()) == (1, 2)


def test_what_could_not_be_loaded_says_so_each_time_and_can_be_tried_again(late: Write) -> None:
    module = imported_late(late("one.py", "answer = 1 / divisor"))
    vars(module)["divisor"] = 0
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            _ = module.answer
    vars(module)["divisor"] = 2
    assert module.answer == 0.5


def test_what_is_not_installed_is_missed_where_it_is_imported() -> None:
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        imported_late("not_installed_anywhere")


def test_what_is_imported_already_stays_as_it_is(late: Write) -> None:
    module = importlib.import_module(name := late("one.py", "answer = 42"))
    import_late(name)
    assert importlib.import_module(name) is module
