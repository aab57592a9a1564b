"""Task types that work on a context: word lists, single sentences, and short texts to read."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from .exercise import Draw, Rule, TaskType, same
from .facts import fact, names
from .world import ORDINALS, UNCOUNTED, World, a, cap, listing, number, third_person
from .writing import noun_facts, plural_kind

TIMES = ("every day", "at home", "in the town", "in the morning", "with a friend", "at noon", "in the rain")


def _words(world: World, key: str, rng: Random, low: int, high: int) -> list[str]:
    """Different nouns with the key among them, in any order."""
    pool = [name for name in world.nouns if name != key]
    words = [*rng.sample(pool, rng.randint(low, high) - 1), key]
    rng.shuffle(words)
    return words


def _ordered(answers: Sequence[str], reference: str, *, none: Sequence[str] = ()) -> Rule:
    made: Rule = {"kind": "sequence", "answers": list(answers), "max_words": len(reference.split()) + 4}
    if none:
        made["none"] = list(none)
    made["on_task"] = {"kind": "contains_any", "answers": list(answers)}
    return made


def _nth_word(world: World, key: str, rng: Random) -> Draw:
    words = _words(world, key, rng, 3, 5)
    at = words.index(key)
    place = "last" if at == len(words) - 1 else ORDINALS[at]
    answer = f"The {place} word is {key}."
    others = [word for word in words if word != key]
    verify: Rule = {"kind": "contains_all", "answers": [key], "none": others, "max_words": 10}
    verify["on_task"] = {"kind": "contains_any", "answers": words}
    return Draw(answer=answer, verify=verify, slots={"n": place}, context=", ".join(words))


def _odd_out(world: World, key: str, rng: Random) -> Draw:
    """Three words of one table and one of another."""
    tables = ("animals", "foods", "things", "jobs")
    others = rng.sample(world.names(rng.choice([name for name in tables if key not in world.tables[name]])), 3)
    words = [*others, key]
    rng.shuffle(words)
    verify: Rule = {"kind": "contains_all", "answers": [key], "none": others, "max_words": 14}
    verify["on_task"] = {"kind": "contains_any", "answers": words}
    return Draw(answer=f"The odd word is {key}.", verify=verify, context=", ".join(words))


def _sort(world: World, key: str, rng: Random) -> Draw:
    """Three words with different first letters."""
    words = [key]
    while len(words) < 3:
        word = rng.choice(list(world.nouns))
        if all(word[0] != other[0] for other in words):
            words.append(word)
    rng.shuffle(words)
    answer = f"In order: {listing(sorted(words))}."
    return Draw(answer=answer, verify=_ordered(sorted(words), answer), context=", ".join(words))


def _reverse(world: World, key: str, rng: Random) -> Draw:
    words = _words(world, key, rng, 3, 4)
    answer = f"Backwards: {listing(words[::-1])}."
    return Draw(answer=answer, verify=_ordered(words[::-1], answer), context=", ".join(words))


def _remove(world: World, key: str, rng: Random) -> Draw:
    words = _words(world, key, rng, 3, 4)
    rest = [word for word in words if word != key]
    answer = f"Without {key}: {listing(rest)}."
    verify = _ordered(rest, answer)
    verify["none"] = [f"{key} and", f", {key}"]
    return Draw(answer=answer, verify=verify, slots={"x": key}, context=", ".join(words))


def _append(world: World, key: str, rng: Random) -> Draw:
    words = [word for word in _words(world, key, rng, 3, 4) if word != key]
    answer = f"The new list: {listing([*words, key])}."
    return Draw(answer=answer, verify=_ordered([*words, key], answer), slots={"x": key}, context=", ".join(words))


def _count(world: World, key: str, rng: Random) -> Draw:
    words = _words(world, key, rng, 2, 6)
    answer = f"There are {number(len(words))} words."
    counts = [number(n) for n in range(1, 10)]
    value = number(len(words))
    verify: Rule = {
        "kind": "contains_all",
        "answers": [value],
        "none": [n for n in counts if n != value],
        "max_words": 12,
    }
    verify["on_task"] = {"kind": "contains_any", "answers": counts}
    return Draw(answer=answer, verify=verify, context=", ".join(words))


def _filter(world: World, key: str, rng: Random) -> Draw:
    kind = world.nouns[key]["kind"]
    members = [key, *rng.sample([name for name in world.kinds[kind] if name != key], rng.choice((1, 2)))]
    others = rng.sample([name for other, names_ in world.kinds.items() if other != kind for name in names_], 2)
    words = [*members, *others]
    rng.shuffle(words)
    right = [word for word in words if word in members]
    answer = f"{cap(plural_kind(kind))}: {listing(right)}."
    verify = _ordered(right, answer, none=others)
    return Draw(answer=answer, verify=verify, slots={"x": plural_kind(kind)}, context=", ".join(words))


def _clause(world: World, key: str, rng: Random) -> tuple[str, str, str]:
    """Subject, object and closing words of a plain sentence with the verb ``key``."""
    return rng.choice(world.names("people")), world.tables["verbs"][key]["object"], rng.choice(("", *TIMES))


def _sentence(*parts: str) -> str:
    return " ".join(part for part in parts if part) + "."


def _rewritten(context: str, answer: str) -> Draw:
    return Draw(answer=answer, verify=same(answer, on_task=context.split()[:1]), context=context)


def _to_past(world: World, key: str, rng: Random) -> Draw:
    who, what, when = _clause(world, key, rng)
    verb = world.tables["verbs"][key]
    return _rewritten(_sentence(who, third_person(key), what, when), _sentence(who, verb["past"], what, when))


def _to_future(world: World, key: str, rng: Random) -> Draw:
    who, what, when = _clause(world, key, rng)
    return _rewritten(_sentence(who, third_person(key), what, when), _sentence(who, "will", key, what, when))


def _negate(world: World, key: str, rng: Random) -> Draw:
    who, what, when = _clause(world, key, rng)
    return _rewritten(_sentence(who, third_person(key), what, when), _sentence(who, "does not", key, what, when))


def _to_question(world: World, key: str, rng: Random) -> Draw:
    who, what, when = _clause(world, key, rng)
    context = _sentence(who, third_person(key), what, when)
    answer = _sentence("Does", who, key, what, when).rstrip(".") + "?"
    return Draw(answer=answer, verify=same(answer, on_task=[who]), context=context)


def _pronoun(world: World, key: str, rng: Random) -> Draw:
    _, what, when = _clause(world, verb := rng.choice(world.names("verbs")), rng)
    he = cap(world.tables["people"][key]["gender"])
    rest = (third_person(verb), what, when)
    answer = _sentence(he, *rest)
    return Draw(answer=answer, verify=same(answer, on_task=["he", "she"]), context=_sentence(key, *rest))


def _join(world: World, key: str, rng: Random) -> Draw:
    who, what, _ = _clause(world, key, rng)
    verb = rng.choice([name for name in world.names("verbs") if name != key])
    other = rng.choice([name for name in world.names("people") if name != who])
    first, second = (who, third_person(key), what), (other, third_person(verb), world.tables["verbs"][verb]["object"])
    answer = _sentence(*first, "and", *second)
    context = f"{_sentence(*first)} {_sentence(*second)}"
    return Draw(answer=answer, verify=same(answer, on_task=[who, other]), context=context)


def _plain(world: World, key: str, rng: Random) -> str:
    """A sentence with the noun ``key``."""
    who, verb = rng.choice(world.names("people")), rng.choice(("sees", "has", "wants", "likes", "draws", "finds"))
    return _sentence(who, verb, a(key), rng.choice(("", *TIMES)))


def _repeat(world: World, key: str, rng: Random) -> Draw:
    sentence = _plain(world, key, rng)
    return Draw(answer=sentence, verify=same(sentence, on_task=[key]), context=sentence)


def _replace(world: World, key: str, rng: Random) -> Draw:
    sentence = _plain(world, key, rng).replace(f" {a(key)}", f" the {key}")
    new = rng.choice([name for name in world.nouns if name != key])
    answer = sentence.replace(f"the {key}", f"the {new}")
    return Draw(answer=answer, verify=same(answer, on_task=[new]), slots={"x": key, "y": new}, context=sentence)


def _to_opposite(world: World, key: str, rng: Random) -> Draw:
    subject = rng.choice([*world.names("animals"), *world.names("things")])
    row = world.tables["opposites"]
    other = row[key]["other"] if key in row else next(name for name, r in row.items() if r["other"] == key)
    who = rng.choice(world.names("people"))
    begin = rng.choice((f"The {subject} is", f"{who} has {a(subject)}. It is", f"This {subject} is very"))
    answer = f"{begin} {other}."
    return Draw(answer=answer, verify=same(answer, on_task=[other]), slots={"x": key}, context=f"{begin} {key}.")


def _mood(world: World, key: str, rng: Random) -> Draw:
    row = rng.choice(world.names("moods"))
    mood = world.tables["moods"][row]["mood"]
    context = f"{key} {row}."
    answer = f"{key} is {mood}."
    verify: Rule = {"kind": "contains_all", "answers": [mood], "none": ["sad" if mood == "happy" else "happy"]}
    verify |= {"max_words": 8, "on_task": {"kind": "contains_any", "answers": ["happy", "sad"]}}
    return Draw(answer=answer, verify=verify, slots={"x": key}, context=context)


def _portable(world: World) -> list[str]:
    """Foods and things that may be owned and counted; not the orange, whose name is a colour too."""
    left_out = {"orange", *UNCOUNTED}
    return [name for name in (*world.names("foods"), *world.names("things")) if name not in left_out]


def _scene(world: World, key: str, rng: Random, count: int) -> tuple[list[str], list[str]]:
    """People and portable things, the key among the things."""
    pool = _portable(world)
    things = [*rng.sample([name for name in pool if name != key], count - 1), key]
    rng.shuffle(things)
    return rng.sample(world.names("people"), count), things


PLACES = ("box", "bag", "basket", "drawer", "cupboard", "garden", "kitchen", "shed", "hall", "car", "boat", "barn")


def _where(world: World, key: str, rng: Random) -> Draw:
    people, things = _scene(world, key, rng, rng.choice((2, 3)))
    places = rng.sample([place for place in PLACES if place not in things], len(things))
    said = [
        rng.choice((f"{who} put the {thing} in the {place}.", f"The {thing} is in the {place}."))
        for who, thing, place in zip(people, things, places, strict=True)
    ]
    place = places[things.index(key)]
    answer = f"The {key} is in the {place}."
    verify: Rule = {"kind": "contains_all", "answers": [place], "none": [p for p in places if p != place]}
    verify |= {"max_words": 14, "on_task": {"kind": "contains_any", "answers": places}}
    return Draw(answer=answer, verify=verify, slots={"x": key}, context=" ".join(said))


def _who(world: World, key: str, rng: Random) -> Draw:
    people, things = _scene(world, key, rng, rng.choice((2, 3)))
    said = [f"{who} has {a(thing)}." for who, thing in zip(people, things, strict=True)]
    owner = people[things.index(key)]
    verify: Rule = {"kind": "contains_all", "answers": [owner], "none": [name for name in people if name != owner]}
    verify |= {"max_words": 10, "on_task": {"kind": "contains_any", "answers": people}}
    return Draw(answer=f"{owner} has the {key}.", verify=verify, slots={"x": key}, context=" ".join(said))


def _which_colour(world: World, key: str, rng: Random) -> Draw:
    people, things = _scene(world, key, rng, rng.choice((2, 3)))
    colours = rng.sample(world.names("colours"), len(things))
    said = [
        rng.choice((f"{who} has {a(colour)} {thing}.", f"The {thing} of {who} is {colour}."))
        for who, thing, colour in zip(people, things, colours, strict=True)
    ]
    colour = colours[things.index(key)]
    verify: Rule = {
        "kind": "contains_all",
        "answers": [colour],
        "none": [c for c in world.names("colours") if c != colour],
    }
    verify |= {"max_words": 10, "on_task": {"kind": "contains_any", "answers": list(world.names("colours"))}}
    return Draw(answer=f"The {key} is {colour}.", verify=verify, slots={"x": key}, context=" ".join(said))


def _yes_no(world: World, key: str, rng: Random) -> Draw:
    people, things = _scene(world, key, rng, rng.choice((2, 3)))
    context = " ".join(f"{who} has {a(thing)}." for who, thing in zip(people, things, strict=True))
    owner = people[things.index(key)]
    if rng.random() < 0.5:
        who, answer, no = owner, f"Yes, {owner} has {a(key)}.", "no"
    else:
        who = rng.choice([name for name in people if name != owner])
        answer, no = f"No, {who} does not have {a(key)}.", "yes"
    verify: Rule = {"kind": "contains_all", "answers": [{"no": "yes", "yes": "no"}[no]], "none": [no], "max_words": 14}
    verify["on_task"] = {"kind": "contains_any", "answers": ["yes", "no"]}
    return Draw(answer=answer, verify=verify, slots={"x": who, "a": a(key)}, context=context)


def _topic(world: World, key: str, rng: Random) -> Draw:
    text = noun_facts(world, key)
    chosen = sorted(rng.sample(range(5), rng.choice((2, 3))))
    answer = f"The text is about {a(key)}."
    verify: Rule = {"kind": "contains_all", "answers": [key], "max_words": 9}
    return Draw(answer=answer, verify=verify, context=" ".join(text[i] for i in chosen))


COMPLETED = (
    fact("other", "the opposite of {x} is {v}.", "opposites"),
    fact("capital", "the capital of {x} is {v}.", "countries"),
    fact("past", "the past tense of {x} is {v}.", "verbs"),
    fact("home", "{a} lives in {v}.", "animals"),
    fact("does", "{a} {v}.", "jobs"),
)


def _complete(world: World, key: str, rng: Random) -> Draw:
    draw = next(task for task in COMPLETED if key in task.keys(world)).draw(world, key, rng)
    value = draw.slots["v"]
    return Draw(answer=draw.answer, verify=draw.verify, context=draw.answer[: -len(value) - 1].rstrip() + " ...")


NOUNS = names("animals", "foods", "things", "jobs")
KINDRED = names("animals", "foods", "things")


TEXTS: dict[str, TaskType] = {
    "nth_word": TaskType(keys=NOUNS, draw=_nth_word),
    "odd_out": TaskType(keys=NOUNS, draw=_odd_out),
    "sort": TaskType(keys=NOUNS, draw=_sort),
    "reverse": TaskType(keys=NOUNS, draw=_reverse),
    "remove": TaskType(keys=NOUNS, draw=_remove),
    "append": TaskType(keys=NOUNS, draw=_append),
    "count": TaskType(keys=NOUNS, draw=_count),
    "filter": TaskType(keys=KINDRED, draw=_filter),
    "repeat": TaskType(keys=NOUNS, draw=_repeat),
    "replace": TaskType(keys=NOUNS, draw=_replace),
    "to_past": TaskType(keys=names("verbs"), draw=_to_past),
    "to_future": TaskType(keys=names("verbs"), draw=_to_future),
    "negate": TaskType(keys=names("verbs"), draw=_negate),
    "to_question": TaskType(keys=names("verbs"), draw=_to_question),
    "pronoun": TaskType(keys=names("people"), draw=_pronoun),
    "join": TaskType(keys=names("verbs"), draw=_join),
    "to_opposite": TaskType(keys=names("adjectives"), draw=_to_opposite),
    "mood": TaskType(keys=names("people"), draw=_mood),
    "where": TaskType(keys=_portable, draw=_where),
    "who": TaskType(keys=_portable, draw=_who),
    "which_colour": TaskType(keys=_portable, draw=_which_colour),
    "yes_no": TaskType(keys=_portable, draw=_yes_no),
    "topic": TaskType(keys=NOUNS, draw=_topic),
    "complete": TaskType(keys=names("opposites", "countries", "verbs", "animals", "jobs"), draw=_complete),
}
