"""Patterns of names, with the words that messages use for them."""

SLUG = r"^[a-z0-9][a-z0-9._-]{0,63}$"
LABEL = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
TIME_LIMIT = r"^([0-9]{1,3}-)?[0-9]{1,3}:[0-5][0-9]:[0-5][0-9]$"
PROJECT = r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,127}$"
ACCOUNT = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
CURRENCY = r"^[A-Z]{3}$"
REPOSITORY = r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$"

# What becomes a word of an sbatch option or of a script: no blank, quote, newline, `$(` or leading dash gets there.
WORD = r"^[A-Za-z0-9_][A-Za-z0-9_.@:+-]{0,127}$"
LIST = r"^[A-Za-z0-9_][A-Za-z0-9_.,@:+\[\]-]{0,255}$"
CONSTRAINT = r"^[A-Za-z0-9_(\[][A-Za-z0-9_.&|*()\[\],-]{0,255}$"
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
MODULE = r"^[A-Za-z0-9_][A-Za-z0-9_./+@=-]{0,127}$"
INTERFACE = r"^[=^]{0,2}[A-Za-z0-9][A-Za-z0-9_.,-]{0,63}$"
_VARIABLE_IN_PATH = r"\$[A-Za-z_][A-Za-z0-9_]*|\$\{[A-Za-z_][A-Za-z0-9_]*\}"
_IN_PATH = rf"(?:[A-Za-z0-9_./@+=-]|{_VARIABLE_IN_PATH}){{0,512}}"
_PATH = rf"(?:~?/|{_VARIABLE_IN_PATH}){_IN_PATH}"
FOLDER = rf"^{_PATH}$"
BIND = rf"^{_PATH}(?::/[A-Za-z0-9_./@+=-]{{0,512}})?(?::(?:ro|rw))?$"
INTERPRETER = rf"^(?:python[0-9.]{{0,8}}|{_PATH})$"
IMAGE = rf"^(?:{_PATH}|[A-Za-z0-9_][A-Za-z0-9_./:#@+=-]{{0,1023}})$"
ONE_LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]{0,2000}$"
LITERAL = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029$`]{0,2000}$"

WORDS = {
    SLUG: "a slug (1 to 64 of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit)",
    LABEL: "a label (1 to 64 letters, digits, `_` or `-`, starting with a letter or digit)",
    TIME_LIMIT: "a time as HH:MM:SS or D-HH:MM:SS",
    PROJECT: "a name (1 to 128 letters, digits, `.`, `_`, `-` or blanks, starting with a letter or digit)",
    ACCOUNT: "a name (1 to 128 letters, digits, `.`, `_` or `-`, starting with a letter or digit)",
    CURRENCY: "three capital letters (EUR, USD)",
    REPOSITORY: "`organisation/name`",
    WORD: "a name (1 to 128 of a-z, A-Z, 0-9, `_ . @ : + -`, starting with a letter, digit or `_`)",
    LIST: "names in SLURM's notation (a-z, A-Z, 0-9, `_ . , @ : + [ ] -`, starting with a letter, digit or `_`)",
    CONSTRAINT: "features in SLURM's notation (a-z, A-Z, 0-9, `_ . & | * ( ) [ ] , -`)",
    MODULE: "a module (a-z, A-Z, 0-9, `_ . / + @ = -`, starting with a letter, digit or `_`)",
    INTERFACE: "interface names (`ib0`), or NCCL's notation (`=ib0`, `^lo,docker`)",
    FOLDER: "an absolute path (from `/`, `~/` or `$VARIABLE`; a-z, A-Z, 0-9, `_ . / @ + = -`)",
    BIND: "`/from`, `/from:/to` or `/from:/to:ro` (from `/`, `~/` or `$VARIABLE`; a-z, A-Z, 0-9, `_ . / @ + = -`)",
    INTERPRETER: "`python3`, or an absolute path (from `/`, `~/` or `$VARIABLE`; a-z, A-Z, 0-9, `_ . / @ + = -`)",
    IMAGE: "an absolute path or an image's name (a-z, A-Z, 0-9, `_ . / : # @ + = -`)",
    ONE_LINE: "one line of text, without control characters",
    LITERAL: "one line of text, without control characters, `$` and backticks (it is not expanded)",
}
