"""Where the time of an iteration goes."""
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import TINY
from mmengine.config import Config
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.optim import OptimWrapper
from torch import nn

from mmiformer.analysis.benchmark import parts, parts_table, time_iterations
from mmiformer.analysis.benchmark.run import Case

ROOT = Path(__file__).parents[3]


class Clock:
    """Time passes only where a test says so."""
    now = 0.

    def __call__(self):
        return self.now


class Takes(torch.autograd.Function):
    """The identity; forward and backward take their seconds."""

    @staticmethod
    def forward(ctx, x, clock, forward, backward):
        ctx.clock, ctx.seconds = clock, backward
        clock.now += forward
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        ctx.clock.now += ctx.seconds
        return gradient, None, None, None


class Part(nn.Module):

    def __init__(self, clock, *seconds):
        super().__init__()
        self.arguments = clock, *seconds
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        x = x if isinstance(x, tuple) else (x, x)
        return tuple(Takes.apply(y * self.weight, *self.arguments) for y in x)


class Head(Part):

    def loss(self, x):
        # Of one map only: the other has no gradient.
        self.predict_by_feat(None)
        return dict(loss=self(x)[0].sum())

    def predict_by_feat(self, x):
        self.arguments[0].now += 300


class Preprocessor(BaseDataPreprocessor):

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def forward(self, data, training=False):
        self.clock.now += 7
        return dict(inputs=data)


class Model(BaseModel):

    def __init__(self, clock):
        super().__init__(Preprocessor(clock))
        self.clock = clock
        self.backbone = Part(clock, .5, 5)
        self.neck = Part(clock, 1, 10)
        self.decode_head = Head(clock, 1.5, 20)

    def forward(self, inputs, mode):
        self.clock.now += .25
        x = self.neck(self.backbone(inputs))
        if mode == 'loss':
            return self.decode_head.loss(x)
        return self.postprocess_result(self.decode_head.forward(x))

    def postprocess_result(self, x):
        self.clock.now += 400
        return x


def load(clock, number):
    for _ in range(number):
        clock.now += 1000
        yield torch.ones(1)


def test_training_is_split_exactly():
    clock = Clock()
    model = Model(clock)

    class SGD(torch.optim.SGD):

        def step(self, closure=None):
            clock.now += 60
            return super().step(closure)

    optimizer = OptimWrapper(SGD(model.parameters(), 0.1))
    times = parts.train_times(model, load(clock, 3), optimizer,
                              parts.Stopwatch(clock=clock))
    assert times == [{
        'data': 1000, 'preprocessing': 7,
        # Each has two maps; the gradient of one of them is never asked for.
        'backbone': 2 * .5 + 5, 'neck': 2 * 1 + 10, 'heads': 2 * 1.5 + 20,
        'post-processing': 300, 'optimizer': 60, 'other': .25}] * 3
    assert 'forward' not in vars(model.neck)  # as it was before


def test_testing_is_split_exactly():
    clock = Clock()
    times = parts.test_times(Model(clock), load(clock, 2),
                             parts.Stopwatch(clock=clock))
    assert times == [{
        'data': 1000, 'preprocessing': 7, 'backbone': 1, 'neck': 2,
        'heads': 3, 'post-processing': 400, 'optimizer': 0,
        'other': .25}] * 2


def test_median_and_table():
    times = [dict(dict.fromkeys(parts.PARTS, 0.), data=x) for x in (1, 2, 9)]
    median = parts.median_times(times)
    assert median['data'] == 2
    median['neck'] = 6
    lines = parts_table({'training': median}).splitlines()
    assert lines[0] == '| part | training, ms | share |'
    assert '| data | 2000.0 | 25.0% |' in lines
    assert '| neck | 6000.0 | 75.0% |' in lines
    assert lines[-1] == '| all | 8000.0 | 100.0% |'


@pytest.mark.parametrize('config', ['fpn_ade20k/iformer_s_shapes.py',
                                    'mask_rcnn/iformer_s_shapes.py'])
def test_real_models_on_made_up_images(config, configs):
    cfg = Config.fromfile(configs / config)
    cfg.model.backbone.update(arch=TINY, pretrain_img_size=64, init_cfg=None)
    cfg.model.neck.in_channels = list(TINY['embed_dims'])
    columns = time_iterations(cfg, torch.device('cpu'), repeats=1,
                              case=Case(64, 96, 2, 'train', 'fp32'))
    for split, times in columns.items():
        for part, seconds in times.items():
            nothing = part == 'optimizer' and split == 'testing'
            if part not in ('data', 'post-processing'):
                assert (seconds == 0) == nothing, (split, part)
        assert times['data'] < times['backbone']  # the images are there
    assert columns['testing']['post-processing'] > 0


def test_weights_that_do_not_fit_are_named(tmp_path, configs):
    cfg = Config.fromfile(configs / 'fpn_ade20k/iformer_s_shapes.py')
    torch.save(dict(state_dict={'backbone.x': torch.ones(1)}),
               tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='matches no tensor of the iFormer'):
        time_iterations(cfg, torch.device('cpu'), repeats=1,
                        checkpoint=str(tmp_path / 'other.pth'))


def test_the_tool_on_a_configs_own_images(tmp_path, configs):
    child = tmp_path / 'child.py'
    child.write_text(
        f'_base_ = {str(configs / "fpn_ade20k/iformer_s_shapes.py")!r}\n'
        f'model = dict(backbone=dict(_delete_=True, type="mmiformer.IFormer", '
        f'arch={TINY}), neck=dict(in_channels={[*TINY["embed_dims"]]}))\n'
        'shapes = dict(train=8, val=4)\n')
    result = subprocess.run(
        [sys.executable, str(ROOT / 'tools/benchmark.py'), '--config',
         str(child), '--parts', '--repeats', '1', '--out', 'out'],
        cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    page = (tmp_path / 'out/parts.md').read_text()
    row = next(line for line in page.splitlines() if '| data |' in line)
    assert float(row.split('|')[2]) > 0
    assert page.splitlines()[-1].startswith('| all |')
    assert page.split('\n\n')[-1] in result.stdout
