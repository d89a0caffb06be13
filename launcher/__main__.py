"""`python -m launcher`: the same as the `launcher` command."""

from launcher.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
