"""No file runs code by being opened, by whatever road the tools open it.

The roads are walked in a process of their own, as the tools' are: what guards
them is for a whole process. Each file would leave another behind if it ran.
"""
import json
import pickle
import subprocess
import sys

import pytest
import torch
import yaml
from conftest import ROOT, call, refusal
from mmengine.config import Config

from mmiformer.checks.preflight import find_data_faults

CONFIG = ROOT / 'configs/mask_rcnn/iformer_s_shapes.py'


class Touch:
    """Would make a file if it were unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, 'w')


WALK = '''
import json, sys, logging
import mmengine, torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint
from mmiformer.config import load_config
folder, config = sys.argv[1:]
load_config(config)
MMLogger.get_current_instance().setLevel(logging.ERROR)


class Model(mmengine.model.BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(1, 1)

    def forward(self, inputs, data_samples=None, mode=None):
        return dict(loss=self.linear(inputs).sum())


def runner(**kwargs):
    return Runner(
        Model(), folder + '/work', train_dataloader=dict(
            dataset=[torch.ones(1)] * 2, batch_size=1, num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=False)),
        train_cfg=dict(by_epoch=True, max_epochs=3), optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=.1)), default_scope='mmengine',
        experiment_name=str(len(said)), log_level='ERROR', **kwargs)


def build(kind, file, **kwargs):
    init_default_scope(kind.split('.')[0])
    MODELS.build(Config(dict(model=dict(type=kind, init_cfg=dict(
        type='Pretrained', checkpoint=file), **kwargs))).model).init_weights()


roads = dict(
    ours=lambda file: build('mmiformer.IFormer', file),
    swin=lambda file: build('mmdet.SwinTransformer', file),
    resnet=lambda file: build('mmseg.ResNetV1c', file, depth=18),
    loader=lambda file: CheckpointLoader.load_checkpoint(file, 'cpu'),
    load_checkpoint=lambda file: load_checkpoint(Model(), file),
    load_from=lambda file: runner(load_from=file).train(),
    resume=lambda file: runner(load_from=file, resume=True).train(),
    torch=lambda file: torch.load(file),
)
said = {}
for file in ('zip.pth', 'old.pth', 'bare.pth', 'tar.pth'):
    for name, road in roads.items():
        try:
            road(f'{folder}/{file}')
            said[f'{name} {file}'] = 'opened'
        except Exception as error:
            said[f'{name} {file}'] = f'{type(error).__name__}: {error}'
for file in ('a.pkl', 'a.pickle', 'a.yaml', 'a.yml'):
    try:
        mmengine.load(f'{folder}/{file}')
        said[file] = 'opened'
    except Exception as error:
        said[file] = f'{type(error).__name__}: {error}'
first = runner()
first.train()
path = first.work_dir + '/epoch_1.pth'
checkpoint = torch.load(path)
checkpoint['meta']['config'] = f'open({folder + "/ran"!r}, "w")'
torch.save(checkpoint, folder + '/config.pth')
second = runner(load_from=folder + '/config.pth', resume=True)
second.train()
said['config'] = second.epoch
mmengine.dump([1], folder + '/out.pkl')  # writing goes on
print('SAID' + json.dumps(said))
'''


@pytest.fixture(scope='module')
def walked(tmp_path_factory):
    """What each road said, and the folder where nothing may have run."""
    folder = tmp_path_factory.mktemp('roads')
    evil = dict(state_dict=Touch(folder / 'ran'), meta={})
    torch.save(evil, folder / 'zip.pth')
    torch.save(evil, folder / 'old.pth', _use_new_zipfile_serialization=False)
    write_tar(folder / 'tar.pth', Touch(folder / 'ran'))
    for name in ('bare.pth', 'a.pkl', 'a.pickle'):
        (folder / name).write_bytes(pickle.dumps(Touch(folder / 'ran')))
    for name in ('a.yaml', 'a.yml'):
        (folder / name).write_text(
            f'!!python/object/apply:open [{folder}/ran, w]')
    result = subprocess.run(
        [sys.executable, '-c', WALK, str(folder), str(CONFIG)], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder)
    assert 'SAID' in result.stdout, result.stderr[-3000:]
    return folder, json.loads(result.stdout.partition('SAID')[2])


def write_tar(path, evil):
    """torch's oldest format, whose pickles lie in a tar archive."""
    import io
    import tarfile
    with tarfile.open(path, 'w') as tar:
        for name in ('storages', 'tensors', 'pickle'):
            content = pickle.dumps(evil)
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def test_no_road_runs_code(walked):
    folder, said = walked
    assert len(said) == 8 * 4 + 4 + 1
    assert [road for road, what in said.items() if what == 'opened'] == []
    assert not (folder / 'ran').exists()


def test_the_files_do_run_code_where_nobody_is_careful(walked, monkeypatch,
                                                       tmp_path):
    folder, _ = walked
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)
    for name, road in {
            'zip.pth': lambda path: torch.load(path, weights_only=False),
            'old.pth': lambda path: torch.load(path, weights_only=False),
            'bare.pth': lambda path: pickle.loads(path.read_bytes()),
            'a.pkl': lambda path: pickle.loads(path.read_bytes()),
            'a.yaml': lambda path: yaml.unsafe_load(path.read_text())}.items():
        road(folder / name)
        assert (folder / 'ran').exists(), name
        (folder / 'ran').unlink()


def test_the_reason_and_the_safe_road_are_said(walked):
    _, said = walked
    for road in ('ours', 'swin', 'resnet', 'loader', 'load_from', 'resume'):
        for file in ('zip.pth', 'old.pth'):
            assert 'refused: it asks for more than tensors' in (
                said[f'{road} {file}'])
            assert 're-save it: torch.save(torch.load(' in (
                said[f'{road} {file}'])
        assert 'it is a pickle, not a file of torch.save' in (
            said[f'{road} bare.pth'])
    assert 'is a pickle, which can run code' in said['a.pkl']
    assert 'mmengine.dump(' in said['a.pickle']
    assert 'could not determine a constructor' in said['a.yaml']


def test_a_config_inside_a_checkpoint_is_not_run(walked):
    assert walked[1]['config'] == 3  # it went on from the first epoch


def test_the_tools_refuse_before_they_start(tmp_path, monkeypatch):
    torch.save(dict(state_dict=Touch(tmp_path / 'ran')), tmp_path / 'x.pth')
    (tmp_path / 'ann.pkl').write_bytes(pickle.dumps(Touch(tmp_path / 'ran')))
    (tmp_path / 'work').mkdir()
    (tmp_path / 'work/last_checkpoint').write_text(str(tmp_path / 'x.pth'))
    options = ['--work-dir', tmp_path / 'work', '--cfg-options',
               f'test_dataloader.dataset.ann_file={tmp_path}/ann.pkl',
               'shapes.train=1', 'shapes.val=1',
               f'shapes.root={tmp_path}/shapes']
    # What last_checkpoint names is not even opened.
    output = call('train.py', CONFIG, '--resume', *options, check=False,
                  cwd=tmp_path)
    assert 'has no checkpoint' in output
    assert 'error: ' in output and 'Traceback' not in output
    monkeypatch.chdir(tmp_path)
    for arguments in (
            ['train.py', CONFIG, '--resume', tmp_path / 'x.pth', *options],
            ['test.py', CONFIG, tmp_path / 'x.pth', *options]):
        output = refusal(*arguments)
        assert 'x.pth is refused: it asks for more than tensors' in output
    assert 'ann.pkl (test_dataloader.dataset.ann_file) is a pickle' in output
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('dataset, where', [
    (dict(ann_file='a.pkl'), 'a.pkl (test_dataloader.dataset.ann_file)'),
    (dict(proposal_file='p.pickle'), 'p.pickle (test_dataloader.dataset.prop'),
    (dict(pipeline=[dict(type='LoadProposals'), dict(
        type='LoadBiomedicalData', decode_backend='pickle')]),
     'what test_dataloader.dataset.pipeline.1.decode_backend opens'),
    (dict(type='OpenImagesDataset', hierarchy_file='h.npy'), 'h.npy (test_'),
])
def test_pickled_data_is_refused(dataset, where):
    cfg = Config(dict(test_dataloader=dict(dataset=dict(
        dict(type='Any'), **dataset))) if 'type' not in dataset else dict(
        test_dataloader=dict(dataset=dataset)))
    faults = find_data_faults(cfg, ('test', ))
    assert faults[0].startswith(where) and 'can run code' in faults[0]
