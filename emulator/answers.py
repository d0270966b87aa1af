"""Fill an answer's JSON schema: each property with what is known, else with a plausible value that is reported as made
up.

What comes out conforms to the schema, whatever is known and whatever goes wrong on the way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from emulator.facts import Fact
from emulator.feedback import value_told
from emulator.glossary import Entry, best_of, catch_all, explains, glossary
from emulator.habits import Slip
from emulator.identifiers import fingerprint
from emulator.inventions import REASONS, fits, invented, is_estimate, range_of, within_limit
from emulator.mistakes import Mistake, is_hard
from emulator.quotes import quote_from, wants_quote
from emulator.reading import Reading
from emulator.schemas import Form, Schema, form_of, typed
from emulator.words import as_term, likeness, plain, words

LEAST_LIKENESS = 0.5
# A tool knows better than the row, if it speaks of the same thing.
TRUST_IN_TOOLS = 0.2
# Names of facts that tell what a thing is about: where a choice looks first.
TELLING = {
    "about", "activity", "body", "business", "category", "comment", "content", "description", "industry", "keyword",
    "message", "nature", "note", "product", "review", "sector", "service", "subject", "summary", "tag", "text", "title",
    "topic", "type",
}  # fmt: skip
MISSING: Any = object()
ANYTHING: Schema = {}
ENDLESS = "and so on " * 400
NOTHING_KNOWN: Mapping[str, Any] = {}
MADE_UP = "nothing speaks for a value of {names}: it is made up"
MISFIT = "the answer given for {name}, {value!r:.80}, does not fit the schema: it is not said"


@dataclass(frozen=True, slots=True)
class Filled:
    """An answer, and sentences that say what of it is made up."""

    value: Any
    made_up: Sequence[str] = ()


class Answer:
    """Fills one schema once. `slip` is made at the first occasion; `mistake_made` tells whether there was one.

    `known` are values of properties that somebody told in advance; they go before everything else.
    """

    def __init__(self, reading: Reading, form: Form, slip: Slip | None, known: Mapping[str, Any]) -> None:
        self.reading, self.form, self.slip, self._told = reading, form, slip, known
        self.mistake_made = slip is None or slip.mistake == "skipped_tools"
        self.made_up: list[str] = []
        """The properties for whose value nothing speaks."""
        self.misfits: list[str] = []
        """What was told and cannot be said, in sentences."""
        self._chosen: list[Entry] = []
        self._facts = [*reading.tool_facts, *reading.row_facts]

    def value(self) -> Any:
        return self._fill(self.form.root, "")

    def _fill(self, schema: Schema, name: str) -> Any:
        options, is_nullable = self.form.branches(schema)
        for option in options:
            value = self._known(option, name)
            if value is not MISSING:
                return value
        if is_nullable or not options:
            return None
        return self._unknown(options[0], name)

    def _known(self, schema: Schema, name: str) -> Any:
        """A value for which something speaks, or MISSING."""
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._choose(schema, name)
        match schema["type"]:
            case "object":
                return self._object(schema, NOTHING_KNOWN if name else self._told)
            case "array":
                found = self._array(schema, name)
                return found + found[-1:] * (schema.get("minItems", 0) - len(found)) or MISSING
            case "string":
                return self._string(schema, name)
            case "boolean":
                return self._boolean(schema, name)
            case _:
                return self._number(schema, name)

    def _unknown(self, schema: Schema, name: str) -> Any:
        if schema["type"] == "array" and "enum" not in schema:
            return [self._fill(schema.get("items") or ANYTHING, name) for _ in range(schema.get("minItems", 0))]
        chance = fingerprint(self.reading.row_text, name)
        if "enum" in schema and (settled := self._settled(schema)) is not None:
            return settled
        if not REASONS.intersection(words(name)):
            self.made_up.append(name or "the answer")
        if "enum" in schema:
            values = [value for value in schema["enum"] if value is not None]
            return values[chance % len(values)]
        return invented(schema, name, self._facts, self.reading.row_text, chance)

    def _settled(self, schema: Schema) -> str | None:
        """The value for whatever is left over, where the instructions explain the others."""
        values = tuple(value for value in schema["enum"] if isinstance(value, str))
        told = f"{self.reading.instructions}\n{schema.get('description', '')}"
        return catch_all(values) if explains(values, told) else None

    # Objects and arrays

    def _object(self, schema: Schema, told: Mapping[str, Any] = NOTHING_KNOWN) -> dict[str, Any]:
        properties: Mapping[str, Schema] = schema.get("properties") or {}
        required = schema.get("required") or ()
        # Quotes come last: they support what was chosen.
        order = sorted(properties, key=lambda name: wants_quote(name, str(properties[name].get("description", ""))))
        filled = {name: self._property(properties[name], name, name in required, told) for name in order}
        return {name: filled[name] for name in properties if filled[name] is not MISSING}

    def _property(self, schema: Schema, name: str, is_required: bool, told: Mapping[str, Any]) -> Any:
        if name in told:
            if self.form.allows(schema, told[name]):
                self._chosen += [entry for entry in self._entries(schema) if entry.value == told[name]]
                return told[name]
            self.misfits.append(MISFIT.format(name=name, value=told[name]))
        if is_required:
            return self._fill(schema, name)
        options, _ = self.form.branches(schema)
        return next((value for each in options if (value := self._known(each, name)) is not MISSING), MISSING)

    def _array(self, schema: Schema, name: str) -> list[Any]:
        items, _ = self.form.branches(schema.get("items") or ANYTHING)
        description = str(schema.get("description", ""))
        if not items:
            return []
        item = {"description": description, **items[0]}
        if "enum" in item:
            return self._choose_some(item, name)
        if item["type"] == "object":
            return [self._object(item)]
        if item["type"] == "string" and wants_quote(name, description):
            return [value] if (value := self._string(item, name)) is not MISSING else []
        best = self._best_fact(item, name)
        if best is None:
            return []
        alike = [typed(item, fact.value) for fact in self._facts if (fact.name, fact.tool) == (best.name, best.tool)]
        return list(dict.fromkeys(value for value in alike if value is not None))

    # Choices

    def _choose(self, schema: Schema, name: str) -> Any:
        ranked = self._ranked(schema, name)
        values = {str(value): value for value in schema["enum"] if value is not None}
        if len(values) > 1 and self._errs("other_value", name):
            right = ranked[0] if ranked else str(self._unknown(schema, name))
            others = [value for value in (*ranked, *values) if value != right]
            meant = self.slip.says if self.slip else None
            return values[meant if meant in others else others[0]]
        return values[ranked[0]] if ranked else MISSING

    def _choose_some(self, schema: Schema, name: str) -> list[Any]:
        values = {str(value): value for value in schema["enum"]}
        return [values[text] for text in self._ranked(schema, name)[:2]]

    def _ranked(self, schema: Schema, name: str) -> list[str]:
        """An enum's values for which something speaks, best first."""
        description = str(schema.get("description", ""))
        values = tuple(str(value) for value in schema["enum"] if value is not None)
        folded = {value.casefold(): value for value in values}
        named = sorted(self._facts, key=lambda fact: -likeness(name, description, fact.name))
        if told := value_told(self.reading.heeded, name, values, self.reading.last_answer.get(name)):
            return [told]
        exact = [folded[text] for fact in named if (text := str(fact.value).casefold()) in folded]
        if exact and likeness(name, description, named[0].name) >= LEAST_LIKENESS:
            agreeing = [fact for fact in named if likeness(name, description, fact.name) >= LEAST_LIKENESS]
            said = [folded[text] for fact in agreeing if (text := str(fact.value).casefold()) in folded]
            if said:
                return said[:1]
        entries = self._entries(schema)
        ranked = best_of(entries, self._telling) or best_of(entries, self.reading.knowledge)
        self._chosen += [entry for entry in entries if entry.value in ranked[:1]]
        return ranked

    def _entries(self, schema: Schema) -> tuple[Entry, ...]:
        """An enum's values with what the instructions say of each; none of what is no enum."""
        values = tuple(str(value) for value in schema.get("enum") or () if value is not None)
        return glossary(values, f"{self.reading.instructions}\n{schema.get('description', '')}")

    @cached_property
    def _is_hard(self) -> bool:
        return is_hard(self.reading.row_text, by_features=self.reading.by_features)

    @cached_property
    def _telling(self) -> str:
        telling = [str(fact.value) for fact in self._facts if TELLING.intersection(words(fact.name))]
        return plain(" ".join(telling))

    # Scalars

    def _string(self, schema: Schema, name: str) -> Any:
        description = str(schema.get("description", ""))
        is_quote = wants_quote(name, description)
        fact = self._best_fact(schema, name, least=0.6 if is_quote else LEAST_LIKENESS)
        text = str(typed(schema, fact.value)) if fact else None
        if text is None and is_quote:
            text = quote_from(self.reading, self._facts, description, self._chosen)
        is_free = "pattern" not in schema and not schema.get("format")
        if is_free and self._errs("ungrounded", name):
            made_up = f"as stated in the annual report of {1990 + fingerprint(self.reading.row_text) % 30}"
            return (self.slip and self.slip.says) or made_up
        if text is None:
            return MISSING
        return self._limited(text, name, schema)

    def _limited(self, text: str, name: str, schema: Schema) -> str:
        longest = within_limit(ENDLESS, schema)
        if len(longest) < len(ENDLESS) - 1 and self._errs("broken_limit", name):
            return f"{longest} and more of the same"
        return within_limit(text, schema)

    def _errs(self, mistake: Mistake, name: str) -> bool:
        """Whether this is the occasion for the mistake of this answer. There is only one."""
        if self.mistake_made or self.slip is None or self.slip.mistake != mistake:
            return False
        if self.slip.field not in (None, name):
            return False
        self.mistake_made = True
        return True

    def _number(self, schema: Schema, name: str) -> Any:
        bounds = range_of(schema, name)
        if bounds and self._errs("broken_limit", name):
            return typed(schema, bounds[1] * 2 + 1)
        fact = self._best_fact(schema, name)
        if fact and not is_estimate(name):
            return typed(schema, fact.value)
        if not is_estimate(name):
            return MISSING
        low, high = bounds or (0.0, 1.0)
        share = (0.55 if self._is_hard else 0.8) + fingerprint(self.reading.row_text, name) % 18 / 100
        estimate = low + (high - low) * share
        return round(estimate) if schema["type"] == "integer" else round(estimate, 2)

    def _boolean(self, schema: Schema, name: str) -> bool:
        fact = self._best_fact(schema, name)
        if fact:
            return bool(typed(schema, fact.value))
        telling = [word for word in words(name) if word not in ("is", "has", "was", "can")]
        return bool(telling) and all(as_term(word) in self.reading.knowledge for word in telling)

    def _best_fact(self, schema: Schema, name: str, least: float = LEAST_LIKENESS) -> Fact | None:
        """The fact that most likely means this property and is of its type."""
        description = str(schema.get("description", ""))
        best, best_score = None, 0.0
        for fact in self._facts:
            like = likeness(name, description, fact.name)
            score = like + (TRUST_IN_TOOLS if fact.tool and like > LEAST_LIKENESS else 0)
            if like < least or score <= best_score:
                continue
            value = typed(schema, fact.value)
            if value is not None and fits(schema, value):
                best, best_score = fact, score
        return best


def answer(reading: Reading, schema: Schema, slips: Sequence[Slip], known: Mapping[str, Any] = NOTHING_KNOWN) -> Filled:
    """The answer; with the first of `slips` that the schema gives occasion for, and the values that are `known`."""
    form = form_of(orjson.dumps(schema))
    for slip in slips:
        attempt = Answer(reading, form, slip, known)
        value = attempt.value()
        if attempt.mistake_made:
            return Filled(value, _sentences(attempt))
    attempt = Answer(reading, form, None, known)
    return Filled(attempt.value(), _sentences(attempt))


def _sentences(attempt: Answer) -> list[str]:
    names = ", ".join(dict.fromkeys(attempt.made_up))
    return [*attempt.misfits, *([MADE_UP.format(names=names)] if names else [])]
