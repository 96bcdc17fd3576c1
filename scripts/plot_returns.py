"""Returns beside published ones and SAC: `python scripts/plot_returns.py results/<name>`.

Reads `summary.json` of the folder (rows `return_…` and `minutes`) and `results/reference/`; writes
`returns.png`, `table.md` and, of managers, `gap.png` into the folder. Works with whatever tasks,
variants, seeds and steps are there.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from plot_parts.gap import draw_gap
from plot_parts.returns import draw
from plot_parts.table import table

from dreamer_h.files import write_text
from dreamer_h.train.evaluation.curves import of_variants, read_reference, read_runs

REFERENCE = Path(__file__).parents[1] / "results" / "reference"


def save(figure: Figure, path: Path) -> None:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    # a palette: a third of the bytes, and git keeps every version; the median cut would
    # give a thin line the colour of another
    colors = picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    colors.save(path, optimize=True)
    print(path)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="results/<name>, with a summary.json")
    parser.add_argument("--draw", nargs="+", metavar="VARIANT", help="of returns.png; else all")
    chosen = parser.parse_args(arguments)
    folder = chosen.folder
    runs, reference = read_runs(folder), read_reference(REFERENCE)
    save(draw(of_variants(runs, chosen.draw), reference), folder / "returns.png")
    gap = draw_gap(runs)
    if gap is not None:
        save(gap, folder / "gap.png")
    write_text(folder / "table.md", table(runs, reference))
    print(folder / "table.md")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (ValueError, OSError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
