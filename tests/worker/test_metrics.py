"""Each metric by a worked example, counted by hand."""

import subprocess
import sys
from decimal import Decimal
from typing import get_args

import pytest

from launcher.errors import EnvironmentFault
from launcher.recipe.evaluation import MetricName
from launcher.worker import metrics


def test_the_recipe_and_the_worker_name_the_same_metrics():
    """A metric that only one side knows would be refused there, or fail after hours of training here."""
    assert set(metrics.METRICS) == set(get_args(MetricName))


def test_every_metric_says_its_range_and_direction():
    """A number in a report is worthless without them."""
    for function in metrics.METRICS.values():
        assert "Range 0 to 1" in function.__doc__
        assert "higher is better" in function.__doc__


def test_exact_match_counts_equal_texts():
    """Two of four: blanks at the ends do not count, case does."""
    assert metrics.exact_match(["Paris", " Rome\n", "paris", "Par is"], ["Paris", "Rome", "Paris", "Paris"]) == 2 / 4


def test_numeric_match_compares_values_not_spellings():
    """Three of four: 1,234.50 is 1234.5, $18 is 18.00, the last number of the text counts; 7 is not -7."""
    predictions = ["so 1,234.50", "She pays $18.", "3 + 4 = 7", "7"]
    references = ["#### 1234.5", "#### 18.00", "7", "#### -7"]

    assert metrics.numeric_match(predictions, references) == 3 / 4


def test_numeric_match_without_a_number_is_no_match():
    """Two texts without numbers agree on nothing."""
    assert metrics.numeric_match(["none"], ["none"]) == 0


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is 72.", "72"),
        ("He ate 5 of 12\n#### 7", "7"),
        ("#### 7\nThat took 3 steps", "3"),
        ("12 in all #### none", "12"),
        ("1,234,567", "1234567"),
        ("1,2345", "2345"),
        ("1, 2", "2"),
        ("12,34", "34"),
        ("10-5", "5"),
        ("f(2)-3", "3"),
        ("x = -5", "-5"),
        ("(−3)", "-3"),
        ("-$1,000.50", "-1000.50"),
        ("$-5", "-5"),
        ("50%", "50"),
        (".5", "0.5"),
        ("3/4", "4"),
        ("2e3", "2000"),
        ("3.14.", "3.14"),
        ("+5", "5"),
    ],
)
def test_the_final_number_follows_the_documented_rule(text, number):
    """Each line of the rule in `docs/metrics.md`."""
    assert metrics.final_number(text) == Decimal(number)


def test_a_text_without_digits_has_no_number():
    """Nothing to compare is not zero."""
    assert metrics.final_number("no. $ - e") is None


def test_chrf_of_a_worked_example():
    """`abcd` against `abce`: precision and recall are 3/4, 2/3, 1/2 and 0 for 1- to 4-grams; their mean over these four orders is 23/48."""
    assert metrics.chrf(["abcd"], ["abce"]) == pytest.approx(100 * 23 / 48)
    assert metrics.chrf(["abcd", "x"], ["abcd", "x"]) == pytest.approx(100)


def test_rouge_l_of_a_worked_example():
    """Common subsequence "police the gunman" is 3 of 4 and 3 of 5 words: F1 = 2·3/(4+5). The second pair shares nothing."""
    predictions = ["Police kill the gunman", "one"]
    references = ["police ended the gunman, quickly", "two"]

    assert metrics.rouge_l(predictions, references) == pytest.approx((6 / 9 + 0) / 2)


def test_rouge_l_reads_every_script():
    """Words of other alphabets count, and each character does where words are not separated."""
    assert metrics.rouge_l(["Grüße aus Köln"], ["Grüße aus Bonn"]) == pytest.approx(4 / 6)
    assert metrics.rouge_l(["我爱你"], ["我爱他"]) == pytest.approx(4 / 6)


def test_rows_must_pair_up():
    """A lost row would shift every later pair and give a wrong score in silence."""
    for metric in metrics.METRICS.values():
        with pytest.raises(ValueError, match="shorter"):
            metric(["a", "b"], ["a"])
        with pytest.raises(ValueError, match="no rows"):
            metric([], [])


def test_a_missing_package_is_named_before_anything_runs():
    """The user learns it when the run starts, not when hours of training have ended."""
    code = (
        "import sys; sys.modules['sacrebleu'] = None\n"
        "from launcher.worker import metrics\n"
        "metrics.require(['exact_match', 'rouge_l'])\n"
        "metrics.require(['chrf'])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert "EnvironmentFault: metric `chrf` needs the package `sacrebleu`" in result.stderr
    assert EnvironmentFault.exit_code == 4
