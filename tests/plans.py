"""Plans of a reproduction, for its tests."""
from pathlib import Path

from mmiformer.reproduce import RECIPES, Plan

ROOT = Path(__file__).parents[1]
COCO = RECIPES['coco/iformer_s']


def make_plan(name='coco/iformer_s', work_dir=Path('work'), **kwargs):
    """The plan of a row, on a machine with eight GPUs."""
    kwargs = dict(dict(available=8), **kwargs)
    recipe = kwargs.pop('recipe', RECIPES[name])
    return Plan(name, recipe, ROOT / 'tools', work_dir, **kwargs)
