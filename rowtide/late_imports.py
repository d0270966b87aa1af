"""Import what takes long when it is first used: who never uses it never waits for it.

After `import_late("anthropic")`, `import anthropic` gives the module at once, and its first attribute loads it. To
import a name from it (`from anthropic import X`) loads it then and there. `importlib.util.LazyLoader` does the same,
but until Python 3.12.3 it hands a second thread a module that is half loaded.
"""

import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

STATE = "__late__"


def import_late(*names: str) -> None:
    """Have these modules loaded when they are first used. What is imported already, or not installed, stays so."""
    _finder.names.update(names)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


class _LateFinder(MetaPathFinder):
    """Finds each of its modules as the others do, once, and puts off loading it."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.names:
            return None
        self.names.discard(fullname)  # now it is for the others to find
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _LateLoader(spec.loader)
        return spec


class _LateLoader(Loader):
    """Leaves a module empty until something of it is asked for."""

    def __init__(self, loader: Loader) -> None:
        self._loader, self._lock, self._is_at_it = loader, threading.RLock(), False

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        vars(module).pop("__path__", None)  # so that the import of a part asks for it, and loads the whole first
        vars(module)[STATE] = self
        module.__class__ = LateModule

    def load(self, module: ModuleType) -> None:
        """Load the module, once; a second thread waits for the first, and a module that loads itself goes on."""
        with self._lock:
            if self._is_at_it or type(module) is ModuleType:
                return
            spec = module.__spec__
            assert spec is not None
            spec.loader = module.__loader__ = self._loader
            if spec.submodule_search_locations is not None:
                module.__path__ = spec.submodule_search_locations
            self._is_at_it = True
            try:
                self._loader.exec_module(module)
                module.__class__ = ModuleType
            finally:
                self._is_at_it = False


class LateModule(ModuleType):
    """A module before it is loaded. What it lacks is asked for here."""

    def __getattr__(self, name: str) -> object:
        vars(self)[STATE].load(self)
        return ModuleType.__getattribute__(self, name)


_finder = _LateFinder()
