"""The rows that are measured, written once for each size."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

TOPICS = ("the invoice shows a charge twice", "the parcel came late", "the manual is missing, colour wrong")
REGIONS = 50


def source(place: Path, kind: str, rows: int) -> Path:
    """A CSV file of so many rows of a kind."""
    file = place / f"{kind}-{rows}.csv"
    if not file.exists():
        header, row = KINDS[kind]
        with file.open("w", newline="") as out:
            table = csv.writer(out)
            table.writerow(header)
            table.writerows(row(n) for n in range(rows))
    return file


def rows_of(file: Path) -> Iterator[dict[str, str]]:
    """The rows of such a file."""
    with file.open(newline="") as rows:
        yield from csv.DictReader(rows)


def _message(n: int) -> list[object]:
    """About 200 bytes."""
    words = f"Hello, this is about order {n}: {TOPICS[n % 3]}. " + "Please look into it soon. " * 4
    return [f"c-{n}", f"Customer {n % 977}", words]


KINDS: dict[str, tuple[list[str], Callable[[int], list[object]]]] = {
    "messages": (["id", "customer", "message"], _message),
    "orders": (["id", "order_number"], lambda n: [f"r{n}", n]),
    "parcels": (["id", "parcel", "region_code"], lambda n: [f"p{n}", f"parcel {n}", f"R{n % REGIONS:02}"]),
    "visits": (["id", "parcel", "region_code"], lambda n: [f"v{n}", f"parcel {n}", f"R{n:07}"]),
}
"""Of parcels, thousands ask the same of a tool; of visits, each asks something else."""
