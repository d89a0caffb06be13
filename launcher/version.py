"""The version, written once more than in pyproject.toml because reading package metadata costs start-up time; a test compares them."""

VERSION = "0.1.0"
