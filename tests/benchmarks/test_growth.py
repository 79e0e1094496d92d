"""Exponents and curves of made-up rows."""
import json
import sys

import growth
import pytest


def row(side, batch, seconds, variant='a', mode='forward', failure=None):
    return dict(height=side, width=side, batch=batch, variant=variant,
                mode=mode, failure=failure, median=seconds,
                memory=1000 * batch * side)


# Time grows with the pixels to the power of 1.5, then of 2; memory with the
# side and the images.
ROWS = [*(row(*x) for x in ((2, 1, 8), (4, 1, 64), (8, 1, 1024))),
        row(2, 4, 32), row(8, 2, 5000.), row(2, 1, 7, 'b', 'train'),
        row(4, 1, None, failure='out of memory', variant='b')]


def test_table_and_picture(tmp_path, monkeypatch, capsys):
    report = tmp_path / 'backbones.json'
    report.write_text(json.dumps(dict(rows=ROWS)))
    monkeypatch.setattr(sys, 'argv', ['growth.py', str(report)])
    growth.main()
    assert capsys.readouterr().out.splitlines()[2:] == [
        '| forward | a | time | 1.75 | 2.00 | 1.00 |',
        '| forward | a | memory | 0.50 | 0.50 | 1.00 |',
        '| train | b | time |  |  |  |', '| train | b | memory |  |  |  |']
    assert (tmp_path / 'growth.png').stat().st_size > 1000
    curves = growth.read_curves(ROWS)
    panels = growth.draw(curves).axes
    assert [(list(x.get_xdata()), list(x.get_ydata()))
            for x in panels[0].lines
            ] == [([2, 4, 8], [8, 64, 1024]), ([2], [7])]
    assert [list(x.get_ydata() * 2 ** 20) for x in panels[2].lines
            ] == [[2000, 4000, 8000], [2000]]


def test_exponent_of_the_largest():
    """Linear at first, quadratic in the end: the fit lies between."""
    points = [(1, 1), (2, 2), (4, 8)]
    assert growth.exponent(points) == pytest.approx(1.5)
    assert growth.exponent(points[-2:]) == pytest.approx(2)
