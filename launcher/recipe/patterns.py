"""Patterns of names, with the words that messages use for them."""

SLUG = r"^[a-z0-9][a-z0-9._-]{0,63}$"
LABEL = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
TIME_LIMIT = r"^([0-9]{1,3}-)?[0-9]{1,3}:[0-5][0-9]:[0-5][0-9]$"
PROJECT = r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,127}$"
ACCOUNT = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
REPOSITORY = r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$"

WORDS = {
    SLUG: "a slug (1 to 64 of a-z, 0-9, `.`, `_`, `-`, starting with a letter or digit)",
    LABEL: "a label (1 to 64 letters, digits, `_` or `-`, starting with a letter or digit)",
    TIME_LIMIT: "a time as HH:MM:SS or D-HH:MM:SS",
    PROJECT: "a name (1 to 128 letters, digits, `.`, `_`, `-` or blanks, starting with a letter or digit)",
    ACCOUNT: "a name (1 to 128 letters, digits, `.`, `_` or `-`, starting with a letter or digit)",
    REPOSITORY: "`organisation/name`",
}
