"""Reads a customer's message the way a person would, knowing nothing of the generator: the tests' second opinion."""

import re

NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
GROUPS = {"pair of": 2, "half a dozen": 6, "half dozen": 6, "dozen": 12}
COLOURS = "black|blue|brown|green|grey|orange|purple|red|white|yellow"
GOODS = re.compile(rf"\b(pair of|half a dozen|half dozen|dozen|\d+|{'|'.join(NUMBERS)}) ({COLOURS}) ([a-z]+)")
DAY = re.compile(r"\b(Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b")
TOWN = re.compile(r"\b(?:in|In|to|for) ([A-Z][a-z]+)\b")
WHO = re.compile(r"this is (\w+)|my name is (\w+)|^(\w+) speaking|^Hi! (\w+) here|(\w+)$")
CUES = {
    "return": r"send them back|want to return|take them back|give back|money back|post them back",
    "cancel": r"cancel|no longer need|Forget about|Do not send|do not want|call off",
    "track": r"Where are|still waiting|anybody sent|nothing has come|When will|how far",
    "order": r"would like|Please send|Could you deliver|We need|Can I buy|Put me down|love to have",
}


def read(message: str) -> str:
    """The ticket of a message; raises where the message can be read in two ways."""
    ((number, colour, plural),) = GOODS.findall(message)
    days = set(DAY.findall(message))
    (town,) = {town for town in TOWN.findall(message) if not re.match(DAY, town)}
    (name,) = {found for found in WHO.search(message).groups() if found}  # type: ignore[union-attr]
    intents = [intent for intent, cue in CUES.items() if re.search(cue, message)]
    assert len(days) <= 1
    assert len(intents) == 1
    day = days.pop()[:3] if days else "none"
    return (
        f"intent: {intents[0]}; quantity: {quantity(number)}; item: {colour} {singular(plural)}; "
        f"name: {name}; town: {town}; day: {day}"
    )


def quantity(said: str) -> int:
    """`seven`, `7` and `half a dozen` as a number."""
    if said in GROUPS:
        return GROUPS[said]
    return int(said) if said.isdigit() else NUMBERS.index(said)


def singular(plural: str) -> str:
    """English, as far as a shop needs it."""
    if plural.endswith("ves"):
        return {"knives": "knife", "shelves": "shelf"}[plural]
    return plural[:-2] if plural.endswith(("ches", "shes")) else plural[:-1]
