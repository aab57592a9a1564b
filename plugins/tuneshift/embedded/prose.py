"""Pre-training documents: prose about the world, and exercises told in natural forms other than the chat format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

from .facts import FACTS
from .tasks import TASKS, Exercise, Workbook
from .world import World, a, cap, listing, number
from .writing import WRITING, letter_text, noun_facts, plural_kind, recipe_text, rhyme_text, story_text

Document = Callable[[Workbook, Random], str]

PLAIN_FACTS = tuple(name for name in FACTS if name not in ("spell", "first_letter"))


def _noun(world: World, rng: Random) -> str:
    return rng.choice(list(world.nouns))


def _any_exercise(book: Workbook, rng: Random, *tasks: str) -> Exercise:
    task = book.pick(rng, tasks or tuple(TASKS))
    wording = book.wordings[task]
    key = rng.choice([*book.keys[task][0], *book.keys[task][1]])
    return book.exercise(task, key, rng, wording.phrasings + wording.held_out)


def description(book: Workbook, rng: Random) -> str:
    """Facts about one to four nouns as paragraphs."""
    paragraphs = []
    for _ in range(rng.randint(1, 3)):
        text = noun_facts(book.world, _noun(book.world, rng))
        if rng.random() < 0.5:
            rng.shuffle(text)
        paragraphs.append(" ".join(text[: rng.randint(2, 5)]))
    return "\n".join(paragraphs)


def biography(book: Workbook, rng: Random) -> str:
    """Facts about one to three people."""
    paragraphs = []
    for name in rng.sample(book.world.names("people"), rng.randint(1, 3)):
        row = book.world.tables["people"][name]
        he = cap(row["gender"])
        text = [
            f"{name} lives in {row['town']}.",
            f"{he} is {a(row['job'])}.",
            f"{name} is {a(row['job'])} in {row['town']}.",
            f"{name} has {a(row['pet'])}.",
            f"{he} likes {row['colour']} best.",
            f"{he} likes to eat {book.world.nouns[row['food']]['plural']}.",
        ]
        rng.shuffle(text)
        paragraphs.append(" ".join([text.pop(0).replace(f"{he} ", f"{name} ", 1), *text[: rng.randint(1, 4)]]))
    return "\n".join(paragraphs)


def facts_in_a_row(book: Workbook, rng: Random) -> str:
    """Answers of one fact task for several keys, one after the other."""
    task = book.pick(rng, PLAIN_FACTS)
    keys = [*book.keys[task][0], *book.keys[task][1]]
    glue = rng.choice((" ", "\n"))
    return glue.join(book.draw(task, key, rng).answer for key in rng.sample(keys, rng.randint(2, 7)))


def pairs(book: Workbook, rng: Random) -> str:
    """A short table of words and what belongs to them."""
    table, field = rng.choice(
        (
            ("opposites", "other"),
            ("synonyms", "other"),
            ("verbs", "past"),
            ("verbs", "ing"),
            ("countries", "capital"),
            ("countries", "continent"),
            ("animals", "plural"),
            ("foods", "plural"),
            ("things", "plural"),
            ("jobs", "place"),
            ("animals", "home"),
            ("things", "material"),
            ("animals", "colour"),
            ("foods", "colour"),
        )
    )
    rows = book.world.tables[table]
    chosen = rng.sample(list(rows), rng.randint(3, 8))
    sign = rng.choice((" - ", ", ", " = ", " | "))
    return "\n".join(f"{name}{sign}{rows[name][field]}" for name in chosen)


def catalogue(book: Workbook, rng: Random) -> str:
    """Members of kinds, as a list in a line or down the page."""
    lines = []
    for kind in rng.sample(list(book.world.kinds), rng.randint(1, 3)):
        members = book.world.kinds[kind]
        chosen = sorted(rng.sample(members, min(len(members), rng.randint(2, 7))))
        if rng.random() < 0.3:
            lines.append(f"{cap(plural_kind(kind))}:\n" + "\n".join(f"- {name}" for name in chosen))
        else:
            lines.append(f"{cap(plural_kind(kind))}: {listing(chosen)}.")
    return "\n".join(lines)


def dictionary(book: Workbook, rng: Random) -> str:
    """Words in order of the alphabet, with what they are or alone."""
    words = sorted(rng.sample(list(book.world.nouns), rng.randint(3, 8)))
    if rng.random() < 0.5:
        return rng.choice(("From a to z: ", "In order: ", "Words by the alphabet: ")) + listing(words) + "."
    return "\n".join(noun_facts(book.world, word)[0] for word in words)


def spelling(book: Workbook, rng: Random) -> str:
    """Spelled words and first letters."""
    task = rng.choice(("spell", "spell", "first_letter"))
    keys = [*book.keys[task][0], *book.keys[task][1]]
    return "\n".join(book.draw(task, key, rng).answer for key in rng.sample(keys, rng.randint(1, 5)))


def counting(book: Workbook, rng: Random) -> str:
    """Stretches of numbers, months and days, and comparisons of numerals."""
    form = rng.choices(range(4), (4, 4, 4, 1))[0]
    if form == 0:
        start = rng.randint(0, 90)
        return ", ".join(number(n) for n in range(start, start + rng.randint(4, 10))) + "."
    if form == 1:
        ring = book.world.names(rng.choice(("months", "days")))
        start = rng.randrange(len(ring))
        return ", ".join(ring[(start + n) % len(ring)] for n in range(rng.randint(4, 12))) + "."
    if form == 2:
        start = rng.randint(0, 90)
        return "\n".join(f"{n} {number(n)}" for n in range(start, start + rng.randint(3, 8)))
    rows = [sorted(rng.sample(range(100), 2)) for _ in range(rng.randint(1, 4))]
    return "\n".join(f"{x} < {y}" if rng.random() < 0.5 else f"{y} > {x}" for x, y in rows)


def story(book: Workbook, rng: Random) -> str:
    """One to three short stories, sometimes with a title."""
    animal = rng.choice(book.world.names("animals"))
    texts = [
        story_text(book.world, rng.choice(book.world.names("people")), animal, rng) for _ in range(rng.randint(1, 2))
    ]
    title = rng.choice(("", "", f"The {animal}\n", f"Page {rng.randint(1, 99)} | The {animal}\n"))
    return title + "\n".join(texts)


def letter(book: Workbook, rng: Random) -> str:
    """A letter about a noun."""
    to, sender = rng.sample(book.world.names("people"), 2)
    return letter_text(book.world, to, _noun(book.world, rng), rng, sender)


def recipe(book: Workbook, rng: Random) -> str:
    """A soup recipe, with or without a heading."""
    food = rng.choice(book.world.names("foods"))
    text = recipe_text(food, book.world.nouns[food]["plural"], rng)
    return rng.choice(("", f"{cap(food)} soup\n", f"How to make {food} soup\n")) + text


def rhyme(book: Workbook, rng: Random) -> str:
    """One to three rhymes."""
    return "\n".join(rhyme_text(_noun(book.world, rng), rng) for _ in range(rng.randint(1, 3)))


def _flat(text: str, rng: Random) -> str:
    return text.replace("\n", " ") if rng.random() < 0.5 else text


def conversation(book: Workbook, rng: Random) -> str:
    """One to three exercises as quoted speech between two people."""
    one, two = rng.sample(book.world.names("people"), 2)
    he, she = (book.world.tables["people"][name]["gender"] for name in (one, two))
    turns = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        exercise = _any_exercise(book, rng)
        asked, said = _flat(exercise.prompt, rng), exercise.answer
        turns.append(
            rng.choice(
                (
                    f'"{asked}" said {one}. "{said}" said {two}.',
                    f'{one} turned to {two}. "{asked}" {cap(she)} thought for a while. "{said}"',
                    f'{one} said to {two}: "{asked}" {two} said: "{said}"',
                    f'"{asked}" {he} asked. {two} did not wait. "{said}" {she} said.',
                )
            )
        )
    return "\n".join(turns)


def school(book: Workbook, rng: Random) -> str:
    """An exercise told as a story at school or at home."""
    who = rng.choice(book.world.names("people"))
    exercise = _any_exercise(book, rng)
    asked, said = _flat(exercise.prompt, rng), exercise.answer
    return rng.choice(
        (
            f"The teacher wrote on the board: {asked}\n{who} took a pen and wrote: {said}\nThe teacher was pleased.",
            f"In the test {who} had to do this: {asked} So {who} wrote: {said}",
            f"{who} found a note in the book. It said: {asked}\nUnder it {who} wrote: {said}",
            f"The game was easy. {who} drew a card and read: {asked} The right reply was: {said}",
        )
    )


def reply(book: Workbook, rng: Random) -> str:
    """A letter that answers a request."""
    to, sender = rng.sample(book.world.names("people"), 2)
    exercise = _any_exercise(book, rng)
    asked, said = _flat(exercise.prompt, rng), exercise.answer
    return rng.choice(
        (
            f"Dear {to},\nyou wrote to me: {asked}\nHere is my reply: {said}\nYours,\n{sender}",
            f"Dear {to},\nThank you for your letter. You said: {asked} Well, {said}\nYours,\n{sender}",
        )
    )


def worksheet(book: Workbook, rng: Random) -> str:
    """One to four exercises with their solutions; on half of the sheets all of one task."""
    tasks = (book.pick(rng, tuple(TASKS)),) if rng.random() < 0.5 else ()
    head = rng.choice(("Exercise", "Task", "Sheet", "Number"))
    tail = rng.choice(("Solution:", "Result:", "Key:", "Done:"))
    rows = [_any_exercise(book, rng, *tasks) for _ in range(rng.choice((1, 1, 2, 3, 4)))]
    return "\n".join(f"{head} {i}. {row.prompt}\n{tail} {row.answer}" for i, row in enumerate(rows, 1))


SPEAKERS = (
    ("Question", "Answer"),
    ("Teacher", "Pupil"),
    ("Mother", "Child"),
    ("Guest", "Host"),
    ("Caller", "Clerk"),
    ("one", "two"),
    ("asked", "told"),
)
MARKS = (("", ":"), ("[", "]"), ("<", ">"), ("(", ")"), ("|", "|"), ("*", "*"), ("#", ""), ("=", "="), ("- ", " -"))


def transcript(book: Workbook, rng: Random) -> str:
    """One to five exercises as turns with marked labels, the form nearest to the chat format, which is not among them.

    `base` sees some, `base-far` none. They often go on, so a model that learned from them alone goes on too.
    """
    labels = rng.choice(SPEAKERS) if rng.random() < 0.7 else tuple(rng.sample(book.world.names("people"), 2))
    before, after = rng.choice(MARKS)
    asks, says = (f"{before}{label}{after}" for label in labels)
    glue = rng.choice((" ", "\n"))
    rows = [_any_exercise(book, rng) for _ in range(rng.choice((1, 2, 3, 4, 5)))]
    return "\n".join(f"{asks}{glue}{row.prompt}\n{says}{glue}{row.answer}" for row in rows)


def writing(book: Workbook, rng: Random) -> str:
    """The answer of a writing task alone."""
    return _any_exercise(book, rng, *WRITING).answer


FORMS: Mapping[str, Document] = {
    form.__name__: form
    for form in (
        description,
        biography,
        facts_in_a_row,
        pairs,
        catalogue,
        dictionary,
        spelling,
        counting,
        story,
        letter,
        recipe,
        rhyme,
        writing,
        conversation,
        school,
        reply,
        worksheet,
        transcript,
    )
}
"""Forms of documents by name; `fixtures/micro/recipe.toml` says how often each is drawn."""
