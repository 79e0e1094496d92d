"""The pictures show what they are given; logs are read as they were written."""
import json
import subprocess
import sys
from functools import partial

import cv2
import drawing
import numpy as np
import pytest
from matplotlib.figure import Figure

from mmiformer.paper import logs, pictures

PALETTE = [(0, 0, 0), (255, 0, 0), (0, 0, 255)]


def coloured(path, colour):
    """The share of a picture's pixels that lean to a colour of the palette."""
    image = cv2.imread(str(path))[:, :, ::-1].astype(int)
    others = [channel for channel in range(3) if not colour[channel]]
    return (image[..., colour.index(255)] -
            image[..., others].max(-1) > 80).mean()


def test_importing_leaves_matplotlib_alone():
    """No pyplot, no other backend: a notebook keeps its own."""
    code = """if True:
        import importlib, matplotlib, pkgutil, sys
        from mmiformer import paper
        matplotlib.use('svg')
        names = [module.name for module in pkgutil.iter_modules(
            paper.__path__) if not module.ispkg]
        assert 'pictures' in names and 'verdict' in names, names
        for name in names:
            importlib.import_module(f'mmiformer.paper.{name}')
            assert 'matplotlib.pyplot' not in sys.modules, name
        assert matplotlib.get_backend() == 'svg'"""
    subprocess.run([sys.executable, '-c', code], check=True)


def test_pairs_paint_segments_and_instances(tmp_path):
    image = np.full((20, 20, 3), 128, np.uint8)
    mask = np.zeros((20, 20), bool)
    mask[5:15, 5:15] = True
    found = [dict(mask=mask, box=(5, 5, 15, 15), label=2, score=.9)]
    for draw, colour, nothing, prediction in (
            (drawing.draw_segments, PALETTE[1], 0 * mask, 1 * mask),
            (drawing.draw_instances, PALETTE[2], [], found)):
        shares = []
        for result in (nothing, prediction):
            drawing.draw_pairs(
                tmp_path / 'a.png', 'title', [[image, nothing, result]] * 2,
                partial(draw, palette=PALETTE), ['x'], [(0, 0, 0)])
            shares.append(coloured(tmp_path / 'a.png', colour))
        assert shares[0] == 0 and shares[1] > 0.01
    assert (image == 128).all()


def test_activations_are_red_where_they_are_high(tmp_path):
    image = np.full((20, 20, 3), 128, np.uint8)
    half = np.hstack([np.full((20, 10), .1), np.full((20, 10), .9)])
    reds = []
    for heat in (None, half, np.full((20, 20), .9)):
        pictures.draw_activations(
            tmp_path / 'a.png', ['a'], [image], [[(image, heat, 'x')]])
        reds.append(coloured(tmp_path / 'a.png', (255, 0, 0)))
    assert reds[0] == 0 and reds[2] > 0.1
    assert reds[1] / reds[2] == pytest.approx(0.5, abs=0.05)


def write(folder, name, *records):
    path = folder / name / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('\n'.join(map(json.dumps, records)))


@pytest.fixture
def drawn(monkeypatch):
    """The lines of the figures that are saved, [label, points] each."""
    lines, draw = [], Figure.savefig

    def savefig(figure, *args, **kwargs):
        lines.extend([line.get_label(), line.get_xydata().tolist()]
                     for ax in figure.axes for line in ax.get_lines())
        draw(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, 'savefig', savefig)
    return lines


def test_curves_of_a_resumed_run(tmp_path, drawn):
    """Validations of epochs are drawn at their last iterations, metrics from
    0 to 1 whatever unit they are logged in; repeated steps once."""
    write(tmp_path, '20260101_000000', dict(loss=4., epoch=1, iter=10, step=10),
          dict(loss=3., epoch=1, iter=20, step=20))
    write(tmp_path, '20260101_000100', dict(loss=2., epoch=1, iter=20, step=20),
          dict(loss=1., epoch=2, iter=30, step=30),
          {'coco/bbox_mAP': .25, 'mIoU': 50., 'accuracy/top1': 75., 'step': 2})
    names = ('coco/bbox_mAP', 'mIoU', 'accuracy/top1')
    drawing.draw_curves(
        tmp_path / 'c.png', {'run': (tmp_path, dict(zip(names, 'abc')))})
    assert dict(drawn) == dict(
        loss=[[10, 4], [20, 2], [30, 1]], a=[[30, .25]], b=[[30, .5]],
        c=[[30, .75]])


def test_the_latest_metrics(tmp_path):
    assert logs.last_metrics(tmp_path) == {}
    for value, name in enumerate(('b', 'a')):
        (tmp_path / name).mkdir()
        (tmp_path / name / f'{name}.json').write_text(f'{{"mIoU": {value}}}')
        (tmp_path / name / 'other.json').write_text('{}')
        assert logs.last_metrics(tmp_path) == {'mIoU': value}
