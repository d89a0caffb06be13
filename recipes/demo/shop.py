"""The small world of the demo: customers of a mail-order shop, what they write, and what they mean by it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

NAMES = (
    "Amara", "Ben", "Chloe", "Dmitri", "Elena", "Farid", "Grace", "Hiro",
    "Ines", "Kofi", "Marta", "Nadia", "Oscar", "Priya", "Tomas", "Yusuf",
)  # fmt: skip
TOWNS = (
    "Bristol", "Cardiff", "Dover", "Exeter", "Glasgow", "Hull", "Ipswich", "Leeds",
    "Norwich", "Oxford", "Perth", "Ripon", "Truro", "York",
)  # fmt: skip
PLURALS = {
    "basket": "baskets", "bench": "benches", "blanket": "blankets", "brush": "brushes", "candle": "candles",
    "chair": "chairs", "clock": "clocks", "cup": "cups", "dish": "dishes", "jug": "jugs", "knife": "knives",
    "lamp": "lamps", "mirror": "mirrors", "rug": "rugs", "shelf": "shelves", "tray": "trays",
}  # fmt: skip
ITEMS = tuple(PLURALS)
COLOURS = ("black", "blue", "brown", "green", "grey", "red", "white", "yellow")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NUMBERS = {
    2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven",
    8: "eight", 9: "nine", 10: "ten", 11: "eleven", 12: "twelve",
}  # fmt: skip
GROUPS = {2: ("a pair of", "the pair of"), 6: ("half a dozen", "the half dozen"), 12: ("a dozen", "the dozen")}

# What a customer can want, and how they put it. {goods}: "three green lamps" (with "the" where they are known already);
# {town}: where; {when}: " by Friday", or nothing.
BODIES = {
    "order": (
        "I would like {goods}, sent to {town}{when}.",
        "Please send {goods} to {town}{when}.",
        "Could you deliver {goods} to our house in {town}{when}?",
        "We need {goods} for our office in {town}{when}.",
        "Can I buy {goods}? They should go to {town}{when}.",
        "Put me down for {goods}, to be brought to {town}{when}.",
        "My sister in {town} would love to have {goods}{when}.",
    ),
    "cancel": (
        "Please cancel {goods} that should go to {town}{when}.",
        "I no longer need {goods} in {town}{when}.",
        "Forget about {goods} for {town}{when}, we changed our minds.",
        "Do not send {goods} to {town}{when} after all.",
        "We do not want {goods} in {town}{when} any more.",
        "I have to call off {goods} meant for {town}{when}.",
    ),
    "return": (
        "You brought {goods} to {town}{when}, but they are broken. I will send them back.",
        "I want to return {goods} that came to {town}{when}.",
        "We got {goods} in {town}{when} and they do not fit. Please take them back.",
        "How do I give back {goods} that you left in {town}{when}?",
        "In {town} we unpacked {goods}{when}, all cracked. I want my money back.",
        "My brother in {town} does not like {goods} he got{when} and will post them back.",
    ),
    "track": (
        "Where are {goods} that should have been in {town}{when}?",
        "I am still waiting in {town} for {goods} promised{when}. Any news?",
        "Has anybody sent {goods} to {town} yet? We expected them{when}.",
        "You promised {goods} for {town}{when}, and nothing has come.",
        "When will {goods} get to {town}? They were due{when}.",
        "Can you check how far {goods} for {town} have got? We hoped to see them{when}.",
    ),
}
BEFORE_DAY = {
    "order": ("by", "before", "on", "for"),
    "cancel": ("by", "on", "this"),
    "return": ("on", "last", "this"),
    "track": ("by", "before", "on", "last"),
}
OPENINGS = ("Hello, this is {name}.", "Hi! {name} here.", "Good morning, my name is {name}.", "{name} speaking.")
GREETINGS = ("Hello.", "Good evening.", "Hi there!", "Dear shop,", "")
ASIDES = ("I hope you are well.", "It is raining here again.", "We love your shop.", "Sorry for the short note.")
CLOSINGS = ("Thank you!", "Many thanks.", "Please write back soon.", "")
SIGNATURES = ("Regards, {name}", "Best wishes, {name}", "Yours, {name}", "{name}")


@dataclass(frozen=True)
class Request:
    """What one customer means. `day` is None where the message names none."""

    intent: str
    quantity: int
    colour: str
    item: str
    name: str
    town: str
    day: str | None

    @property
    def held_out(self) -> bool:
        """Whether this pair of item and town is kept from every text that trains: one pair in eight."""
        return (ITEMS.index(self.item) + TOWNS.index(self.town)) % 8 == 0


def pick(rng: random.Random, options: Sequence[T]) -> T:
    """One of the options; only `random()`, whose sequence is the same in every Python, decides."""
    return options[int(rng.random() * len(options))]


def request(rng: random.Random, *, held_out: bool) -> Request:
    """A random request on the wanted side of the held-out split."""
    while True:
        day = pick(rng, DAYS) if rng.random() < 0.8 else None
        made = Request(
            pick(rng, tuple(BODIES)), pick(rng, tuple(NUMBERS)), pick(rng, COLOURS), pick(rng, ITEMS),
            pick(rng, NAMES), pick(rng, TOWNS), day,
        )  # fmt: skip
        if made.held_out == held_out:
            return made


def goods(rng: random.Random, wanted: Request) -> str:
    """Quantity, colour and item as people say them: `3 red jugs`, `the dozen red jugs`."""
    known = wanted.intent != "order"
    number = pick(rng, (str(wanted.quantity), NUMBERS[wanted.quantity]))
    if wanted.quantity in GROUPS and rng.random() < 0.5:
        number = GROUPS[wanted.quantity][known]
    elif known:
        number = f"the {number}"
    return f"{number} {wanted.colour} {PLURALS[wanted.item]}"


def message(rng: random.Random, wanted: Request) -> str:
    """One way to write down a request."""
    when = f" {pick(rng, BEFORE_DAY[wanted.intent])} {wanted.day}" if wanted.day else ""
    body = pick(rng, BODIES[wanted.intent]).format(goods=goods(rng, wanted), town=wanted.town, when=when)
    aside = pick(rng, ASIDES) if rng.random() < 0.3 else ""
    if rng.random() < 0.5:
        parts = (pick(rng, OPENINGS), aside, body, pick(rng, CLOSINGS))
    else:
        parts = (pick(rng, GREETINGS), aside, body, pick(rng, CLOSINGS), pick(rng, SIGNATURES))
    return " ".join(part for part in parts if part).format(name=wanted.name)


def ticket(wanted: Request) -> str:
    """The one correct answer: six fields on one line, with singular goods, a quantity in digits and a three-letter day."""
    fields = {
        "intent": wanted.intent,
        "quantity": str(wanted.quantity),
        "item": f"{wanted.colour} {wanted.item}",
        "name": wanted.name,
        "town": wanted.town,
        "day": wanted.day[:3] if wanted.day else "none",
    }
    return "; ".join(f"{field}: {value}" for field, value in fields.items())
