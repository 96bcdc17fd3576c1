"""How `horizon.py` compares recordings and scored simulators, and draws them."""

import argparse
from pathlib import Path
from typing import Any

from dreamer_h.files import write_json, write_text
from dreamer_h.horizon.recorded import coverage
from dreamer_h.horizon.recorded.recording import load_recording
from dreamer_h.horizon.scoring import overview
from dreamer_h.horizon.scoring.compare import paired
from dreamer_h.horizon.scoring.figures import figure, table
from dreamer_h.horizon.scoring.scored_files import read_reports


def add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", type=Path, nargs="+", help="folders of `score`")
    parser.add_argument("--against", nargs="+", default=[], help="names; default is every other")
    parser.add_argument("--models", nargs="+", default=[], help="names; default is all")
    parser.add_argument("--out", type=Path, help="default is the first folder")


def run_compare(chosen: argparse.Namespace) -> None:
    folder = chosen.out or chosen.folders[0]
    several = len(chosen.folders) > 1
    reports = {
        f"{path.name}/{name}" if several else name: found
        for path in chosen.folders
        for name, found in read_reports(path).items()
    }
    pairs = paired(chosen.folders, chosen.against, chosen.models)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "paired.json", pairs)
    shown = {k: v for k, v in reports.items() if not chosen.models or k in chosen.models}
    draw(folder, shown, "compare")


def add_overview(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="holds a folder of `score` for each task")
    parser.add_argument("--model", required=True, help="name of the scored model in question")
    parser.add_argument("--rival", required=True, help="name of the one it is held against")


def run_overview(chosen: argparse.Namespace) -> None:
    paths = sorted(path for path in chosen.folder.iterdir() if any(path.glob("*.npz")))
    if not paths:
        raise ValueError(f"no folder in {chosen.folder} holds a scored simulator; `score` some")
    tasks = {path.name: read_reports(path) for path in paths}
    text = overview.table(tasks, chosen.model, chosen.rival)
    overview.figure(tasks).savefig(chosen.folder / "overview.png")
    write_text(chosen.folder / "overview.md", text)
    print(text)
    print(chosen.folder / "overview.png")


def add_cover(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", type=Path, nargs="+", help="folders of `record`, of one task")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")


def run_cover(chosen: argparse.Namespace) -> None:
    recordings = {path.name: load_recording(path) for path in chosen.data}
    if len(recordings) < len(chosen.data):
        raise ValueError("two recordings have the same name; give folders of different names")
    found = coverage.coverage(recordings)
    chosen.out.mkdir(parents=True, exist_ok=True)
    task = next(iter(recordings.values())).task
    write_json(chosen.out / "coverage.json", found)
    write_json(chosen.out / "coverage.rows.json", coverage.rows(found, task))
    text = coverage.table(found)
    write_text(chosen.out / "coverage.md", text)
    print(text)


def draw(folder: Path, reports: dict[str, Any], name: str) -> None:
    """Writes `<name>.png` and `<name>.md` and prints the table."""
    figure(reports).savefig(folder / f"{name}.png")
    write_text(folder / f"{name}.md", table(reports))
    print(table(reports))
    print(f"{folder / name}.png")
