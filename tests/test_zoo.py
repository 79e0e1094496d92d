"""Our configs as other projects find them: by name, by path, by mim."""
import re
import runpy
import shutil
from pathlib import Path

import mmengine
import pytest
import torch
from conftest import refusal, run_tool
from mmdet.apis import DetInferencer
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    METRICS,
    MODELS,
    STRATEGIES,
    VISUALIZERS,
    DefaultScope,
    init_default_scope,
)
from mmpretrain import list_models as mmpretrains_models
from mmpretrain.apis import ModelHub
from mmseg.apis import MMSegInferencer
from tiny_models import load_in_scope

import mmiformer
from mmiformer import config_path, list_models
from mmiformer.backbone.hub import RELEASED
from mmiformer.paper.curves import read_curve
from mmiformer.paper.tables import TABLES
from mmiformer.zoo import Model

NO_WEIGHTS = 'not trained here'  # an error of who opens it


def built(cfg):
    """Everything that a run builds by name, as text."""
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.init_cfg = None
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    parts = dict(
        model=str(model),
        optimizer=[type(wrapper), type(wrapper.optimizer)] + [
            (group['lr'], group['weight_decay'])
            for group in wrapper.optimizer.param_groups],
        visualizer=type(VISUALIZERS.build(dict(cfg.visualizer))),
        hooks=[type(HOOKS.build(hook))
               for hook in cfg.default_hooks.values()])
    for split in ('train', 'val'):
        loader = cfg[f'{split}_dataloader']
        dataset = DATASETS.build(dict(loader.dataset, lazy_init=True))
        sampler = DATA_SAMPLERS.build(
            dict(loader.sampler, dataset=range(4)))
        parts[split] = [type(dataset), dataset.metainfo, type(sampler),
                        *map(repr, dataset.pipeline.transforms)]
    evaluator = cfg.val_evaluator
    if 'ann_file' in evaluator:
        evaluator.ann_file = None
    parts['metric'] = type(METRICS.build(evaluator))
    return parts


@pytest.mark.parametrize('name', [
    'mask_rcnn/iformer_s_3x_ms', 'upernet_ade20k/iformer_s_160k'])
def test_by_name_everything_means_the_same(name, configs, tmp_path,
                                           monkeypatch):
    monkeypatch.chdir(tmp_path)
    child = tmp_path / 'child.py'
    child.write_text(f"_base_ = 'mmiformer::{name}.py'")
    cfg = Config.fromfile(child)
    assert "_scope_='mmiformer'" in cfg.pretty_text
    assert built(cfg) == built(Config.fromfile(configs / f'{name}.py'))


def test_names_that_the_scope_of_the_run_lacks():
    init_default_scope('mmseg')  # which has no strategies of its own
    assert STRATEGIES.children['mmiformer'].get('DDPStrategy').__module__ == (
        'mmengine._strategy.distributed')
    with pytest.raises(KeyError, match='Nobody is not in the mmiformer'):
        MODELS.build(dict(type='Nobody', _scope_='mmiformer'))


def test_a_size_is_overridden_in_the_child(tmp_path):
    child = tmp_path / 'child.py'
    child.write_text('''
_base_ = 'mmiformer::fpn_ade20k/iformer_s_80k.py'
model = dict(
    backbone=dict(arch='base', init_cfg=dict(
        checkpoint='mmiformer://iformer_base')),
    neck=dict(in_channels=[96, 192, 384, 512]))
''')
    cfg = Config.fromfile(child)
    assert cfg.model.backbone.init_cfg.type == 'Pretrained'
    base = built(cfg)
    assert base['model'].count('Block(') == 30


def test_config_path(configs):
    path = config_path('mask_rcnn/iformer_s_1x')
    assert path == config_path('mask_rcnn/iformer_s_1x.py') == config_path(
        'configs/mask_rcnn/iformer_s_1x.py')
    assert mmengine.fileio.get_text(path) == (
        configs / 'mask_rcnn/iformer_s_1x.py').read_text()
    with pytest.raises(ValueError, match=r"_xl'.* mask_rcnn/iformer_l_1x\.py"):
        config_path('mask_rcnn/iformer_xl')


def test_what_mim_reads():
    root = mmiformer.zoo.CONFIGS.parent
    index = mmengine.load(root / 'model-index.yml')
    models = [model for file in index['Import']
              for model in mmengine.load(root / file)['Models']]
    listed = {model['Config'] for model in models}
    # Those with a result in sight; mim knows a config by its file's name.
    found = {f'configs/{path.relative_to(root / "configs")}'
             for path in root.glob('configs/[!_]*/*.py')
             if not path.stem.endswith(('_custom', '_shapes'))
             and path.parent.name != 'peers'}
    assert listed == found and len({path.rsplit('/')[-1] for path in listed}
                                   ) == len(models) == len(listed)
    # Nothing of these has been trained here; the weights are the released, the
    # results and epochs their curves'.
    assert {model['Config'] for model in models
            if model['Weights'] != NO_WEIGHTS} == {
        model['Config'] for model in models if 'Results' in model} == {
            config for config, _, _ in released()}
    found = {model['Config']: model for model in models}
    for config, weights, curve in released():
        model = found[config]
        assert model['Weights'] == weights
        assert model['Metadata']['Epochs'] == len(curve)
        result, = model['Results']
        assert result['Metrics']['Top 1 Accuracy'] == max(
            curve.values())


def released():
    """Config, address and learning curve of the six released models."""
    for arch in ('small', 'base', 'large'):
        for suffix, name, curve in (('', '300e', 'imagenet_224'),
                                    ('_384', '384_ft', 'imagenet_384')):
            yield (f'configs/imagenet/iformer_{arch[0]}_{name}.py',
                   'https://huggingface.co/sail/dl2/resolve/main/iformer/'
                   f'iformer_{arch}{suffix}.pth',
                   read_curve(f'{curve}/{arch[0].upper()}'))


def test_list_models():
    assert list_models('imagenet/iformer_s_384*') == [Model(
        'imagenet/iformer_s_384_ft', 'Image Classification', 'ImageNet-1K',
        20_899_944, '84.6 top-1', 'iformer_small_384')]
    assert list_models('mask_rcnn/iformer_?_1x') == [
        Model(f'mask_rcnn/iformer_{arch}_1x', 'Instance Segmentation', 'COCO',
              parameters, published, None) for arch, parameters, published in (
            ('s', 39_641_776, '46.2 box AP, 41.9 mask AP'),
            ('b', 67_562_928, '48.3 box AP, 43.4 mask AP'),
            ('l', 106_255_088, None))]
    assert list_models('iformer_s') == []
    assert {model.weights for model in list_models()} == {None, *RELEASED}


@pytest.mark.parametrize('name, table, row', [
    ('mask_rcnn/iformer_s_1x', 'coco', 'iFormer-S'),
    ('mask_rcnn/iformer_b_1x', 'coco', 'iFormer-B'),
    ('fpn_ade20k/iformer_s_80k', 'ade20k', 'iFormer-S'),
    ('upernet_ade20k/iformer_s_160k', 'upernet', 'iFormer-S')])
def test_published_results_are_those_of_the_tables(name, table, row):
    model, = list_models(name)
    row = TABLES[table][row]
    assert [float(number) for number in re.findall(
        r'[0-9.]+', model.published)] == list(row.metrics.values())
    assert abs(model.parameters / 1e6 - row.params) < 0.6


@pytest.mark.slow
@pytest.mark.parametrize('model', list_models(), ids=lambda model: model.name)
def test_parameters_are_counted(model):
    cfg = load_in_scope(config_path(model.name))
    with torch.device('meta'):
        built = MODELS.build(cfg.model)
    assert sum(parameter.numel() for parameter in built.parameters()
               ) == model.parameters


def test_the_table_of_models():
    titles, row = run_tool('models.py', '*_b_384*').splitlines()
    assert re.split(' {2,}', titles) == [
        'config', 'task', 'data', 'params M', 'published', 'weights']
    assert re.split(' {2,}', row) == [
        'imagenet/iformer_b_384_ft', 'Image Classification', 'ImageNet-1K',
        '48.9', '85.7 top-1', 'iformer_base_384']
    error = refusal('models.py', 'mask_rcn/iformer_s')
    assert "'mask_rcn/iformer_s'" in error
    assert 'mask_rcnn/iformer_s_1x' in error


def test_by_mmengines_hub():
    cfg = get_config('mmiformer::mask_rcnn/iformer_s_1x.py')
    assert cfg.model.backbone.arch == 'small'
    for config, weights, _ in released():
        cfg = get_config(config.replace('configs/', 'mmiformer::'),
                         pretrained=True)
        assert cfg.model_path == weights


@pytest.mark.parametrize('inferencer, name', [
    (DetInferencer, 'mask_rcnn_iformer_s_1x'),
    (MMSegInferencer, 'fpn_ade20k_iformer_s_80k')])
def test_listed_names_without_weights(inferencer, name):
    assert name in inferencer.list_models('mmiformer')
    with DefaultScope.overwrite_default_scope('mmiformer'), (
            pytest.raises(FileNotFoundError, match=NO_WEIGHTS)):
        inferencer(name, scope='mmiformer')


def test_by_mmpretrains_hub():
    root = mmiformer.zoo.CONFIGS.parent
    ModelHub.register_model_index(root / 'model-index.yml', root)
    names = mmpretrains_models('imagenet_iformer', task='Image Classification')
    assert len(names) == 6
    for config, weights, _ in released():
        path = Path(config)
        found = ModelHub.get(f'{path.parent.name}_{path.stem}')
        assert found.weights == weights
        assert found.config.filename == str(root / config)


def test_configs_of_a_checkout_that_is_not_installed(tmp_path, configs):
    """As a fresh clone has them: without .mim, which the installation makes."""
    (tmp_path / 'mmiformer').mkdir()
    (tmp_path / 'configs').symlink_to(configs)
    source = Path(mmiformer.zoo.__file__)
    shutil.copy(source, tmp_path / 'mmiformer')
    zoo = runpy.run_path(str(tmp_path / 'mmiformer' / source.name))
    assert zoo['config_path']('mask_rcnn/iformer_s_1x') == str(
        tmp_path / 'configs/mask_rcnn/iformer_s_1x.py')
