"""500 hostile strings through every text of a profile: each is refused at its line, or holds nothing that a shell reads."""

import itertools
import re

import pytest

from launcher.cluster.profile import Profile
from launcher.cluster.profiles import read_profile
from launcher.errors import RecipeErrors
from launcher.recipe.describe import entry_of, item_of, keys_of, members, section_of

_PIECES = [
    "$(id)", "`id`", "${HOME}", "$HOME", "$((1))", "$'\\n'", "'", '"', "\\", ";", "&", "&&", "|", "||", ">", "<", ">(id)", "<<E",
    "*", "?", "[", "]", "{a,b}", "!", "!!", "#", "~", "~root", "=", ":", ",", "%j", "%x", "%%", "(", ")", "()", "^", "@", "+",
    " ", "\t", "\n", "\r", "\r\n", "\0", "\x1b[31m", "\x07", "\x7f", "\x85", "\u2028", "\u2029", "\u200b", "\u202e", "\ufeff",
    "é", "日本", "𝒳", "٣", "ﬀ", "\ue000", "-", "--", "-x", "--wrap=id", "-o/x", "..", "../..", "/", "//", "/etc/passwd", ".",
    "#SBATCH --wrap=id", "\n#SBATCH --wrap=id\n", "\nid\n", "true; id", "x y", "a\nb", "x" * 5000, "/" + "x" * 5000,
    "None", "null", "yes", "0", "-1", "1e9", "", "{{ 1 }}", "{% x %}", "<%= 1 %>", "%s%n", "\\x00", "NUL", "CON", "a" * 127 + "-",
]  # fmt: skip
_FRAMES = ["{}", "a{}", "{}a", "a{}b", "/a/{}", "~/{}", "--x={}"]
STRINGS = sorted({frame.format(piece) for frame, piece in itertools.product(_FRAMES, _PIECES)})

_WORD = re.compile(r"[A-Za-z0-9_./@+=:,#%^~\[\]&|*()-]+")
"""What a field may hold in the end; `& | * ( ) [ ]` only in SLURM's own notation, which is quoted where it is written."""
_ONE_LINE = ("description", "setup.0", "queues.q.directives.0", "directives.0", "env.X", "network.env.X")


def quoted(text: str) -> str:
    """A YAML text in double quotes, everything but plain letters as an escape."""
    return '"' + "".join(c if c.isascii() and c.isalnum() else f"\\U{ord(c):08x}" for c in text) + '"'


def lines(section, text: str, key: str = "", depth: int = 0) -> list[tuple[str, str]]:
    """(dotted key, line of YAML) of every text below a section; '' for a line that only leads further down."""
    found = []
    for name, field in keys_of(section).items():
        dotted, pad, head = f"{key}{name}", "  " * depth, f"{'  ' * depth}{name}:"
        entry, item, inner = entry_of(field.annotation), item_of(field.annotation), section_of(field.annotation)
        if inner:
            found += [("", head), *lines(inner, text, f"{dotted}.", depth + 1)]
        elif entry and (named := section_of(entry.annotation)):
            found += [("", head), ("", f"{pad}  q:"), *lines(named, text, f"{dotted}.q.", depth + 2)]
        elif entry:
            found += [("", head), (f"{dotted}.X", f"{pad}  X: {quoted(text)}")]
        elif item:
            found += [("", head), (f"{dotted}.0", f"{pad}- {quoted(text)}")]
        elif str in members(field.annotation):
            found.append((dotted, f"{head} {quoted(text)}"))
    return found


def test_there_are_500_strings_for_every_text():
    """And no text of the profile is forgotten."""
    assert len(STRINGS) >= 500
    keys = {key for key, _ in lines(Profile, "x")} - {""}
    assert {"gres", "queues.q.partition", "paths.data", "container.image", "container.binds.0", "env.X"} <= keys
    assert len(keys) >= 30


@pytest.mark.parametrize("chunk", range(10))
def test_every_text_is_refused_at_its_line_or_harmless(chunk, tmp_path):
    """The file is judged as a whole, as people write it."""
    path = tmp_path / "alpha.yaml"
    for text in STRINGS[chunk::10]:
        written = lines(Profile, text)
        path.write_text("\n".join([line for _, line in written]) + "\ncpus_per_node: 8\nmemory_gib_per_node: 8\n")
        refused = _refused(path)
        for number, (key, _) in enumerate(written, 1):
            if key and (key, number) not in refused:
                assert _harmless(key, text), f"{text!r} passed as {key}"


@pytest.mark.parametrize("template", ["queues: {{{}: {{}}}}", "queues: {{q: {{}}}}\nenv: {{{}: x}}", "{}: x"])
def test_every_name_is_refused_at_its_line_or_harmless(template, tmp_path):
    """Names of queues, of variables, of keys."""
    path = tmp_path / "alpha.yaml"
    for text in STRINGS:
        path.write_text("cpus_per_node: 8\nmemory_gib_per_node: 8\n" + template.format(quoted(text)) + "\n")
        if not (errors := _errors(path)):
            assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", text), f"{text!r} passed"
        for error in errors:
            assert str(error).isprintable()
            assert error.place.line >= 1


def _refused(path) -> set[tuple[str, int]]:
    found = set()
    for error in _errors(path):
        assert str(error).isprintable(), "an error is one line without control characters"
        assert (error.hint or "").isprintable()
        found.add((error.key, error.place.line))
    return found


def _errors(path):
    try:
        read_profile(path)
    except RecipeErrors as caught:
        return caught.errors
    return ()


def _harmless(key: str, text: str) -> bool:
    if key in _ONE_LINE:
        free = key in ("description", "setup.0")
        return "\n" not in text and "\0" not in text and "\r" not in text and (free or not re.search(r"[$`]", text))
    path = re.sub(r"\$\{?[A-Za-z_]\w*\}?", "V", text)
    return bool(_WORD.fullmatch(path)) and not text.startswith("-")
