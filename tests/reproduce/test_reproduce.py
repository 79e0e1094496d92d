"""The parts of a reproduction: what counts, what is missing, what it costs."""
import json
import os
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmiformer import IFormer
from mmiformer.analysis import count
from mmiformer.analysis.paper import find_row
from mmiformer.backbone import weights
from mmiformer.reproduce import (
    RECIPES,
    Plan,
    RunError,
    checks,
    estimate,
    find_recipe,
    report,
    reproduce,
    road,
)
from mmiformer.reproduce import plan as plans
from mmiformer.reproduce.recipes import judge

ROOT = Path(__file__).parents[2]
COCO = RECIPES['coco/iformer_s']
Usage = namedtuple('Usage', 'total used free')


def make_plan(name='coco/iformer_s', work_dir=Path('work'), **kwargs):
    kwargs = dict(dict(available=8), **kwargs)
    recipe = kwargs.pop('recipe', RECIPES[name])
    return Plan(name, recipe, ROOT / 'tools', work_dir, **kwargs)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """An empty folder and no network."""
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path / 'hub'))

    def refuse(request, timeout):
        raise OSError('no network')

    monkeypatch.setattr(weights, 'urlopen', refuse)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- verdicts -----------------------------------------------------------------


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


# -- checks -------------------------------------------------------------------


def test_all_that_is_missing_is_said_at_once(offline, monkeypatch):
    monkeypatch.setattr(checks.shutil, 'disk_usage',
                        lambda path: Usage(9e9, 8e9, 1e9))
    plan = make_plan(available=0, wanted_gpus=9)
    cost = estimate.Estimate(1, 1, 1, 1, None, int(6e9), 1., 1.)
    faults = checks.find_faults(plan, cost, {'SLURM_STEP_NUM_TASKS': '8'})
    for number, part in enumerate((
            'started many times over by srun',
            '--gpus 9, but torch finds 0',
            'no GPU: torch finds none',
            'data/coco/annotations/instances_train2017.json',
            'data/coco/train2017 ',
            'data/coco/annotations/instances_val2017.json',
            'data/coco/val2017 ',
            'iformer_small.pth cannot be downloaded (no network',
            '1.0 GB free, the checkpoints take 6.0')):
        assert part in faults[number]
    assert len(faults) == 9
    assert 'cocodataset.org' in faults[3]


def coco_tree(folder, train, val):
    for split, number in (('train', train), ('val', val)):
        (folder / f'data/coco/{split}2017').mkdir(parents=True)
        for index in range(number):
            (folder / f'data/coco/{split}2017/{index}.jpg').touch()
    (folder / 'data/coco/train2017/notes.txt').touch()
    (folder / 'data/coco/annotations').mkdir()
    for split in ('train', 'val'):
        (folder / f'data/coco/annotations/instances_{split}2017.json').touch()


NO_WEIGHTS = ('model.backbone.init_cfg=None', )


def test_too_few_files(offline):
    coco_tree(offline, 3, 2)
    plan = make_plan(cfg_options=NO_WEIGHTS)
    assert checks.find_faults(plan, None, {}) == [
        'data/coco/train2017 has 3 images, 118287 belong there: unpack the '
        'archive again, into an empty folder',
        'data/coco/val2017 has 2 images, 5000 belong there: unpack the '
        'archive again, into an empty folder']
    whole = replace(COCO, images=dict(train=3, val=2))
    assert checks.find_faults(make_plan(
        recipe=whole, cfg_options=NO_WEIGHTS), None, {}) == []


def test_a_test_reads_no_training_data(offline):
    (train, val) = checks.find_faults(
        make_plan(checkpoint='gone.pth'), None, {})[:2]
    assert 'annotations/instances_val2017' in train and 'val2017' in val
    faults = checks.find_faults(make_plan(checkpoint='gone.pth'), None, {})
    assert len(faults) == 3 and faults[2].startswith('gone.pth (load_from)')


def test_ade20k_is_counted_in_images_and_labels(offline):
    for kind in ('images', 'annotations'):
        for split in ('training', 'validation'):
            (offline / 'ade' / kind / split).mkdir(parents=True)
    root = [f'{split}_dataloader.dataset.data_root=ade'
            for split in ('train', 'val', 'test')]
    faults = checks.find_faults(make_plan(
        'ade20k/iformer_s', cfg_options=(*NO_WEIGHTS, *root)), None, {})
    assert [fault.split(':')[0] for fault in faults] == [
        f'ade/{kind}/{split} has 0 images, {number} belong there'
        for split, number in (('training', 20210), ('validation', 2000))
        for kind in ('images', 'annotations')]


def test_embedded_data_needs_nothing(offline):
    plan = make_plan('shapes/fpn', available=0)
    assert plan.gpus == 0
    assert checks.find_faults(plan, None, {}) == []
    (fault, ) = checks.find_faults(
        make_plan('shapes/mask_rcnn', available=0), None, {})
    assert fault.startswith('work_dirs/reproduce/shapes/fpn/train/iter_400')


def test_other_settings_in_the_work_dir(offline):
    plan = make_plan('shapes/fpn', offline)
    plan.write_settings('abc')
    assert plan.read_settings() == (plan.settings, 'abc')
    assert checks.find_faults(plan, None, {}) == []
    (fault, ) = checks.find_faults(
        make_plan('shapes/fpn', offline, seed=1), None, {})
    assert 'holds a run with other settings' in fault and (
        'seed=0' in fault and 'seed=1' in fault)
    (fault, ) = checks.find_faults(
        make_plan('shapes/fpn', offline, available=0), None, {})
    assert "'# shapes/fpn, 1 GPUs' there, '# shapes/fpn, 0 GPUs' now" in fault
    (plan.train_dir / plans.SETTINGS).unlink()
    (plan.train_dir / 'last_checkpoint').write_text('iter_9.pth')
    (fault, ) = checks.find_faults(plan, None, {})  # someone else's run
    assert 'holds a run with other settings' in fault


def test_packages(monkeypatch):
    assert checks.find_package_faults('mmdet') == []
    monkeypatch.setitem(sys.modules, 'pycocotools.mask', None)
    (fault, ) = checks.find_package_faults('mmdet')
    assert fault.startswith('pycocotools.mask cannot be imported (')
    assert 'pip install .[det]' in fault
    assert checks.find_package_faults('mmseg') == []


def test_warnings(monkeypatch):
    monkeypatch.setattr(checks.shutil, 'disk_usage',
                        lambda path: Usage(1e12, 0, 1e12))
    assert checks.find_warnings(make_plan(), None) == []
    name = 'ade20k/iformer_s'
    (few, ) = checks.find_warnings(make_plan(name, available=2), None)
    assert few.startswith('2 x 4 = 8 images an iteration, the recipe has 32: '
                          'the learning rate is scaled by 0.25, and')
    assert '25% of its images are seen' in few
    assert few.endswith('train_dataloader.batch_size=16')
    assert 'are seen' not in checks.find_warnings(
        make_plan(available=2), None)[0]  # epochs see all the same
    own = checks.find_warnings(make_plan(cfg_options=(
        'optim_wrapper.type=AmpOptimWrapper', )), None)
    assert len(own) == 2 and 'settings of your own' in own[0] and (
        'single precision' in own[1])
    monkeypatch.setattr(checks.shutil, 'disk_usage',
                        lambda path: Usage(64e6, 0, 64e6))
    small = estimate.Estimate(1, 1, 1, int(9e9), int(8e9), 1, 1., 1.)
    shared, memory = checks.find_warnings(make_plan(), small)
    assert '0.1 GB' in shared and 'want 8' in shared
    assert 'a GPU has 8 GB and about 9 are needed' in memory


# -- estimate -----------------------------------------------------------------


def test_saved_bytes_of_a_network_by_hand():
    """Linear keeps its input, ReLU its output, which the next layer shares;
    the weights are not counted."""
    network = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 7))
    assert estimate.saved_bytes(network, torch.rand(2, 3)) == 4 * (
        2 * 3 + 2 * 5)


def test_flops_and_activations_from_small_images(tiny):
    """The extrapolations against the whole."""
    class Model(nn.Module):
        with_neck = False

        def __init__(self):
            super().__init__()
            self.backbone = IFormer(**tiny)
            self.head = nn.Linear(48, 1000000)  # the same at any size

        def forward(self, x):
            x = self.backbone(x)[-1]
            return x, self.head(x.mean((2, 3)))

    model = Model()
    backbone = model.backbone
    assert estimate.count_flops(model, (512, 512)) == pytest.approx(
        count(model, (512, 512)).flops_with_attention, rel=1e-3)
    whole = estimate.saved_bytes(backbone.train(), torch.rand(1, 3, 512, 512))
    assert estimate.activation_bytes(model, (512, 512)) == pytest.approx(
        whole, rel=0.02)


@pytest.mark.parametrize('name, images, checkpoints', [
    ('coco/iformer_s', 12 * 118287, 12),
    ('ade20k/iformer_s', 80000 * 32, 10),
    ('upernet/iformer_s', 160000 * 16, 10),
    ('shapes/mask_rcnn', 2 * 240, 2),
    ('shapes/two_iterations', 2 * 4, 1),
])
def test_schedules(name, images, checkpoints):
    assert estimate.schedule(make_plan(name)) == (images, checkpoints)


def test_an_estimate(monkeypatch):
    """1.5e9 FLOPs x 6 x 80000 x 32 images over 8 GPUs of 10 TFLOP/s."""
    model = nn.Linear(9, 10)  # 100 parameters
    monkeypatch.setattr(estimate, 'build', lambda cfg: model)
    monkeypatch.setattr(estimate, 'count_flops', lambda *args: int(1.5e9))
    monkeypatch.setattr(estimate, 'activation_bytes', lambda *args: 1000)
    cost = estimate.estimate(make_plan('ade20k/iformer_s'), tflops=10)
    assert cost.hours == pytest.approx(0.08)
    assert cost.memory_bytes == 16 * 100 + 4 * 1000
    assert cost.disk_bytes == 12 * 100 * 10
    assert 'about 5 min of training' in cost.lines()[0]
    half = estimate.estimate(
        make_plan('coco/iformer_s', available=4), tflops=10)
    assert half.hours == pytest.approx(
        6 * 1.5e9 * 12 * 118287 / 4 / 1e13 / 3600)


# -- launching ----------------------------------------------------------------


@pytest.fixture
def srun(monkeypatch):
    """As if Slurm were installed."""
    monkeypatch.setattr(plans.shutil, 'which', lambda name: name)


def test_launchers(srun, monkeypatch):
    python, torchrun = sys.executable, [
        sys.executable, '-m', 'torch.distributed.run', '--standalone']
    slurm = {'SLURM_JOB_ID': '7'}
    assert plans.launcher(0, 0, {}) == ([python], 'none')
    assert plans.launcher(1, 8, {}) == ([python], 'none')
    assert plans.launcher(4, 8, {}) == (
        [*torchrun, '--nproc_per_node=4'], 'pytorch')
    assert plans.launcher(0, 0, slurm) == ([python], 'none')
    assert plans.launcher(8, 8, slurm) == (
        ['srun', '--nodes=1', '--ntasks=8', '--ntasks-per-node=8',
         '--kill-on-bad-exit=1', python], 'slurm')
    two = dict(slurm, SLURM_JOB_NUM_NODES='2', SLURM_CPUS_PER_TASK='5')
    assert plans.launcher(8, 8, two)[0][:6] == [
        'srun', '--nodes=2', '--ntasks=8', '--ntasks-per-node=4',
        '--kill-on-bad-exit=1', '--cpus-per-task=5']
    assert plans.launcher(8, 16, two)[0][1:4] == [
        '--nodes=1', '--ntasks=8', '--ntasks-per-node=8']
    # Inside a step another srun would wait for resources that it holds.
    step = dict(slurm, SLURM_STEP_NUM_TASKS='1')
    assert plans.launcher(4, 4, step)[1] == 'pytorch'
    monkeypatch.setattr(plans.shutil, 'which', lambda name: None)
    assert plans.launcher(4, 4, slurm)[1] == 'pytorch'  # in a container


def test_gpus_of_an_allocation(srun, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    assert plans.find_gpus({}) == 2
    assert plans.find_gpus({'SLURM_GPUS_ON_NODE': '4'}) == 2
    assert plans.find_gpus({
        'SLURM_JOB_ID': '7', 'SLURM_JOB_NUM_NODES': '2',
        'SLURM_GPUS_ON_NODE': '4'}) == 8


def test_the_commands_reach_their_launcher(tmp_path, monkeypatch):
    """torchrun starts one process per GPU with our arguments; so does srun,
    which is played here."""
    monkeypatch.delenv('SLURM_JOB_ID', raising=False)
    script = tmp_path / 'tools' / 'train.py'
    script.parent.mkdir()
    script.write_text('import os, sys\nprint("rank", os.environ["RANK"], '
                      '*sys.argv[1:], flush=True)\n')
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    plan = replace(make_plan(available=2), tools=script.parent)
    lines = []
    road.run(plan.commands()[0], tmp_path / 'log', lines.append)
    ranks = [line.split() for line in lines if line.startswith('rank')]
    assert sorted(line[1] for line in ranks) == ['0', '1']
    assert ranks[0][2:] == [
        str(plan.config), '--work-dir', 'work/train', '--auto-scale-lr',
        '--launcher', 'pytorch', '--cfg-options', 'randomness.seed=0']

    monkeypatch.setenv('SLURM_JOB_ID', '7')
    (tmp_path / 'srun').write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / 'srun').chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=':')
    road.run(plan.commands()[0], tmp_path / 'log', lines.append)
    assert lines[-1].startswith('--nodes=1 --ntasks=2 --ntasks-per-node=2')
    assert '--launcher slurm --cfg-options' in lines[-1]


def test_where_a_training_stands(tmp_path):
    plan = make_plan('shapes/fpn', tmp_path)
    assert plan.training() == 'start'
    assert [len(plan.commands()), '--resume' in plan.commands()[0]] == [
        2, False]
    plan.train_dir.mkdir()
    marker = plan.train_dir / 'last_checkpoint'
    marker.write_text(f'{plan.train_dir}/iter_300.pth')
    assert plan.training() == 'continue'
    assert '--resume' in plan.commands()[0]
    marker.write_text('/moved/since/iter_400.pth')
    assert plan.training() == 'continue'  # the file is not there
    (plan.train_dir / 'iter_400.pth').touch()
    assert plan.training() == 'done'
    (test, ) = plan.commands()
    assert str(plan.train_dir / 'iter_400.pth') in test
    given = replace(plan, checkpoint='mine.pth')
    assert given.training() == 'none'
    (test, ) = given.commands()
    assert 'mine.pth' in test and str(ROOT / 'tools/test.py') in test


# -- running and reporting ----------------------------------------------------


def test_a_failing_command_names_its_log(tmp_path):
    log, lines = tmp_path / 'new' / 'test.log', []
    with pytest.raises(RunError, match=rf'log: {log}') as error:
        road.run([sys.executable, '-c', 'print("why"); 1 / 0'], log,
                 lines.append)
    assert 'print("why")' in str(error.value)
    assert 'why' in log.read_text() and 'ZeroDivisionError' in log.read_text()
    assert 'why\n' in lines


@pytest.mark.parametrize('signal', [KeyboardInterrupt, SystemExit])
def test_who_is_stopped_stops_the_command(signal, tmp_path):
    pids, start = [], time.time()

    def interrupt(text):
        if text.strip().isdigit():
            pids.append(int(text))
            raise signal

    with pytest.raises(signal):
        road.run([sys.executable, '-c', 'import os, time\n'
                  'print(os.getpid(), flush=True)\ntime.sleep(20)'],
                 tmp_path / 'log', interrupt)
    assert time.time() - start < 15
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def play(plan, monkeypatch, metrics):
    """Lets a plan run, where the test writes these metrics."""
    def write(command, log, echo):
        name = f'time_{len(list(plan.test_dir.glob("*")))}'
        (plan.test_dir / name).mkdir(parents=True)
        if metrics is not None:
            (plan.test_dir / name / f'{name}.json').write_text(
                json.dumps(metrics))
    monkeypatch.setattr(road, 'run', write)
    return reproduce(plan, 'the command', print, ['beware'])


def test_an_old_metric_is_not_taken_for_a_new(tmp_path, monkeypatch):
    plan = make_plan('shapes/fpn', tmp_path, checkpoint='x.pth')
    old = plan.test_dir / 'old' / 'old.json'
    old.parent.mkdir(parents=True)
    old.write_text('{"mIoU": 99}')
    with pytest.raises(RunError, match='left 0 metric files'):
        play(plan, monkeypatch, None)
    assert play(plan, monkeypatch, {'mIoU': 1.}).metrics == {'mIoU': 1.}


def test_a_broken_run_leaves_no_old_verdict(tmp_path, monkeypatch):
    plan = make_plan('shapes/fpn', tmp_path, checkpoint='x.pth')
    assert play(plan, monkeypatch, {'mIoU': 90.}).passed
    assert (tmp_path / 'report.md').is_file()
    with pytest.raises(RunError):
        play(plan, monkeypatch, None)
    assert not list(tmp_path.glob('report.*'))


def test_a_report(tmp_path, monkeypatch):
    (tmp_path / 'x.pth').write_bytes(b'abc')
    plan = make_plan('shapes/fpn', tmp_path, seed=5,
                     checkpoint=str(tmp_path / 'x.pth'))
    play(plan, monkeypatch, {'mIoU': float('nan'), 'aAcc': 3.})
    text = (tmp_path / 'report.md').read_text()
    assert text.startswith('# FAIL: shapes/fpn\n')
    assert '| mIoU | 91.2 | 5.0 | none | FAIL |' in text
    assert 'There is no curve: a checkpoint was given' in text
    assert '- Warning: beware' in text and 'the command' in text

    def refuse(word):
        raise AssertionError(f'{word} is not JSON')

    content = json.loads((tmp_path / 'report.json').read_text(),
                         parse_constant=refuse)
    assert content['verdict'] == 'FAIL' and content['seed'] == 5
    assert content['logged'] == {'mIoU': None, 'aAcc': 3.}
    # sha256 of 'abc', FIPS 180-2
    assert content['files']['tested']['sha256'] == (
        'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad')
    assert content['versions']['torch'] == torch.__version__
    assert "arch='small'" in content['config']
    play(plan, monkeypatch, {'mIoU': 86.3})
    text = (tmp_path / 'report.md').read_text()
    assert text.startswith('# PASS') and '| 86.30 | PASS |' in text


def test_the_weights_that_a_training_begins_with(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, '_hub_dir', str(tmp_path))
    cached = tmp_path / 'checkpoints' / 'iformer_base.pth'
    cached.parent.mkdir()
    cached.write_bytes(b'abc')
    files = report._files(make_plan('coco/iformer_b'))
    assert files['model.backbone.init_cfg.checkpoint']['sha256'].startswith(
        'ba7816bf')
    assert files['tested']['sha256'] is None


def test_git_revision(tmp_path):
    def git(*arguments):
        return subprocess.check_output(
            ['git', '-C', str(tmp_path), '-c', 'user.name=a', '-c',
             'user.email=a@b', *arguments], text=True).strip()

    package = tmp_path / 'package'
    package.mkdir()
    assert report.git_revision(package) == 'not a git checkout'
    git('init', '-q')
    git('commit', '-q', '--allow-empty', '-m', 'a')
    (package / '__init__.py').write_text('a = 1')
    # Installed into an environment that lies in another's checkout:
    assert report.git_revision(package) == 'not a git checkout'
    git('add', '.')
    git('commit', '-qm', 'b')
    assert report.git_revision(package) == git('rev-parse', 'HEAD')
    (package / '__init__.py').write_text('a = 2')
    assert report.git_revision(package) == git('rev-parse', 'HEAD') + '-dirty'
