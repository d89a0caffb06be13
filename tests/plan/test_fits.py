"""Every shipped recipe on {24, 48, 80, 141 GB} × {1, 2, 8 GPUs}: the page, and what must hold in it."""

import pytest

from launcher.catalog.gpus import gpu
from launcher.cluster.load import load_cluster
from launcher.plan.facts import gather
from launcher.plan.make import make_plan
from launcher.recipe.load import load_recipe
from tests.plan import fits, screens

SOME = ("RTX4090x1", "L40Sx2", "H100x8")
"""Nodes that `make test` plans for; all of them take half a minute."""


@pytest.fixture(scope="module", autouse=True)
def _as_anywhere():
    with fits.anywhere():
        yield


@pytest.fixture(scope="module")
def some(_as_anywhere):
    return [fits.row(recipe, on) for recipe in fits.RECIPES for on in SOME]


@pytest.fixture(scope="module")
def rows(_as_anywhere):
    return fits.rows()


def predicted(rows):
    return [each for each in rows if each.plan and each.plan.prediction]


def fixed(rows):
    """What each fix of each plan comes to, typed as it is offered."""
    for each in predicted(rows):
        for fix in each.plan.prediction.fixes:
            cluster, loaded = load_cluster("local", on=each.on), load_recipe(fits.ROOT / each.recipe, list(fix.sets))
            yield each, fix, make_plan(loaded, cluster, gather(loaded, cluster)).plan.prediction


def test_the_page_holds_what_is_planned(some):
    """`make golden` writes it; three nodes of each recipe are compared here."""
    page = fits.PAGE.read_text(encoding="utf-8").splitlines()
    for each in some:
        start = page.index(f"## {each.recipe.stem}")
        assert fits.line(each) in page[start : start + 24], (each.recipe, each.on)


def test_every_recipe_is_planned(some):
    """Only batches that do not divide are refused, and every plan has a prediction with its time."""
    assert len(some) == 3 * len(fits.RECIPES) >= 27
    assert all("do not divide" in each.refused for each in some if each.plan is None)
    assert all(each.plan.prediction.time for each in some if each.plan)


def test_a_verdict_is_what_its_numbers_say(some):
    """Fits: a tenth of the peak is spare. Does not fit: more than is free. Free is less than the GPU has."""
    for each in predicted(some):
        found, name = each.plan.prediction, each.on.rpartition("x")[0]
        assert found.capacity < gpu(name).memory_mib * 2**20
        needed = found.memory.total
        said = "does not fit" if needed > found.capacity else "fits" if 1.1 * needed <= found.capacity else "tight"
        assert found.verdict == said, each.on


def test_every_fix_fits_by_its_own_prediction(some):
    """Each line that a plan offers is planned as a reader would type it."""
    tried = list(fixed(some))
    assert len(tried) >= 4
    for each, fix, found in tried:
        assert (found.verdict, found.memory.total) == ("fits", fix.memory), (each.recipe, each.on, fix.sets)


@pytest.mark.slow
def test_the_whole_page_is_current(rows):
    """108 plans and more."""
    assert fits.PAGE.read_text(encoding="utf-8") == fits.page(rows)


@pytest.mark.slow
def test_a_larger_gpu_never_fits_less(rows):
    """What fits 24 GB fits 48, 80 and 141."""
    order = ["does not fit", "tight", "fits"]
    for recipe in fits.RECIPES:
        for count in fits.COUNTS:
            found = [each for each in predicted(rows) if each.recipe == recipe and each.on.endswith(f"x{count}")]
            ranks = [order.index(each.plan.prediction.verdict) for each in found]
            assert ranks == sorted(ranks), (recipe, count)


@pytest.mark.slow
def test_every_fix_of_the_page_fits(rows):
    """As above, on all nodes."""
    tried = list(fixed(rows))
    assert len(tried) > 20
    for each, fix, found in tried:
        assert (found.verdict, found.memory.total) == ("fits", fix.memory), (each.recipe, each.on, fix.sets)


@pytest.mark.parametrize(
    "page", [screens.PAGES[0], pytest.param(screens.PAGES[1], marks=pytest.mark.slow)], ids=["README", "planner"]
)
def test_screens_in_pages_are_what_the_commands_print(page):
    """`make golden` renews them."""
    text = page.read_text(encoding="utf-8")
    assert screens.SCREEN.search(text)
    assert screens.renewed(text) == text
