"""`rowtide --install-completion`: let the shell complete commands, options, jobs and runs."""

from typing import Literal

from cli.main import app
from cli.output import out


def install_completion(*, shell: Literal["bash", "zsh", "fish"] | None = None) -> int:
    """Write a completion script where the shell looks for it, and have it loaded when a shell starts.

    Parameters
    ----------
    shell
        By default the one you use.
    """
    file = app.install_completion(shell=shell)
    out.print(f"{file}: new shells complete `rowtide` on TAB")
    return 0
