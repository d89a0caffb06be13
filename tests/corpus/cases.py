"""The corpus of bad input: data D01 to D60, tokenizer and model T01 to T20, each as files, a recipe and what must come of it."""

from tests.corpus import files, models, rows, sets
from tests.corpus.case import Case

ALL: tuple[Case, ...] = tuple(sorted((*rows.CASES, *files.CASES, *sets.CASES, *models.CASES), key=lambda case: case.id))
IDS = tuple(f"D{number:02d}" for number in range(1, 61)) + tuple(f"T{number:02d}" for number in range(1, 21))
