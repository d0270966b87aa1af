"""A company register: an MCP server over stdio. Finds a company by name, however it is written."""

import json
import re
from pathlib import Path

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field
from rapidfuzz import fuzz, process

RECORDS = Path(__file__).parent.parent / "data" / "register.jsonl"
LEGAL_FORMS = re.compile(r"\b(inc|corp|corporation|co|company|ltd|limited|plc|ag|se|sa|nv|group|holdings?|the)\b\.?")
CLOSE_ENOUGH = 80  # of 100

server = MCPServer("register")


class Company(BaseModel):
    """One entry of the register."""

    register_id: str = Field(description="The entry's number.")
    registered_name: str
    match: int = Field(description="How alike the names are, 0 to 100.")
    isin: str | None = Field(description="The ISIN of its main listing, if the register has one.")
    registered_office: str
    activities: list[str]
    products: str
    legal_form: str


def plain(name: str) -> str:
    return " ".join(LEGAL_FORMS.sub(" ", re.sub(r"[^\w\s]", " ", name.casefold())).split())


ENTRIES = [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines()]
NAMES = [plain(entry["registered_name"]) for entry in ENTRIES]
BY_NAME = {name: number for number, name in reversed(list(enumerate(NAMES)))}


@server.tool(annotations=ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False))
def find_company(company: str) -> Company:
    """Find a company in the register by its name. Gives its register_id, ISIN, registered office and activities."""
    wanted = plain(company)
    number, match = BY_NAME.get(wanted), 100
    if number is None:
        found = process.extractOne(wanted, NAMES, scorer=fuzz.token_sort_ratio, score_cutoff=CLOSE_ENOUGH)
        if found is None:
            raise ToolError(f"The register has no company called {company!r}. Try a shorter or more usual name.")
        _, score, number = found
        match = round(score)
    entry = ENTRIES[number]
    return Company(
        register_id=entry["register_id"],
        registered_name=entry["registered_name"],
        match=match,
        isin=entry["isins"][0] if entry["isins"] else None,
        registered_office=entry["registered_office"],
        activities=entry["activities"],
        products=entry["products"],
        legal_form=entry["legal_form"],
    )


if __name__ == "__main__":
    server.run()
