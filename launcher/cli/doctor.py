"""`launcher doctor`: this machine, with `--cluster NAME` a profile against its site, with `--script FILE` a batch script."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from launcher.errors import Exit, UsageError
from launcher.executors.findings import Finding
from launcher.text import counted


def run(args: Namespace) -> int:
    """Print what was found, one line each with its fix; exit 4 when something will not work."""
    if args.script:
        return _script(args)
    if args.cluster == "local":
        if args.write:
            raise UsageError("--write needs a name", hint="write `launcher doctor --cluster NAME --write`")
        from launcher.executors import machine

        return _answer(machine.findings(Path(args.runs)), "this machine", as_json=args.json)
    if args.write:
        return _write(args.cluster)
    return _profile(args.cluster, as_json=args.json)


def _profile(name: str, *, as_json: bool) -> int:
    from launcher.cluster.site import sites
    from launcher.executors.slurm import doctor, site_facts, surroundings

    profile = sites(name)
    facts = site_facts.look()
    found = [*doctor.findings(profile, facts), *surroundings.findings(profile[0])]
    found.sort(key=lambda each: each.order)
    return _answer(found, f"{profile[0].source} ({counted(len(profile), 'queue')})", as_json=as_json)


def _script(args: Namespace) -> int:
    from launcher.cluster.site import sites
    from launcher.executors.slurm import lint

    if args.write:
        raise UsageError("--script and --write do not go together", hint="write one of them")
    internet = args.cluster == "local" or sites(args.cluster)[0].profile.internet
    found = lint.findings(lint.read(Path(args.script)), args.script, internet=internet)
    return _answer(found, args.script, as_json=args.json)


def _write(name: str) -> int:
    from launcher.cluster.profiles import check_name, own_folder
    from launcher.executors.slurm import draft, site_facts

    check_name(name)
    path = draft.write(own_folder(), name, site_facts.look())
    print(f"{path} is written: look through it, then `launcher doctor --cluster {name}` compares it with the site")
    return Exit.DONE


def _answer(found: Sequence[Finding], what: str, *, as_json: bool) -> int:
    errors = sum(each.level == "error" for each in found)
    if as_json:
        json.dump({"looked_at": what, "findings": [each.json() for each in found]}, sys.stdout, indent=1)
        print()
    else:
        for each in found:
            print(f"{each.level:8}{each}" + (f"\n{'':8}hint: {each.hint}" if each.hint else ""))
        warnings = sum(each.level == "warning" for each in found)
        print(f"{what}: {counted(errors, 'error')}, {counted(warnings, 'warning')}")
    return Exit.ENVIRONMENT if errors else Exit.DONE
