"""A country authority: an MCP server over stdio. Says which country an ISIN or a place belongs to, and why."""

import re
from functools import cache
from typing import Annotated

import pycountry
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

READ_ONLY = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
ISIN = re.compile(r"[A-Z]{2}[A-Z0-9]{9}[0-9]")
ALSO_CALLED = {
    "uk": "GB",
    "u k": "GB",
    "great britain": "GB",
    "england": "GB",
    "scotland": "GB",
    "wales": "GB",
    "northern ireland": "GB",
    "us": "US",
    "u s": "US",
    "usa": "US",
    "u s a": "US",
    "united states of america": "US",
    "russia": "RU",
    "south korea": "KR",
    "taiwan": "TW",
    "turkey": "TR",
    "the netherlands": "NL",
    "holland": "NL",
    "republic of ireland": "IE",
    "washington d c": "US",
    "new york city": "US",
}
# Subdivisions are only told apart by name where one country's use is by far the commonest in company addresses.
SUBDIVISIONS_OF = ("US", "CA", "DE", "AU")

PLACE = "A place as it was found: the headquarters, or the country when there are none."

server = MCPServer("countries")


class Country(BaseModel):
    """A country, and the words that say so."""

    country: str = Field(description="ISO 3166-1 alpha-2 code.")
    country_name: str
    country_evidence: str = Field(description="Why, in a sentence that can be quoted.")


def plain(place: str) -> str:
    return " ".join(re.sub(r"[^\w\s]", " ", place.casefold()).split())


@cache
def places() -> dict[str, str]:
    """Every name this authority knows: name → country code."""
    known: dict[str, str] = {}
    for code in reversed(SUBDIVISIONS_OF):
        known |= {plain(each.name): code for each in pycountry.subdivisions.get(country_code=code)}
    for country in pycountry.countries:
        for name in (country.name, getattr(country, "common_name", ""), getattr(country, "official_name", "")):
            if name:
                known[plain(name)] = country.alpha_2
    # Georgia and Ireland are countries; in an address that ends in them they are taken as written there.
    return known | ALSO_CALLED | {"georgia": "US"}


@server.tool(annotations=READ_ONLY)
def country_of_isin(isin: str) -> Country:
    """Say which country a security is domiciled in, by the prefix of its ISIN."""
    wanted = isin.strip().upper()
    if not ISIN.fullmatch(wanted):
        raise ToolError(f"{isin!r} is not an ISIN: two letters, nine letters or digits, one digit.")
    found = pycountry.countries.get(alpha_2=wanted[:2])
    if found is None:
        raise ToolError(f"{wanted[:2]} is not a country: {wanted} is an international security. Use a place instead.")
    return Country(
        country=found.alpha_2,
        country_name=found.name,
        country_evidence=f"ISIN {wanted} begins with {found.alpha_2}, {found.name}.",
    )


@server.tool(annotations=READ_ONLY)
def country_of_place(place: Annotated[str, Field(description=PLACE)]) -> Country:
    """Say which country a place is in: a headquarters, a city with its state, a state, or a country's name."""
    parts = [plain(part) for part in reversed(re.split(r"[,;/(){}\[\]]", place))]
    known = next((part for part in parts if part in places()), None)
    if known is None:
        raise ToolError(f"No country is known for {place!r}. Give a city with its state, or a country.")
    found = pycountry.countries.get(alpha_2=places()[known])
    return Country(
        country=found.alpha_2,
        country_name=found.name,
        country_evidence=f"{place.strip()!r} names {known.title()}, which is in {found.name}.",
    )


if __name__ == "__main__":
    server.run()
