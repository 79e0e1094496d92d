"""The tools end to end, as a person calls them, on a few small shapes."""
import json
import os
import pickle
import subprocess
import sys

import cv2
import pytest
import torch
from conftest import ROOT, call, refusal
from mmengine.config import Config
from small_configs import write_config
from torch.distributed.elastic.utils.distributed import get_free_port

from mmiformer.checkpoint import read_checkpoint
from mmiformer.config import load_config
from mmiformer.kit.inference import load_model, read_meta
from mmiformer.registry import BACKBONES


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    """Small configs of both frameworks, each trained for two steps."""
    folder = tmp_path_factory.mktemp('tools')
    paths = {}
    for kind, unit in (('seg', 'iters'), ('det', 'epochs')):
        paths[kind] = write_config(
            folder / f'{kind}.py', kind,
            f'train_cfg = dict(max_{unit}=2, val_interval=2)\n'
            'param_scheduler = []\n')
        paths[f'{kind}_log'] = call(
            'train.py', paths[kind], '--work-dir', folder / kind,
            *['--auto-scale-lr'] * (kind == 'seg'))
        paths[f'{kind}_weights'] = folder / kind / f'{unit[:-1]}_2.pth'
    return paths


def only(folder, pattern):
    (path, ) = folder.glob(pattern)
    return path


@pytest.mark.parametrize('kind, metric', [
    ('seg', 'mIoU'), ('det', 'coco/segm_mAP_50')])
def test_train_then_test(kind, metric, small, tmp_path):
    assert 'eta:' in small[f'{kind}_log']
    out = tmp_path / ('out.pkl' if kind == 'det' else 'out')
    call('test.py', small[kind], small[f'{kind}_weights'], '--work-dir',
         tmp_path, '--out', out, '--show-dir', tmp_path / 'shown')
    metrics = json.loads(only(tmp_path, '2*/2*.json').read_text())
    assert metric in metrics
    if kind == 'det':
        results = pickle.loads(out.read_bytes())
        assert [r['img_id'] for r in results] == [0, 1, 2, 3, 4]
    else:
        maps = sorted(out.glob('*.png'))
        assert len(maps) == 5
        values = cv2.imread(str(maps[0]), cv2.IMREAD_GRAYSCALE)
        assert values.shape == (64, 64)
        assert set(values.flat) <= {1, 2, 3, 4}
    drawn = [p for p in (tmp_path / 'shown').rglob('*') if p.suffix in
             ('.png', '.jpg')]
    assert len(drawn) == 5


def test_predictions_of_several_evaluators(small, tmp_path):
    """And a config without the hook that draws."""
    bare = tmp_path / 'bare.py'
    bare.write_text(f'''
_base_ = {str(small['seg'])!r}
test_evaluator = [dict(type='IoUMetric', iou_metrics=['mDice'], prefix=prefix)
                  for prefix in ('first', 'second')]
default_hooks = dict(_delete_=True)
''')
    arguments = bare, small['seg_weights'], '--work-dir', tmp_path
    call('test.py', *arguments, '--out', tmp_path / 'out', '--no-check')
    assert len([*(tmp_path / 'out').glob('*.png')]) == 5
    error = refusal('test.py', *arguments, '--show-dir', tmp_path / 'shown')
    assert '--show-dir' in error and 'default_hooks.visualization' in error


@pytest.mark.slow
@pytest.mark.parametrize('kind, metric', [
    ('seg', 'mIoU'), ('det', 'coco/bbox_mAP')])
def test_tta(kind, metric, small, tmp_path):
    call('test.py', small[kind], small[f'{kind}_weights'], '--work-dir',
         tmp_path, '--tta')
    metrics = json.loads(only(tmp_path, '2*/2*.json').read_text())
    assert metric in metrics and 'coco/segm_mAP' not in metrics


@pytest.mark.parametrize('name', ['tta_model', 'tta_pipeline'])
def test_tta_needs_it_in_the_config(name, small, tmp_path):
    config = tmp_path / 'without.py'
    config.write_text(f"_base_ = {str(small['det'])!r}\n{name} = None\n")
    error = refusal('test.py', config, small['det_weights'], '--tta')
    assert '--tta' in error and name in error and '\n' not in error


INFERENCERS = '''
import sys
import numpy as np
from mmdet.apis import DetInferencer
from mmseg.apis import MMSegInferencer
det, det_weights, seg, seg_weights = sys.argv[1:]
image = np.zeros((64, 64, 3), np.uint8)
assert 'mmiformer' not in sys.modules
found = MMSegInferencer(seg, seg_weights)(image)['predictions']
assert found.shape == (64, 64)
found = DetInferencer(det, det_weights)(image)['predictions']
assert 'scores' in found[0]
'''


@pytest.mark.slow
def test_checkpoints_open_in_the_inferencers(small, tmp_path):
    """Which read them before anything of ours is imported."""
    subprocess.run(
        [sys.executable, '-c', INFERENCERS, small['det'],
         small['det_weights'], small['seg'], small['seg_weights']],
        check=True, cwd=tmp_path)


def test_classes_in_place_of_type_names_and_no_scope(small):
    """As in configs of pure Python."""
    from mmseg.datasets import BaseSegDataset, LoadAnnotations
    from mmseg.models import EncoderDecoder
    cfg = load_config(small['seg'])
    model = load_model(cfg, str(small['seg_weights']))
    assert type(model) is EncoderDecoder
    pure = Config(dict(test_dataloader=dict(dataset=dict(
        type=BaseSegDataset, metainfo=dict(classes=('a', )),
        pipeline=[dict(type=LoadAnnotations)]))))
    assert read_meta(pure)['classes'] == ['a']


def test_a_backbone_is_pretrained_by_a_whole_model(small):
    """What the segmentor's checkpoint has of it."""
    backbone = BACKBONES.build(dict(
        load_config(small['det']).model.backbone, init_cfg=dict(
            type='Pretrained', checkpoint=str(small['seg_weights']))))
    backbone.init_weights()
    saved = read_checkpoint(str(small['seg_weights']))['state_dict']
    for name, value in backbone.state_dict().items():
        if f'backbone.{name}' in saved:
            assert torch.equal(value, saved[f'backbone.{name}']), name


@pytest.mark.parametrize('tool', ['train.py', 'test.py'])
def test_missing_data_ends_without_a_trace(
        tool, configs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [configs / 'fpn_ade20k/iformer_s_80k.py']
    if tool == 'test.py':
        arguments.append('gone.pth')
    output = refusal(tool, *arguments, '--cfg-options',
                     'model.backbone.init_cfg=None')
    assert 'images/validation' in output
    assert ('gone.pth' in output) == (tool == 'test.py')
    assert not (tmp_path / 'work_dirs').exists()


def test_a_checkpoint_of_another_head_is_refused(small, tmp_path):
    """In one line, without the hundred names that do not fit."""
    output = refusal('test.py', small['seg'], small['det_weights'],
                     '--work-dir', tmp_path)
    assert output.startswith(f'error: {small["det_weights"]}')
    assert 'decode_head' in output and len(output) < 1000


class Hostile:

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path), )


@pytest.mark.parametrize('tool', ['test.py', 'spectrum.py'])
def test_a_hostile_checkpoint_is_refused(tool, small, tmp_path):
    """In a line, and nothing in it is run."""
    path = tmp_path / 'hostile.pth'
    torch.save(dict(state_dict=dict(a=Hostile(tmp_path / 'made'))), path)
    image = next((ROOT / 'docs').rglob('*.png'))
    more = dict(test=['--work-dir', tmp_path], spectrum=[
        '--images', image, '--out', tmp_path / 'a.png'])[tool[:-3]]
    output = refusal(tool, small['seg'], path, *more)
    assert str(path) in output and 'mkdir' in output and '\n' not in output
    assert not (tmp_path / 'made').exists()


@pytest.mark.parametrize('lacks', [False, True])
def test_a_checkpoint_may_have_more_but_not_less(lacks, small, tmp_path):
    checkpoint = read_checkpoint(str(small['seg_weights']))
    state = checkpoint['state_dict']
    state['auxiliary_head.conv_seg.bias'] = torch.zeros(3)
    state['decode_head.spare'] = torch.zeros(1)
    if lacks:
        del state['decode_head.conv_seg.bias']
    torch.save(checkpoint, tmp_path / 'more.pth')
    run = refusal if lacks else call
    text = run('test.py', small['seg'], tmp_path / 'more.pth', '--work-dir',
               tmp_path)
    if lacks:
        assert 'decode_head.conv_seg.bias' in text
        assert 'auxiliary_head' not in text
    else:
        assert 'mIoU' in text
        line, = (line for line in text.splitlines() if 'ignored 2' in line)
        assert 'decode_head.spare' in line or 'auxiliary_head' in line


def test_auto_scale_lr(small):
    """Batch 2 of a base batch of 4: half the rate."""
    log = only(small['seg'].parent, 'seg/2*/vis_data/scalars.json')
    assert json.loads(log.read_text().splitlines()[0])['lr'] == (
        pytest.approx(1e-3 / 2))


@pytest.mark.skipif(torch.cuda.is_available(), reason='the machine has a GPU')
def test_amp_without_a_gpu_is_refused(small):
    assert '--amp' in refusal('train.py', small['seg'], '--amp')


@pytest.mark.parametrize('script, arguments', [
    ('dist_train.sh', ['a b.py']), ('dist_test.sh', ['a b.py', 'c.pth'])])
def test_torchrun_takes_what_the_scripts_pass(script, arguments, tmp_path):
    """The real one, with a program in place of the tool, which prints what it
    gets."""
    tools = tmp_path / 'tools'
    tools.mkdir()
    (tools / script).write_text((ROOT / 'tools' / script).read_text())
    tool = script.split('_')[1].replace('.sh', '.py')
    (tools / tool).write_text(
        'import json, os, sys\n'
        'json.dump([sys.argv[1:], os.environ["WORLD_SIZE"],'
        ' os.environ["MASTER_PORT"]], open("said.json", "w"))')
    port = str(get_free_port())  # another suite may run on this machine
    subprocess.run(
        ['bash', tools / script, *arguments, '1', '--resume'], check=True,
        cwd=tmp_path, env=dict(os.environ, PORT=port, MAX_RESTARTS='2',
                               PATH=path_with_torchrun()))
    assert json.loads((tmp_path / 'said.json').read_text()) == [
        [*arguments, '--launcher', 'pytorch', '--resume'], '1', port]


def path_with_torchrun():
    return os.pathsep.join([os.path.dirname(sys.executable),
                            os.environ['PATH']])
