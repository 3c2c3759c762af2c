"""Calendar requests in French and English, as JSON and as a sentence.

Knows the fields of an entry. Days are kept as they are said: working out a date is not what this teaches.
"""

import json
import random
from dataclasses import dataclass

FIELDS = ("title", "date", "start_time", "end_time", "location", "attendees")
SYSTEM = {
    "json": "You turn requests into calendar entries. Answer with one JSON object: " + ", ".join(FIELDS) + ".",
    "prose": "You confirm calendar requests in one sentence.",
}
_PEOPLE = "Adam Alice Bruno Camille Carol David Elena Fatima Gabriel Hannah Ivan Julie Karim Laura Louis Marta Nadia Omar Pierre Sofia Thomas Yasmine".split()  # noqa: SIM905,E501
_EVENTS = {
    "en": ["meeting", "call", "lunch", "review", "workshop", "interview", "training", "demo", "dinner", "briefing"],
    "fr": [
        "réunion",
        "appel",
        "déjeuner",
        "revue",
        "atelier",
        "entretien",
        "formation",
        "démonstration",
        "dîner",
        "briefing",
    ],
}
_DAYS = {
    "en": ["today", "tomorrow", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"],
    "fr": ["aujourd'hui", "demain", "lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi"],
}
_ROOMS = {"en": ("room {r}", "the {w} room", "the cafeteria"), "fr": ("la salle {r}", "le bureau {r}", "la cafétéria")}
_HUES = {"en": ("blue", "red", "large", "small"), "fr": ("bleue", "rouge", "grande", "petite")}
_ASKS = {
    "en": (
        "Schedule a {event} {day} at {at}{rest}.", "Please book a {event} {day} at {at}{rest}.",
        "Can you plan a {event} for {day} at {at}{rest}?", "{day} at {at}: {event}{rest}. Put it in my calendar.",
        "I need a {event} {day}, {at}{rest}.",
    ),
    "fr": (
        "Planifie un rendez-vous ({event}) {day} à {at}{rest}.", "Ajoute : {event} {day} à {at}{rest}.",
        "Peux-tu réserver {day} à {at} pour : {event}{rest} ?", "Mets dans mon agenda : {event}, {day} à {at}{rest}.",
        "Je voudrais : {event} {day}, {at}{rest}.",
    ),
}  # fmt: skip
HELD_OUT_ASKS = {
    "en": ("Find me a slot {day} at {at} for a {event}{rest}.", "Block {day} {at} for the {event}{rest}, will you?"),
    "fr": ("Bloque {day} à {at} : {event}{rest}.", "Il me faut un créneau {day} à {at}, {event}{rest}."),
}
_REST = {
    "en": {"end": " until {end}", "with": " with {people}", "where": " in {where}"},
    "fr": {"end": " jusqu'à {end}", "with": " avec {people}", "where": " dans {where}"},
}


@dataclass(frozen=True)
class CalendarCase:
    language: str
    request: str
    entry: dict[str, object]
    prose: str


def draw_case(rng: random.Random, held_out: bool = False) -> CalendarCase:
    language = rng.choice(("en", "fr"))
    hour, minute = rng.randint(7, 19), rng.choice((0, 0, 15, 30, 45))
    start, end = f"{hour:02d}:{minute:02d}", f"{min(hour + rng.randint(1, 3), 23):02d}:{minute:02d}"
    event, day = rng.choice(_EVENTS[language]), rng.choice(_DAYS[language])
    if rng.random() < 0.2:
        day = f"2026-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"
    people = rng.sample(_PEOPLE, rng.choice((0, 0, 1, 1, 2, 3)))
    where = rng.choice(_ROOMS[language]).format(r=rng.randint(1, 40), w=rng.choice(_HUES[language]))
    parts = [name for name in ("end", "with", "where") if rng.random() < 0.5 and (name != "with" or people)]
    rng.shuffle(parts)
    joined = (" and " if language == "en" else " et ").join(
        [", ".join(people[:-1]), people[-1]] if people[1:] else people
    )
    rest = "".join(_REST[language][name].format(end=end, people=joined, where=where) for name in parts)
    asks = HELD_OUT_ASKS if held_out else _ASKS
    request = rng.choice(asks[language]).format(event=event, day=day, at=start, rest=rest)
    people = people if "with" in parts else []
    entry: dict[str, object] = {
        "title": event.capitalize(), "date": day, "start_time": start, "end_time": end if "end" in parts else None,
        "location": where if "where" in parts else None, "attendees": people,
    }  # fmt: skip
    kept = "".join(
        _REST[language][name].format(end=end, people=joined, where=where)
        for name in ("end", "where", "with")
        if name in parts
    )
    if language == "en":
        prose = rng.choice(("Noted: {e} {d} at {s}{k}.", "Your {e} is booked for {d} at {s}{k}."))
    else:
        prose = rng.choice(("C'est noté : {e} {d} à {s}{k}.", "Votre agenda : {e} {d} à {s}{k}."))
    return CalendarCase(language, request, entry, prose.format(e=event, d=day, s=start, k=kept))


def as_json(entry: dict[str, object]) -> str:
    return json.dumps(entry, ensure_ascii=False)
