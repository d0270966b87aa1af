"""Choose a passage of tool output, word for word, that supports the answer."""

from collections.abc import Sequence

from emulator.facts import Fact
from emulator.glossary import Entry
from emulator.reading import Reading
from emulator.words import plain, words

QUOTING = frozenset({"quote", "quoted", "verbatim", "copied", "copy", "evidence", "excerpt", "snippet", "citation"})
LONGEST = 300


def wants_quote(name: str, description: str) -> bool:
    """Return whether a property asks for something copied rather than concluded."""
    return not QUOTING.isdisjoint((*words(name), *words(description)))


def quote_from(reading: Reading, facts: Sequence[Fact], description: str, chosen: Sequence[Entry]) -> str | None:
    """Return the passage that best supports the choice: from tool output if there is some, else from the row."""
    sources = reading.outputs or [reading.row_text]
    passages = [fact for fact in facts if bool(fact.tool) == bool(reading.outputs) and isinstance(fact.value, str)]
    standing = [(fact.name, str(fact.value)) for fact in passages if any(str(fact.value) in each for each in sources)]
    # Prose has no named values: its lines are the passages.
    standing = standing or [("", line.strip()) for source in sources for line in source.splitlines() if line.strip()]
    if not standing:
        return None
    wanted = set(words(description))
    scored = [(_support(name, text, wanted, chosen), -at, text) for at, (name, text) in enumerate(standing)]
    return max(scored)[2][:LONGEST].strip()


def _support(name: str, text: str, wanted: set[str], chosen: Sequence[Entry]) -> float:
    spoken = plain(text)
    support = sum(entry.score(spoken) for entry in chosen)
    named = 1.0 * len(wanted.intersection(words(name)))
    return support + named + min(len(text), LONGEST) / (2 * LONGEST)
