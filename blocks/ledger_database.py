"""Where the ledger is, and where files wait on their way."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from rowtide.ledger import Ledger, ledger_url
from rowtide.work import Work, open_work


class LedgerDatabase(Block):
    """The database that never forgets where each row is."""

    _block_type_name = "Rowtide Ledger"
    _block_type_slug = "rowtide-ledger"
    _description = "The database that never forgets where each row is, and the folder beside it."

    url: SecretStr | None = Field(
        default=None, description="SQLAlchemy URL; by default a SQLite file in the folder below."
    )
    home: Path = Field(
        default=Path(".rowtide"), description="Folder for the ledger file, spooled bodies, results and reports."
    )

    @classmethod
    def from_environment(cls) -> "LedgerDatabase":
        """As ROWTIDE_LEDGER and ROWTIDE_HOME say."""
        url = os.environ.get("ROWTIDE_LEDGER")
        home = Path(os.environ.get("ROWTIDE_HOME", ".rowtide")).resolve()
        return cls(url=SecretStr(url) if url else None, home=home)

    @contextmanager
    def get_ledger(self) -> Generator[Ledger]:
        """The ledger, open and migrated, for the length of the block."""
        ledger = Ledger(ledger_url(self.url.get_secret_value() if self.url else None, self.home))
        try:
            yield ledger
        finally:
            ledger.close()

    @contextmanager
    def get_work(self, run_id: str) -> Generator[Work]:
        """A run of this ledger, opened for work."""
        with self.get_ledger() as ledger:
            yield open_work(ledger, self.home, run_id)
