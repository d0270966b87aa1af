"""Optional packages (extras): import them, or say which extra to install."""

from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module

from rowtide.errors import UserMistake


@contextmanager
def extra(name: str) -> Generator[None]:
    """Guard a block that imports what an extra brings. Raises UserMistake that names the extra."""
    try:
        yield
    except ImportError as missing:
        package = (missing.name or str(missing)).partition(".")[0]
        words = f"the package {package} is not here; it comes with: pip install 'rowtide[{name}]'"
        raise UserMistake(words) from None


def need(name: str, module: str) -> None:
    """Raise UserMistake, naming the extra, unless the module can be imported."""
    with extra(name):
        import_module(module)
