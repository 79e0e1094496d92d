"""What is expected, and when it counts as reproduced."""
from dataclasses import replace

import pytest
from mmengine.config import Config
from plans import COCO, ROOT, make_plan

from mmiformer.analysis.paper import find_row
from mmiformer.reproduce import (
    RECIPES,
    find_recipe,
    report,
)
from mmiformer.reproduce.recipes import judge


@pytest.mark.parametrize('logged, got, passed', [
    (.462, 46.2, True),
    (.459, 45.9, True),  # the tolerance itself; 46.2 - 0.3 > 45.9 in binary
    (.4589, 45.89, False),
    (.9, 90, True),  # better is not worse
    (float('nan'), None, False),
    (float('inf'), None, False),
    ('0.5', None, False),
    (None, None, False),
])
def test_a_verdict(logged, got, passed):
    recipe = replace(COCO, expected={'coco/bbox_mAP': 46.2})
    metrics = {} if logged is None else {'coco/bbox_mAP': logged}
    (verdict, ) = judge(recipe, metrics)
    assert verdict.got == (None if got is None else pytest.approx(got))
    assert verdict.passed is passed


def test_units_are_points():
    """mmseg logs percent already, mmdet logs COCO's from 0 to 1."""
    recipe = RECIPES['ade20k/iformer_s']
    assert judge(recipe, {'mIoU': 48.1})[0].passed
    assert not judge(recipe, {'mIoU': 48.0})[0].passed
    assert not judge(recipe, {'mIoU': .486})[0].passed
    assert not judge(COCO, {'coco/bbox_mAP': 46.2e-2})[1].passed  # no masks


def test_one_miss_fails_the_row():
    def verdict(box, mask):
        metrics = {'coco/bbox_mAP': box, 'coco/segm_mAP': mask}
        return report.Report(make_plan(), '', [], '', 'none', 0, 0, metrics,
                             [], judge(COCO, metrics)).passed
    assert verdict(.462, .419)
    assert not verdict(.462, .4)
    assert not verdict(.4, .419)
    assert not report.Report(make_plan(), '', [], '', 'none', 0, 0, {}, [],
                             []).passed


@pytest.mark.parametrize('name', sorted(RECIPES))
def test_rows_expect_what_is_printed(name, configs):
    recipe = RECIPES[name]
    cfg = Config.fromfile(configs / recipe.config)
    assert cfg.default_scope == recipe.framework
    if name.startswith('shapes'):
        readme = (ROOT / 'README.md').read_text()
        for metric, value in recipe.expected.items():
            label = {'coco/bbox_mAP_50': 'box AP50', 'mIoU': 'mIoU',
                     'coco/segm_mAP_50': 'mask AP50'}[metric]
            assert f'{label} {value}, `measured`' in readme or (
                f'{label} {value}, mask' in readme)
    else:
        assert recipe.expected == find_row(cfg)[2].metrics
        assert make_plan(name).recipe_gpus == 8


def test_the_row_that_must_fail_is_the_other_but_for_its_length():
    short, whole = RECIPES['shapes/two_iterations'], RECIPES['shapes/fpn']
    assert replace(short, options=whole.options, note=whole.note) == whole
    assert make_plan('shapes/two_iterations').cfg.train_cfg.max_iters == 2
    assert 'must FAIL' in short.note


def test_an_unknown_row():
    with pytest.raises(ValueError, match="no row 'coco'; rows: coco/iformer_s"
                       ', coco/iformer_b, ade20k.*shapes/two_iterations'):
        find_recipe('coco')
