"""The results as Markdown, JSON and a picture."""
import json
from pathlib import Path
from typing import Dict, List, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

TITLES = ('size', 'variant', 'ms', 'quartiles', 'speedup', 'memory MiB',
          'of peak', 'error')
NOTES = """\
- **ms**: median of the samples, wall clock, launches included. All variants of
  a size run in one process and are sampled in interleaved rounds.
- **speedup**: over the variant marked 1.00.
- **memory**: maximum that a step allocates above weights and optimizer states,
  in PyTorch's own allocator.
- **of peak**: multiply-adds per second, relative to the machine's rate of
  matrix products. One multiplication with its addition counts 1, attention is
  included, a training step counts as three forward passes.
- **error**: largest difference from the same network run eagerly in fp32,
  relative to the standard deviation of the map.
- `train` is forward, loss, backward and an AdamW step; `bf16` is autocast in
  forward and loss, compared with the peak of bf16 products. Weights are
  generated from their names, drop path is 0.
"""


def markdown(report: Dict) -> str:
    """The report as a page.

    Args:
        report: ``command``, ``date``, ``machine`` (names and numbers),
            ``product_rates`` (multiply-adds per second by dtype) and ``rows``.
    """
    lines = [
        '# Backbones', '', f'`{report["command"]}`, {report["date"]}', '',
        *(f'- {key}: {value}' for key, value in report['machine'].items()),
        *(f'- matrix products, {name}: {rate / 1e9:.4g} G multiply-adds/s'
          for name, rate in report['product_rates'].items()), '', NOTES]
    for (mode, dtype), rows in _tables(report['rows']).items():
        lines += [f'## {mode}, {dtype}', '', line(TITLES),
                  line(['---', '---', *['---:'] * (len(TITLES) - 2)]),
                  *(line(_cells(row)) for row in rows), '']
    return '\n'.join(lines)


def _tables(rows: Sequence[Dict]) -> Dict[tuple, List[Dict]]:
    tables: Dict[tuple, List[Dict]] = {}
    for row in rows:
        tables.setdefault((row['mode'], row['dtype']), []).append(row)
    return tables


def line(cells: Sequence[str]) -> str:
    return f'| {" | ".join(cells)} |'


def _cells(row: Dict) -> List[str]:
    if row['failure']:
        return [row['size'], row['variant'], f'failed: {row["failure"]}',
                *[''] * (len(TITLES) - 3)]
    low, high = row['quartiles']
    return [row['size'], row['variant'], ms(row['median']),
            f'{ms(low)} to {ms(high)}', f'{row["speedup"]:.2f}',
            f'{row["memory"] / 2 ** 20:.0f}', f'{row["of_peak"]:.2f}',
            f'{row["error"]:.1e}']


def ms(seconds: float) -> str:
    """Four digits, never an exponent."""
    value = 1e3 * seconds
    return f'{value:.0f}' if value >= 1e3 else f'{value:.4g}'


def draw(report: Dict) -> Figure:
    """Speedups as bars: a column of panels per size, a row per mode and
    dtype; the error bars span the quartiles."""
    tables = _tables(report['rows'])
    sizes = list(dict.fromkeys(row['size'] for row in report['rows']))
    names = list(dict.fromkeys(row['variant'] for row in report['rows']))
    figure = Figure(layout='constrained', figsize=(
        2.2 + 2.6 * len(sizes), (0.9 + 0.26 * len(names)) * len(tables)))
    panels = figure.subplots(len(tables), len(sizes), squeeze=False,
                             sharey=True)
    for columns, (title, rows) in zip(panels, tables.items()):
        columns[0].set_ylabel(', '.join(title))
        for axes, size in zip(columns, sizes):
            axes.set_title(size, fontsize=10)
            axes.set_yticks(range(len(names)), names, fontsize=8)
            axes.set_ylim(len(names) - 0.4, -0.6)  # the first on top
            _draw_bars(axes, {names.index(row['variant']): row for row in rows
                              if row['size'] == size and not row['failure']})
    return figure


def _draw_bars(axes: Axes, rows: Dict[int, Dict]) -> None:
    """One panel; rows by their place on the y axis."""
    longest = max((row['speedup'] for row in rows.values()), default=1.)
    axes.set_xlim(0, 1.35 * longest)  # room for the numbers
    for y, row in rows.items():
        speedup, median = row['speedup'], row['median']
        low, high = (speedup * median / x for x in reversed(row['quartiles']))
        color = ('0.35' if row['variant'] == row['baseline'] else
                 'tab:blue' if row['variant'].startswith('iFormer') else '0.75')
        axes.barh(y, speedup, color=color, error_kw=dict(lw=1),
                  xerr=[[speedup - low], [high - speedup]])
        axes.text(max(speedup, high) + 0.03 * longest, y, f'{speedup:.2f}',
                  va='center', fontsize=8)


def save(folder: Path, report: Dict) -> None:
    """Writes ``backbones.md``, ``.json`` and ``.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'backbones.md').write_text(markdown(report))
    (folder / 'backbones.json').write_text(json.dumps(report, indent=1))
    draw(report).savefig(folder / 'backbones.png', dpi=100)
