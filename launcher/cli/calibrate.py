"""`launcher calibrate [RUN…]`: teach later plans what runs measured."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from launcher.cluster import calibrations, local
from launcher.errors import Exit, UsageError
from launcher.executors.lessons import Lesson, lesson
from launcher.predict.calibration import Point, learn
from launcher.render import calibration_text
from launcher.runs import names


def run(args: Namespace) -> int:
    """Fold runs into the file of their device: those that are named, else all finished ones on what this machine has."""
    here = calibrations.device_in(local.detect())
    if args.show:
        if args.named:
            raise UsageError("--show learns nothing from runs", hint="leave the names out, or `--show`")
        return _show(args, [here] if here else [])
    if not args.named and Path(args.runs) != names.default_root() and not Path(args.runs).is_dir():
        raise UsageError(f"no folder {args.runs}")
    named = [names.find(Path(args.runs), each) for each in args.named]
    found = [lesson(each) for each in named or names.existing(Path(args.runs))]
    usable = [each for each in found if each.point and (named or (each.done and each.device == here))]
    devices = list(dict.fromkeys(each.device for each in usable if each.device))
    new = {device: _fold(device, [each for each in usable if each.device == device]) for device in devices}
    if args.json:
        return _show(args, devices)
    for device, count in new.items():
        points, _ = calibrations.known(device)
        print(f"{calibration_text.screen(device, points)}\n\n{count} new · {calibrations.path_of(device)}")
    for line in _passed_over(found, usable, here):
        print(line)
    if not usable:
        print(f"no finished run on {here} to learn from in {args.runs}; `launcher run RECIPE` makes one")
    return Exit.DONE


def _fold(device: str, lessons: Sequence[Lesson]) -> int:
    """Add runs to a device's file, in place of what they taught before; returns how many it did not know."""
    before, _ = calibrations.known(device)
    points = [each.point for each in lessons if each.point]
    again = {point.run for point in points}
    calibrations.write(device, [*(point for point in before if point.run not in again), *points])
    return len(again - {point.run for point in before})


def _passed_over(found: Sequence[Lesson], usable: Sequence[Lesson], here: str | None) -> Iterator[str]:
    for each in found:
        if each not in usable:
            why = each.why or (f"it ran on {each.device}, not on {here}" if each.done else "it is not finished")
            yield f"not taken: {each.name}: {why}"


def _show(args: Namespace, devices: Sequence[str]) -> int:
    """What the files say now."""
    known: dict[str, tuple[Point, ...]] = {device: calibrations.known(device)[0] for device in devices}
    if args.json:
        print(json.dumps([asdict(learn(device, points)) for device, points in known.items()], indent=1))
        return Exit.DONE
    for device, points in known.items():
        if points:
            print(f"{calibration_text.screen(device, points)}\n\n{calibrations.path_of(device)}")
        else:
            print(f"nothing is learned about {device}: `launcher calibrate` takes the finished runs of a folder")
    return Exit.DONE
