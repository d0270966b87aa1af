"""What the agent answers about a company, and what this job checks about it."""

from typing import Literal

import pycountry
from pydantic import BaseModel, Field

CODES = frozenset(country.alpha_2 for country in pycountry.countries)

Sector = Literal[
    "Communication Services",
    "Consumer Discretionary",
    "Consumer Staples",
    "Energy",
    "Financials",
    "Health Care",
    "Industrials",
    "Information Technology",
    "Materials",
    "Real Estate",
    "Utilities",
]


class Answer(BaseModel):
    """A company's domicile and sector, with the evidence."""

    country: str = Field(description="ISO 3166-1 alpha-2 code of the country of domicile.")
    country_evidence: str = Field(description="Copied word for word from the country authority's country_evidence.")
    register_id: str = Field(pattern=r"^R-[0-9]{6}$", description="The company's number in the register.")
    sector: Sector = Field(description="What the company does.")
    confidence: float = Field(ge=0, le=1, description="How sure you are, from 0 to 1.")


def check_country_is_a_code(answer: Answer, row: dict[str, object]) -> str | None:
    """The API's schema cannot say it: 249 codes are too many for an enum."""
    if answer.country not in CODES:
        return f"country: {answer.country!r} is not an ISO 3166-1 alpha-2 code"
    return None


def check_country_agrees_with_the_isins(answer: Answer, row: dict[str, object]) -> str | None:
    """When all ISINs say one country, the answer must say it too."""
    prefixes = {isin[:2] for isin in str(row["isins"] or "").split("; ") if isin[:2] in CODES}
    if len(prefixes) == 1 and answer.country not in prefixes:
        return f"country: you say {answer.country}, but every ISIN begins with {prefixes.pop()}; the ISIN decides"
    return None


def check_evidence_names_the_country(answer: Answer, row: dict[str, object]) -> str | None:
    """Evidence for another country is none."""
    country = pycountry.countries.get(alpha_2=answer.country)
    if country is not None and country.name not in answer.country_evidence:
        return f"country_evidence: it does not speak of {country.name}, which you answer; quote a sentence that does"
    return None
