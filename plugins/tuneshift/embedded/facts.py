"""Task types that ask for a fact of the world, a form of a word or a little arithmetic; no context to work on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from .exercise import Draw, Rule, TaskType, same
from .world import UNCOUNTED, World, a, cap, number

Names = Callable[[World], Sequence[str]]


def names(*tables: str) -> Names:
    """Entities of several tables, in order."""
    return lambda world: [name for table in tables for name in world.names(table)]


NOUNS = names("animals", "foods", "things", "jobs")
NUMBERS = tuple(number(n) for n in range(101))


def value_of(entity: str, values: Sequence[str], reference: str, on_task: Sequence[str]) -> Rule:
    """Rule that wants one of the values alone, or with the entity in a sentence about as long as the reference."""
    said: list[Rule] = [{"kind": "contains_all", "answers": [entity, value]} for value in values]
    return {
        "kind": "any",
        "of": [{"kind": "exact", "answers": list(values)}, *said],
        "max_words": len(reference.split()) + 3,
        "on_task": {"kind": "contains_any", "answers": list(on_task)},
    }


def fact(field: str, answer: str, *tables: str) -> TaskType:
    """A field of an entity. ``answer`` has {x} the entity, {a} with its article, {v} the value, {av} with article.

    On task: any value of the field, so a wrong colour still answers the question for a colour.
    """

    def draw(world: World, key: str, rng: Random) -> Draw:
        value = next(world.tables[table][key] for table in tables if key in world.tables[table])[field]
        slots = {"x": key, "a": a(key), "v": value, "av": a(value)}
        text = cap(answer.format(**slots))
        others = sorted({v for table in tables for v in world.values(table, field)})
        return Draw(answer=text, verify=value_of(key, [value], text, others), slots=slots)

    return TaskType(keys=names(*tables), draw=draw)


def _forms(text: str) -> Callable[[World, str, Random], Draw]:
    """Plural of any noun; ``text`` has {x} and {v}."""

    def draw(world: World, key: str, rng: Random) -> Draw:
        value = world.nouns[key]["plural"]
        answer = text.format(x=key, v=value)
        return Draw(answer=answer, verify=value_of(key, [value], answer, ["plural"]), slots={"x": key})

    return draw


def _pairs(low: int, high: int) -> Callable[[World], list[str]]:
    return lambda world: [f"{x}+{y}" for x in range(low, high) for y in range(low, high)]


def _add(world: World, key: str, rng: Random) -> Draw:
    x, y = (int(part) for part in key.split("+"))
    return _sum(number(x), "plus", number(y), x + y)


def _differences(world: World) -> list[str]:
    return [f"{x}-{y}" for x in range(2, 15) for y in range(1, x)]


def _subtract(world: World, key: str, rng: Random) -> Draw:
    x, y = (int(part) for part in key.split("-"))
    return _sum(number(x), "minus", number(y), x - y)


def _sum(x: str, sign: str, y: str, value: int) -> Draw:
    said = number(value)
    answer = f"{cap(x)} {sign} {y} is {said}."
    verify = same(answer, said, f"It is {said}.", f"{x} {sign} {y} makes {said}.", on_task=NUMBERS)
    return Draw(answer=answer, verify=verify, slots={"x": x, "y": y})


def _next_number(world: World, key: str, rng: Random) -> Draw:
    x, value = number(int(key)), number(int(key) + 1)
    answer = f"After {x} comes {value}."
    verify = same(answer, value, f"The number after {x} is {value}.", on_task=NUMBERS)
    return Draw(answer=answer, verify=verify, slots={"x": x})


def _numeral(world: World, key: str, rng: Random) -> Draw:
    value = number(int(key))
    answer = f"The number {key} is {value} in words."
    return Draw(answer=answer, verify=same(answer, value, f"{key} is {value}.", on_task=NUMBERS), slots={"x": key})


def _steps(world: World) -> list[str]:
    steps = ("after", "before", "two after", "two before", "three after")
    return [f"{name}/{step}" for table in ("months", "days") for name in world.names(table) for step in steps]


def _calendar(world: World, key: str, rng: Random) -> Draw:
    name, _, step = key.partition("/")
    unit, table = ("month", "months") if name in world.tables["months"] else ("day", "days")
    ring = world.names(table)
    count, _, way = step.rpartition(" ")
    n = {"": 1, "two": 2, "three": 3}[count] * (1 if way == "after" else -1)
    value = ring[(ring.index(name) + n) % len(ring)]
    when = f"{count} {unit}s {way}" if count else way
    answer = f"{cap(when)} {name} comes {value}."
    verify = same(answer, value, f"It is {value}.", f"The {unit} {when} {name} is {value}.", on_task=ring)
    return Draw(answer=answer, verify=verify, slots={"x": name, "when": when, "unit": unit})


def _spell(world: World, key: str, rng: Random) -> Draw:
    answer = f"The word {key} is spelled {'-'.join(key)}."
    verify = {
        "kind": "exact",
        "answers": [answer, "-".join(key), " ".join(key), ", ".join(key)],
        "on_task": {"kind": "regex", "fold": True, "pattern": r"\b\w[- ,]+\w[- ,]+\w\b"},
    }
    return Draw(answer=answer, verify=verify, slots={"x": key})


def _first_letter(world: World, key: str, rng: Random) -> Draw:
    answer = f"The word {key} begins with {key[0]}."
    verify = {
        "kind": "exact",
        "answers": [answer, key[0], f"The first letter of {key} is {key[0]}."],
        "on_task": {"kind": "regex", "fold": True, "pattern": r"(^|[^\w])[a-z]\W*$"},
    }
    return Draw(answer=answer, verify=verify, slots={"x": key})


def _compared(world: World) -> list[str]:
    animals = world.tables["animals"]
    order = sorted(animals)
    pairs = [(x, y) for i, x in enumerate(order) for y in order[i + 1 :]]
    return [f"{x}/{y}" for x, y in pairs if abs(int(animals[x]["size"]) - int(animals[y]["size"])) > 1]


def _bigger(world: World, key: str, rng: Random) -> Draw:
    pair = key.split("/")
    rng.shuffle(pair)
    big, small = sorted(pair, key=lambda name: -int(world.tables["animals"][name]["size"]))
    answer = f"{cap(a(big))} is bigger than {a(small)}."
    verify = same(answer, big, a(big), f"{a(big)} is bigger", f"the {big}", on_task=pair)
    return Draw(answer=answer, verify=verify, slots={"a": a(pair[0]), "b": a(pair[1])})


def _counted(world: World) -> list[str]:
    return [name for name in NOUNS(world) if name not in UNCOUNTED]


def _spellable(world: World) -> list[str]:
    return [name for table in ("animals", "foods", "things") for name in world.names(table) if len(name) <= 6]


FACTS: dict[str, TaskType] = {
    "kind": fact("kind", "{a} is {av}.", "animals", "foods", "things"),
    "colour": fact("colour", "{a} is {v}.", "animals", "foods"),
    "opposite": fact("other", "the opposite of {x} is {v}.", "opposites"),
    "synonym": fact("other", "another word for {x} is {v}.", "synonyms"),
    "plural": TaskType(keys=_counted, draw=_forms("The plural of {x} is {v}.")),
    "past": fact("past", "the past tense of {x} is {v}.", "verbs"),
    "ing": fact("ing", "the ing form of {x} is {v}.", "verbs"),
    "home": fact("home", "{a} lives in {v}.", "animals"),
    "diet": fact("food", "{a} eats {v}.", "animals"),
    "capital": fact("capital", "the capital of {x} is {v}.", "countries"),
    "continent": fact("continent", "{x} is in {v}.", "countries"),
    "use": fact("use", "you use {a} to {v}.", "things"),
    "material": fact("material", "{a} is made of {v}.", "things"),
    "workplace": fact("place", "{a} works in {v}.", "jobs"),
    "duty": fact("does", "{a} {v}.", "jobs"),
    "person_town": fact("town", "{x} lives in {v}.", "people"),
    "person_job": fact("job", "{x} is {av}.", "people"),
    "person_pet": fact("pet", "{x} has {av}.", "people"),
    "bigger": TaskType(keys=_compared, draw=_bigger),
    "add": TaskType(keys=_pairs(1, 11), draw=_add),
    "subtract": TaskType(keys=_differences, draw=_subtract),
    "next_number": TaskType(keys=lambda world: [str(n) for n in range(100)], draw=_next_number),
    "numeral": TaskType(keys=lambda world: [str(n) for n in range(100)], draw=_numeral),
    "calendar": TaskType(keys=_steps, draw=_calendar),
    "spell": TaskType(keys=_spellable, draw=_spell),
    "first_letter": TaskType(keys=NOUNS, draw=_first_letter),
}
