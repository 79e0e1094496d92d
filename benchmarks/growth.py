"""How time and memory grow with the size of the images and with their number.

    benchmarks/backbones.py --dtypes fp32 --sizes 224 384 512 768 1024 1536 \\
        224@4 224@16 --variants iFormer-S iFormer-S+window --out DIR
    benchmarks/growth.py DIR/backbones.json

Prints a table and writes growth.png beside the file. An exponent is the slope
of a straight line through logarithms: 1 where twice the pixels cost twice as
much, 2 where they cost four times as much.
"""
import argparse
import json
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure
from tables import line

QUANTITIES = {'median': 'time', 'memory': 'memory'}
TITLES = ('mode', 'variant', 'of', 'pixels, all sizes', 'the two largest',
          'images')

Points = List[Tuple[float, float]]


class Curve(NamedTuple):
    """One quantity of a variant in a mode; the points are (pixels of an image,
    value) for one image, and (images, value) at the smallest size."""
    mode: str
    variant: str
    quantity: str
    pixels: Points
    images: Points


def read_curves(rows: Sequence[Dict]) -> List[Curve]:
    """The curves of the rows that backbones.py has measured."""
    rows = [row for row in rows if not row['failure']]
    names = dict.fromkeys((row['mode'], row['variant']) for row in rows)
    curves = []
    for mode, variant in names:
        own = [dict(row, pixels=row['height'] * row['width']) for row in rows
               if (row['mode'], row['variant']) == (mode, variant)]
        smallest = min(row['pixels'] for row in own)
        for quantity in QUANTITIES:
            curves.append(Curve(
                mode, variant, quantity,
                sorted((row['pixels'], row[quantity]) for row in own
                       if row['batch'] == 1),
                sorted((row['batch'], row[quantity]) for row in own
                       if row['pixels'] == smallest)))
    return curves


def exponent(points: Points) -> float:
    """The p of ``value = c * x ** p``, by least squares of the logarithms;
    NaN of fewer than two points."""
    if len(points) < 2:
        return float('nan')
    x, y = np.log(points).T
    return float(np.polyfit(x, y, 1)[0])


def markdown(curves: Sequence[Curve]) -> str:
    """The table of exponents."""
    lines = [line(TITLES), line(['---'] * 3 + ['---:'] * 3)]
    for curve in curves:
        exponents = [exponent(points) for points in (
            curve.pixels, curve.pixels[-2:], curve.images)]
        lines.append(line([
            curve.mode, curve.variant, QUANTITIES[curve.quantity],
            *('' if np.isnan(p) else f'{p:.2f}' for p in exponents)]))
    return '\n'.join(lines)


def draw(curves: Sequence[Curve]) -> Figure:
    """A row of panels for time and one for memory, a column for the side of
    one image and one for the number of images; both axes logarithmic."""
    figure = Figure(layout='constrained', figsize=(9, 7))
    panels = figure.subplots(2, 2, sharex='col', sharey='row')
    variants = list(dict.fromkeys(curve.variant for curve in curves))
    for curve in curves:
        row = panels[list(QUANTITIES).index(curve.quantity)]
        unit = 2 ** 20 if curve.quantity == 'memory' else 1
        sides = [(pixels ** 0.5, y) for pixels, y in curve.pixels]
        for axes, points in zip(row, (sides, curve.images)):
            x, y = zip(*points)
            axes.loglog(x, np.array(y) / unit, marker='o', base=2,
                        label=f'{curve.variant}, {curve.mode}',
                        color=f'C{variants.index(curve.variant)}',
                        linestyle='-' if curve.mode == 'forward' else '--')
            axes.set_xticks(x, [f'{value:.0f}' for value in x])
            axes.yaxis.set_major_formatter('{x:g}')
            axes.grid(alpha=0.3)
    panels[0][0].set_ylabel('time, s')
    panels[1][0].set_ylabel('memory, MiB')
    panels[1][0].set_xlabel('side of one image, pixels')
    panels[1][1].set_xlabel('images of the smallest size')
    panels[0][0].legend()
    return figure


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('report', type=Path, help='backbones.json')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    curves = read_curves(json.loads(args.report.read_text())['rows'])
    draw(curves).savefig(args.report.parent / 'growth.png', dpi=100)
    print(markdown(curves))


if __name__ == '__main__':
    main()
