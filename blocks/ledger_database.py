"""The block of the ledger's database and its home folder."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from prefect.blocks.core import Block
from pydantic import Field, HttpUrl, SecretStr

from configuration.ledger_settings import LedgerSettings
from rowtide.ledger.ledger import Ledger

SLUG = "rowtide-ledger"


class LedgerDatabase(Block):
    """The database that never forgets where each row is.

    Example:
        Load the block and open the ledger:
        ```python
        from blocks.ledger_database import LedgerDatabase

        database = LedgerDatabase.load("BLOCK_NAME")
        database.get_ledger()
        ```
    """

    _block_type_name = "Rowtide Ledger"
    _block_type_slug = SLUG
    _description = "The database that never forgets where each row is, and the folder beside it."
    _documentation_url = HttpUrl("https://docs.sqlalchemy.org/en/20/core/engines.html#database-urls")

    url: SecretStr | None = Field(
        default=None, description="SQLAlchemy URL; by default a SQLite file in the folder below."
    )
    home: Path = Field(
        default=Path(".rowtide"), description="Folder for the ledger file, spooled bodies, results and reports."
    )

    def get_settings(self) -> LedgerSettings:
        """Return the settings for the stages."""
        return LedgerSettings(self.url.get_secret_value() if self.url else None, self.home)

    @contextmanager
    def get_ledger(self) -> Generator[Ledger]:
        """The ledger, open and migrated, for the length of the block."""
        with self.get_settings().get_ledger() as ledger:
            yield ledger
