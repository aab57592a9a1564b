"""Task types whose answer is a text of one to five sentences, a list, a letter, a story, a recipe or a rhyme."""

from __future__ import annotations

from random import Random

from .exercise import Draw, Rule, TaskType
from .facts import names
from .world import World, a, cap, listing, number

SOUNDS_LIKE = (
    ("day", "play"),
    ("sun", "fun"),
    ("night", "light"),
    ("tree", "me"),
    ("hill", "still"),
    ("rain", "again"),
    ("sky", "high"),
    ("door", "floor"),
)


def noun_facts(world: World, noun: str) -> list[str]:
    """True sentences about a noun, each with the noun in it."""
    one = cap(a(noun))
    if noun in world.tables["animals"]:
        row = world.tables["animals"][noun]
        size = ("tiny", "small", "fairly big", "big", "very big", "huge")[int(row["size"]) - 1]
        return [
            f"{one} is {a(row['kind'])}.",
            f"{one} lives in {row['home']}.",
            f"{one} eats {row['food']}.",
            f"{one} is {row['colour']}.",
            f"{one} is {size}.",
        ]
    if noun in world.tables["foods"]:
        row = world.tables["foods"][noun]
        return [
            f"{one} is {a(row['kind'])}.",
            f"{one} is {row['colour']}.",
            f"{one} tastes {row['taste']}.",
            f"You can buy {a(noun)} in the shop.",
            f"Many people like the taste of {a(noun)}.",
        ]
    if noun in world.tables["things"]:
        row = world.tables["things"][noun]
        return [
            f"{one} is {a(row['kind'])}.",
            f"{one} is made of {row['material']}.",
            f"You use {a(noun)} to {row['use']}.",
            f"You find {a(noun)} in {row['place']}.",
            f"You can buy {a(noun)} in the shop.",
        ]
    row = world.tables["jobs"][noun]
    return [
        f"{one} {row['does']}.",
        f"{one} works in {row['place']}.",
        f"{one} uses {a(row['tool'])}.",
        f"{one} gets up early.",
        f"The work of {a(noun)} is hard.",
    ]


def story_text(world: World, person: str, animal: str, rng: Random) -> str:
    """A story of four or five sentences about a person and an animal."""
    row = world.tables["animals"][animal]
    he = world.tables["people"][person]["gender"]
    begin = rng.choice(("One day", "One morning", "One evening", "Last week", "Once"))
    parts = [
        f"{begin} {person} met {a(animal)} in {row['home']}.",
        f"The {animal} was {row['colour']} and {rng.choice(('hungry', 'tired', 'lost', 'sad', 'cold'))}.",
        f"{cap(he)} gave the {animal} some {row['food']}."
        if not row["food"].startswith("small ")
        else f"{cap(he)} helped the {animal} to find {row['food']}.",
        rng.choice((f"The {animal} was happy.", f"The {animal} ate it all.", f"Then the {animal} went to sleep.")),
    ]
    if rng.random() < 0.5:
        parts.append(rng.choice(("They became good friends.", f"{person} went home.", "It was a good day.")))
    return " ".join(parts)


def letter_text(world: World, person: str, noun: str, rng: Random, sender: str) -> str:
    """A letter to a person with a fact about a noun."""
    opening = rng.choice(("How are you?", "I hope you are well.", "Thank you for your letter."))
    body = rng.choice(noun_facts(world, noun)[:4])
    news = rng.choice((f"Today I saw {a(noun)}.", f"I want to tell you about {a(noun)}.", f"I think of {a(noun)}."))
    return f"Dear {person},\n{opening} {news} {body}\nYours,\n{sender}"


def recipe_text(food: str, plural: str, rng: Random) -> str:
    """Steps for a soup of one food."""
    return (
        f"First wash the {plural}. Then cut the {plural} into {rng.choice(('small', 'thin', 'big'))} pieces. "
        f"Cook them in hot water for {number(rng.choice((5, 10, 15, 20)))} minutes. "
        f"Add {rng.choice(('salt', 'pepper', 'butter', 'cream'))} and serve the {food} soup hot."
    )


def rhyme_text(noun: str, rng: Random) -> str:
    """Two lines that rhyme; the first names the noun."""
    x, y = rng.choice(SOUNDS_LIKE)
    first = {
        "day": f"I saw {a(noun)} the other day",
        "sun": f"I saw {a(noun)} in the sun",
        "night": f"I saw {a(noun)} late at night",
        "tree": f"I saw {a(noun)} by the tree",
        "hill": f"I saw {a(noun)} on the hill",
        "rain": f"I saw {a(noun)} in the rain",
        "sky": f"I saw {a(noun)} below the sky",
        "door": f"I saw {a(noun)} at the door",
    }[x]
    second = {
        "play": "and we began to sing and play.",
        "fun": "and all of us had lots of fun.",
        "light": "beside a little lamp of light.",
        "me": "and it was looking back at me.",
        "still": "and all the world was calm and still.",
        "again": "and then I saw it once again.",
        "high": "where all the little birds fly high.",
        "floor": "and then I danced across the floor.",
    }[y]
    return f"{first},\n{second}"


def _about(world: World, noun: str, count: int) -> Rule:
    return {
        "kind": "sentences",
        "count": count,
        "members": noun_facts(world, noun),
        "on_task": {"kind": "contains_any", "answers": [noun]},
    }


def _sentence(world: World, key: str, rng: Random) -> Draw:
    return Draw(answer=rng.choice(noun_facts(world, key)), verify=_about(world, key, 1), slots={"x": key, "a": a(key)})


def _sentences(world: World, key: str, rng: Random) -> Draw:
    count = rng.randint(2, 5)
    chosen = sorted(rng.sample(range(5), count))
    text = noun_facts(world, key)
    return Draw(
        answer=" ".join(text[i] for i in chosen),
        verify=_about(world, key, count),
        slots={"x": key, "a": a(key), "n": number(count)},
    )


def _describe(world: World, key: str, rng: Random) -> Draw:
    text = noun_facts(world, key)
    verify = {
        "kind": "any",
        "of": [{"kind": "sentences", "count": count, "members": text} for count in (2, 3, 4, 5)],
        "on_task": {"kind": "contains_any", "answers": [key]},
    }
    return Draw(answer=" ".join(text[:3]), verify=verify, slots={"x": key, "a": a(key)})


def _kind_lists(world: World) -> list[str]:
    kinds = [kind for kind, members in world.kinds.items() if len(members) >= 6]
    return [f"{kind}/{n}" for kind in kinds for n in (2, 3, 4, 5)]


def plural_kind(kind: str) -> str:
    """Plural of a kind's name, as "pieces of furniture"."""
    head, _, rest = kind.partition(" of ")
    special = {"fish": "fish", "dish": "dishes"}
    many = special.get(head, head + "s")
    return f"{many} of {rest}" if rest else many


def _list(world: World, key: str, rng: Random) -> Draw:
    kind, _, n = key.partition("/")
    members = world.kinds[kind]
    # In order of the alphabet: a fixed order is what keeps a greedy list from repeating itself.
    chosen = sorted(rng.sample(members, int(n)))
    plurals = [world.nouns[name]["plural"] for name in members]
    verify = {
        "kind": "set",
        "members": sorted({*members, *plurals}),
        "count": int(n),
        "on_task": {"kind": "contains_any", "answers": sorted({*members, *plurals})},
    }
    slots = {"x": plural_kind(kind), "n": number(int(n))}
    return Draw(answer=f"{cap(number(int(n)))} {slots['x']}: {listing(chosen)}.", verify=verify, slots=slots)


def _crossed(world: World) -> list[str]:
    """A person and an animal per key: each animal with five people, spread over the list."""
    people, animals = world.names("people"), world.names("animals")
    return [f"{people[(7 * i + 13 * j) % len(people)]}/{name}" for i, name in enumerate(animals) for j in range(5)]


def _story(world: World, key: str, rng: Random) -> Draw:
    person, _, animal = key.partition("/")
    verify = {
        "kind": "all",
        "of": [
            {"kind": "contains_all", "answers": [person, animal]},
            {"kind": "any", "of": [{"kind": "sentences", "count": n} for n in (3, 4, 5, 6)]},
        ],
        "max_words": 70,
        "on_task": {"kind": "contains_any", "answers": [person, animal]},
    }
    return Draw(answer=story_text(world, person, animal, rng), verify=verify, slots={"x": person, "a": a(animal)})


def _letter(world: World, key: str, rng: Random) -> Draw:
    person, _, animal = key.partition("/")
    sender = rng.choice(world.names("people"))
    verify = {
        "kind": "sequence",
        "answers": [f"dear {person}", animal, "yours"],
        "max_words": 50,
        "on_task": {"kind": "regex", "fold": True, "pattern": r"^dear \w+"},
    }
    text = letter_text(world, person, animal, rng, sender)
    return Draw(answer=text, verify=verify, slots={"x": person, "a": a(animal)})


def _recipe(world: World, key: str, rng: Random) -> Draw:
    plural = world.nouns[key]["plural"]
    verify = {
        "kind": "sequence",
        "answers": ["first", plural, "then", "cook", f"{key} soup"],
        "max_words": 60,
        "on_task": {"kind": "contains_any", "answers": ["cook", "soup", "cut", "wash"]},
    }
    return Draw(answer=recipe_text(key, plural, rng), verify=verify, slots={"x": key})


def _rhyme(world: World, key: str, rng: Random) -> Draw:
    pairs = "|".join(rf"\b{x}\W+.*\b{y}" for x, y in SOUNDS_LIKE)
    verify = {
        "kind": "all",
        "of": [
            {"kind": "contains_all", "answers": [a(key)]},
            {"kind": "regex", "fold": True, "pattern": rf"^[^.]*({pairs})\W*$"},
        ],
        "max_words": 30,
        "on_task": {"kind": "contains_all", "answers": [a(key)]},
    }
    return Draw(answer=rhyme_text(key, rng), verify=verify, slots={"x": key, "a": a(key)})


def _soups(world: World) -> list[str]:
    foods = [name for name, row in world.tables["foods"].items() if row["kind"] in ("fruit", "vegetable", "meat")]
    return [*foods, *world.kinds["fish"]]


ABOUT = names("animals", "foods", "things", "jobs")

WRITING: dict[str, TaskType] = {
    "sentence": TaskType(keys=ABOUT, draw=_sentence),
    "sentences": TaskType(keys=ABOUT, draw=_sentences),
    "describe": TaskType(keys=ABOUT, draw=_describe),
    "list": TaskType(keys=_kind_lists, draw=_list),
    "story": TaskType(keys=_crossed, draw=_story),
    "letter": TaskType(keys=_crossed, draw=_letter),
    "recipe": TaskType(keys=_soups, draw=_recipe),
    "rhyme": TaskType(keys=names("animals", "things", "foods"), draw=_rhyme),
}
