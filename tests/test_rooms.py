"""Who may import whom: a line, so that each room can be read without those after it."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = [
    "types",
    "files",
    "guard",
    "limits",
    "config",
    "fields",
    "presets",
    "nn",
    "replay",
    "world",
    "behaviour",
    "simulated",
    "planning",
    "horizon",
    "train",
]
# outermost: nothing in dreamer_h imports them, and environments know nothing of scripts; those of
# the learned simulator know dreamer_h, and are made by their name only
OUTSIDE = ["envs", "learned", "scripts"]
FILES = sorted(
    path.relative_to(ROOT)
    for room in ("dreamer_h", "envs", "scripts")
    for path in (ROOT / room).rglob("*.py")
)


def room_of(module: str) -> str | None:
    """`dreamer_h.nn.layers` -> nn; `envs.dmc` -> envs; `envs.learned.vector` -> learned; None for
    other people's modules."""
    parts = module.split(".")
    if parts[:2] == ["envs", "learned"]:
        return "learned"
    if parts[0] in OUTSIDE:
        return parts[0]
    return parts[1] if parts[0] == "dreamer_h" and len(parts) > 1 else None


def imported(source: str) -> list[str]:
    """Every module that a file imports, at the top or inside functions."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the room"
            # `from dreamer_h import nn` names its room last
            found += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("import_module", "__import__") and isinstance(node.args[0], ast.Constant):
                found.append(node.args[0].value)
    return found


def offence(importer: str, importee: str) -> bool:
    """Whether a file of room `importer` must not import from room `importee`."""
    if importer == importee:
        return False
    if importer in ORDER:
        return importee not in ORDER or ORDER.index(importee) > ORDER.index(importer)
    if importer == "learned":
        return importee == "scripts"
    return importer == "envs" and importee != "types"


def test_there_is_something_to_check():
    assert len(FILES) > 30
    assert any(path.parts[:2] == ("dreamer_h", "train") for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_room_imports_from_a_room_to_its_right(path):
    room = room_of(".".join(path.with_suffix("").parts))
    if path == Path("dreamer_h/__init__.py"):
        assert not imported((ROOT / path).read_text()), "the package itself imports nothing"
        return
    assert room in ORDER + OUTSIDE, f"{path} is in a room that has no place in the order"
    wrong = [
        module
        for module in imported((ROOT / path).read_text())
        if (other := room_of(module)) and offence(room, other)
    ]
    assert not wrong, f"{path} imports {wrong}"


def part_of(module: str) -> str:
    """A folder of a room, or a file that stands in the room itself: `dreamer_h.train.loop`."""
    return ".".join(module.split(".")[:3])


@pytest.mark.parametrize(
    "room", ["behaviour", "horizon", "nn", "replay", "simulated", "train", "world"]
)
def test_parts_of_a_room_import_each_other_one_way(room):
    graph: dict[str, set[str]] = {}
    for path in (ROOT / "dreamer_h" / room).rglob("*.py"):
        here = part_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        there = map(part_of, imported(path.read_text()))
        graph.setdefault(here, set()).update(
            other for other in there if room_of(other) == room and other != here
        )
    assert len(graph) > 3
    TopologicalSorter(graph).prepare()  # raises CycleError, with the circle


def test_the_parser_finds_imports_in_functions_and_by_name():
    source = """
import numpy, envs.dmc as d
def f():
    from dreamer_h import train
    from dreamer_h.nn.layers import MLP
    __import__("scripts.train")
"""
    found = [room for module in imported(source) if (room := room_of(module))]
    assert sorted(found) == ["envs", "nn", "scripts", "train"]


def test_the_order_is_one_way():
    assert offence("nn", "world") and not offence("world", "nn")
    assert offence("train", "envs") and offence("behaviour", "scripts")
    assert offence("envs", "scripts") and offence("envs", "train")
    assert not offence("scripts", "envs") and not offence("scripts", "train")
    assert not offence("learned", "train") and not offence("learned", "envs")
    assert offence("envs", "learned") and offence("train", "learned")
