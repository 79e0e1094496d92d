"""The benchmark's table, JSON and picture."""
import json
from pathlib import Path
from typing import Dict, List, Sequence

import matplotlib

matplotlib.use('Agg')  # no screen is needed
import matplotlib.pyplot as plt  # noqa: E402

from .run import OPTIMISER, TRAIN_FACTOR, Row  # noqa: E402

NOTES = f"""\
- **ms**: median of the samples, wall clock, launches included; all variants of
  a case are sampled in turns. **half within**: first and third quartile.
- **speed**: times as fast as the variant marked 1.00.
- **memory**: the most that a step holds above weights and optimiser states, in
  PyTorch's own allocator.
- **of peak**: multiply-adds by time, as a part of the rate of matrix products.
  One multiplication with its addition counts 1, attention is counted, a
  training step is {TRAIN_FACTOR} forward passes.
- **of copy**: bytes that the operators read and write by time, as a part of
  the copy bandwidth (eager forward only; above 1 where caches help).
- **error**: largest difference from the eager fp32 maps of the same network in
  the same mode, as a part of the map's deviation.
- `train` is forward, loss, backward and an AdamW step (lr {OPTIMISER['lr']:g});
  `bf16` is autocast in forward and loss, weights stay fp32, and its peak is
  that of bf16 products. Weights are drawn by name, drop path is 0.
"""
TITLES = ('shape', 'variant', 'ms', 'half within', 'speed', 'images/s',
          'memory MiB', 'of peak', 'of copy', 'error')


def _cells(row: Row) -> List[str]:
    first = [str(row['shape']), str(row['variant'])]
    if row['error'] is not None:
        return [*first, f'failed: {row["error"]}', *[''] * 7]
    low, high = (1e3 * x for x in row['quartiles'])

    def optional(key: str, form: str) -> str:
        value = row.get(key)
        return '' if value is None else format(value, form)

    return [*first, f'{1e3 * row["median"]:.4g}', f'{low:.4g} to {high:.4g}',
            f'{row["ratio"]:.2f}', f'{row["images_per_second"]:.3g}',
            f'{row["memory"] / 2 ** 20:.1f}', f'{row["fraction"]:.3f}',
            optional('copy_fraction', '.2f'), optional('accuracy', '.1e')]


def _tables(rows: Sequence[Row]) -> Dict[tuple, List[Row]]:
    tables: Dict[tuple, List[Row]] = {}
    for row in rows:
        tables.setdefault((row['mode'], row['dtype']), []).append(row)
    return tables


def markdown(report: Dict) -> str:
    """The report as a page.

    Args:
        report: ``title``, ``command``, ``date``, ``machine`` (names and
            numbers), ``ceilings``, ``left_out`` (reasons by variant) and
            ``rows``.
    """
    peaks = dict(report['ceilings'])
    copy = peaks.pop('copy')
    lines = [
        f'# Benchmark: {report["title"]}', '',
        f'`{report["command"]}`, {report["date"]}', '',
        *(f'- {key}: {value}' for key, value in report['machine'].items()),
        *(f'- matrix products, {name}: {rate / 1e9:.4g} G multiply-adds/s'
          for name, rate in peaks.items()),
        f'- copy: {copy / 1e9:.3g} GB/s, read and written', '',
        NOTES]
    lines += [f'- {name}: left out, {reason}'
              for name, reason in report['left_out'].items()]
    for (mode, dtype), rows in _tables(report['rows']).items():
        lines += ['', f'## {mode}, {dtype}', '', _line(TITLES),
                  _line(['---', '---', *['---:'] * 8])]
        lines += [_line(_cells(row)) for row in rows]
    return '\n'.join(lines) + '\n'


def _line(cells: Sequence[str]) -> str:
    return f'| {" | ".join(cells)} |'


def draw(path: Path, report: Dict) -> None:
    """Saves a picture: speed against the baseline, a panel for each shape,
    a line of panels for each mode and dtype."""
    tables = _tables(report['rows'])
    shapes = list(dict.fromkeys(row['shape'] for row in report['rows']))
    names = list(dict.fromkeys(row['variant'] for row in report['rows']))
    figure, axes = plt.subplots(
        len(tables), len(shapes), squeeze=False, sharey=True,
        figsize=(2.2 + 2.6 * len(shapes),
                 0.9 + (0.9 + 0.26 * len(names)) * len(tables)))
    for line, (title, rows) in zip(axes, tables.items()):
        line[0].set_ylabel(', '.join(title))
        for ax, shape in zip(line, shapes):
            _panel(ax, names, {row['variant']: row for row in rows
                               if row['shape'] == shape})
            ax.set_title(shape, fontsize=10)
    figure.suptitle(f'{report["title"]} on {report["machine"]["device"]}: '
                    'speed, baseline (dark) = 1; error bars: half of the '
                    'samples', fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _panel(ax, names: Sequence[str], rows: Dict[str, Row]) -> None:
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set_ylim(len(names) - 0.4, -0.6)  # the first on top
    ax.tick_params(axis='x', labelsize=8)
    longest = max([row['ratio'] for row in rows.values()
                   if row['error'] is None], default=1)
    ax.set_xlim(0, 1.35 * longest)  # room for the numbers
    for y, name in enumerate(names):
        row = rows.get(name)
        if row is None:
            continue
        if row['error'] is not None:
            ax.text(0.02 * longest, y, row['error'][:24], va='center',
                    fontsize=7, color='tab:red')
            continue
        ratio = row['ratio']
        ends = [ratio * row['median'] / x for x in row['quartiles']]
        ours = row['network'].startswith('iFormer')
        dark = name == row['baseline']
        ax.barh(y, ratio, color='0.35' if dark else
                'tab:blue' if ours else '0.75',
                xerr=[[ratio - ends[1]], [ends[0] - ratio]],
                error_kw=dict(lw=1))
        ax.text(max(ratio, ends[0]) + 0.03 * longest, y, f'{ratio:.2f}',
                va='center', fontsize=8)


def save(folder: Path, report: Dict) -> List[Path]:
    """Writes ``benchmark.md``, ``.json`` and ``.png``; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f'benchmark.{ending}' for ending in ('md', 'json', 'png')]
    paths[0].write_text(markdown(report))
    paths[1].write_text(json.dumps(report, indent=1) + '\n')
    draw(paths[2], report)
    return paths

