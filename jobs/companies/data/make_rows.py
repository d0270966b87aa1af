"""Make this folder's data from the package `pytickersymbols` (see SOURCE.md): `python make_rows.py`.

`companies.csv` is what the job reads: the companies as found. `register.jsonl` is what its register knows: the same
companies from their metadata, without the country column and without sector names. `../golden.jsonl` holds the rows
whose right answer is known from sources that agree.
"""

import csv
import json
import re
from collections import Counter
from pathlib import Path

import pycountry
from pytickersymbols import PyTickerSymbols

HERE = Path(__file__).parent
COLUMNS = ["company_id", "name", "country", "headquarters", "industries", "isins"]
SECTORS = [
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
NOT_ACTIVITIES = {name.lower() for name in SECTORS} | {"technology", "healthcare", "basic materials", "services"}
NAMES = {"U.S.": "US", "US": "US", "United States": "US", "UK": "GB", "England": "GB", "Scotland": "GB"}


def main() -> None:
    companies = list(PyTickerSymbols().get_all_stocks())
    rows = [row_of(company, number, ids(companies)) for number, company in enumerate(companies)]
    with (HERE / "companies.csv").open("w", newline="", encoding="utf-8") as out:
        table = csv.DictWriter(out, COLUMNS)
        table.writeheader()
        table.writerows(rows)
    with (HERE / "register.jsonl").open("w", encoding="utf-8") as out:
        for number, company in enumerate(companies, 1):
            out.write(json.dumps(record_of(company, number), ensure_ascii=False) + "\n")
    with (HERE.parent / "golden.jsonl").open("w", encoding="utf-8") as out:
        for case in golden(rows):
            out.write(json.dumps(case, ensure_ascii=False) + "\n")


def ids(companies: list[dict]) -> list[str]:
    """The ticker symbol; where there is none, or two companies share it, the name."""
    symbols = Counter(company.get("symbol") for company in companies)
    return [
        company["symbol"]
        if company.get("symbol") and symbols[company["symbol"]] == 1
        else re.sub(r"[^A-Z0-9]+", "-", company["name"].upper()).strip("-") + f"-{number}"
        for number, company in enumerate(companies, 1)
    ]


def row_of(company: dict, number: int, names: list[str]) -> dict[str, str]:
    return {
        "company_id": names[number],
        "name": company["name"],
        "country": company.get("country") or "",
        "headquarters": (company.get("metadata") or {}).get("headquarters", ""),
        "industries": "; ".join(company.get("industries") or []),
        "isins": "; ".join(company.get("isins") or []),
    }


def record_of(company: dict, number: int) -> dict[str, object]:
    known = company.get("metadata") or {}
    activities = [each for each in company.get("industries") or [] if each.lower() not in NOT_ACTIVITIES]
    return {
        "register_id": f"R-{number:06d}",
        "registered_name": company["name"],
        "isins": company.get("isins") or [],
        "registered_office": known.get("headquarters", ""),
        "activities": activities,
        "products": known.get("products", ""),
        "founded": known.get("founded", ""),
        "website": known.get("website", ""),
        "legal_form": known.get("company_type", ""),
    }


def golden(rows: list[dict[str, str]]) -> list[dict[str, object]]:
    """Rows of which two independent facts agree on the country, and the list of industries names just one sector."""
    found = []
    for row in rows:
        prefixes = {isin[:2] for isin in row["isins"].split("; ") if isin}
        place = country_in(row["headquarters"])
        named = [sector for sector in SECTORS if sector in row["industries"].split("; ")]
        if len(prefixes) != 1 or place not in prefixes or len(named) != 1:
            continue
        how = f"every ISIN begins with {place}; the headquarters are in {place}; one sector is named: {named[0]}"
        answer = {"country": place, "sector": named[0]}
        found.append({"key": row["company_id"], "answer": answer, "how": how, "by": "rule"})
    return found


def country_in(place: str) -> str | None:
    """The country a place ends in, if its last words name one outright."""
    last = re.sub(r"\(.*?\)|\[.*?\]", "", place).split(",")[-1].strip()
    if last in NAMES:
        return NAMES[last]
    found = pycountry.countries.get(name=last)
    return found.alpha_2 if found else None


if __name__ == "__main__":
    main()
