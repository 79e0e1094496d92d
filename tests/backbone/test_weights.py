"""Released and trained weights: every tensor, or an error that says why."""
import logging
import uuid

import pytest
import torch
from conftest import TINY
from mmengine.model import BaseModel, PretrainedInit
from mmengine.runner import Runner

from mmiformer import IFormer
from mmiformer.backbone import weights
from mmiformer.backbone.layers import resize_pos_embed
from mmiformer.backbone.weights import adapt_state_dict, check_fit, rename

SIX = ['iformer_small', 'iformer_base', 'iformer_large', 'iformer_small_384',
       'iformer_base_384', 'iformer_large_384']

# Our names and the released ones of a tensor from every part.
SAMPLE = {
    'stages.0.pos_embed': 'pos_embed1',
    'stages.0.patch_embed.proj1.weight': 'patch_embed.proj1.weight',
    'stages.0.patch_embed.norm2.running_var':
    'patch_embed.norm2.running_var',
    'stages.2.patch_embed.proj.weight': 'patch_embed3.proj.weight',
    'stages.1.blocks.0.mixer.depthwise_branch.depthwise.weight':
    'blocks2.0.attn.high_mixer.proj1.weight',
    'stages.2.blocks.1.mixer.low_mixer.qkv.bias':
    'blocks3.1.attn.low_mixer.qkv.bias',
    'stages.3.blocks.0.scale2.layer_scale': 'blocks4.0.layer_scale_2',
    'stages.3.out_norm.weight': 'norm.weight',
}


class Detector(BaseModel):

    def __init__(self, **kwargs):
        super().__init__()
        self.backbone = IFormer(TINY, **dict(
            dict(pretrain_img_size=64), **kwargs))
        self.neck = torch.nn.Linear(2, 2)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.backbone(inputs)


def make_runner(model, folder, hook=True, **kwargs):
    hooks = dict(weights=dict(type='mmiformer.LoadBackboneHook'))
    return Runner(
        model, work_dir=str(folder), experiment_name=uuid.uuid4().hex,
        default_hooks=hooks if hook else None,
        **dict(dict(log_level='ERROR'), **kwargs))


@pytest.fixture(scope='module')
def released(released_keys):
    """A state dict of a small network under the released names."""
    state = IFormer(TINY, pretrain_img_size=64).state_dict()
    weights = {name: torch.rand(state[rename(name)].shape)
               for name in released_keys['iformer_small']
               if rename(name) in state}
    assert len(weights) == len(state) - 6  # three more output norms
    return dict(weights, **{'head.weight': torch.rand(1000, 48),
                            'head.bias': torch.rand(1000)})


def check_equals_released(backbone, released):
    own = backbone.state_dict()
    for ours, theirs in SAMPLE.items():
        assert torch.equal(own[ours], released[theirs]), ours


@pytest.mark.parametrize('name', SIX)
def test_all_six_released_checkpoints_fit(name, released_keys):
    _, arch, *size = name.split('_')
    with torch.device('meta'):
        model = IFormer(arch, pretrain_img_size=384 if size else 224)
        state = {key: torch.empty(shape)
                 for key, shape in released_keys[name].items()}
    adapt_state_dict(model, state)
    assert {k: v.shape for k, v in state.items()} == {
        k: v.shape for k, v in model.state_dict().items()}


WRAPS = [
    dict,
    lambda weights: dict(state_dict=weights, meta=dict(epoch=3)),
    lambda weights: dict(model=weights, epoch=3),
    lambda weights: {f'backbone.{k}': v for k, v in weights.items()},
    lambda weights: dict(state_dict={
        f'module.backbone.{k}': v for k, v in weights.items()}),
]


@pytest.mark.parametrize('wrap, load', [
    *((wrap, 'load_state_dict') for wrap in WRAPS), (WRAPS[2], 'init_cfg'),
    *((wrap, 'load_from') for wrap in WRAPS)])
def test_every_wrapping(wrap, load, released, tiny, tmp_path, log):
    checkpoint, path = wrap(dict(released)), str(tmp_path / 'weights.pth')
    torch.save(checkpoint, path)
    model = IFormer(**tiny, init_cfg=dict(type='Pretrained', checkpoint=path))
    if load == 'load_from':
        runner = make_runner(Detector(), tmp_path, load_from=path)
        runner.load_or_resume()
        model = runner.model.backbone
    elif load == 'init_cfg':
        model.init_weights()
    else:
        model.load_state_dict(checkpoint)
    check_equals_released(model, released)
    if load == 'load_from':  # this runner logs errors alone
        return
    (line, ) = [line for line in log if 'loaded' in line]
    count = len(released) - 2
    assert f'loaded {count} of {count} tensors' in line
    assert 'dropped head.weight, head.bias' in line
    assert 'stages.0.out_norm.weight' in line  # not in it, and said so
    assert 'resized' not in line


@pytest.mark.parametrize('key', ['state_dict', 'model'])
@pytest.mark.parametrize('prefix', ['', 'module.', 'student.',
                                    'module.student.'])
def test_whole_models_keep_their_heads(prefix, key, released, tmp_path):
    """Also where DistributedDataParallel or another model was around them."""
    first = Detector()
    first.backbone.load_state_dict(dict(released))
    torch.save({key: {
        prefix + name: value for name, value in first.state_dict().items()}},
        tmp_path / 'weights.pth')
    runner = make_runner(Detector(), tmp_path)
    runner.load_checkpoint(
        str(tmp_path / 'weights.pth'), strict=True,
        revise_keys=[(r'^module\.', ''), (r'^student\.', '')])
    check_equals_released(runner.model.backbone, released)
    assert torch.equal(runner.model.neck.weight, first.neck.weight)


def test_a_trained_detector_starts_another(released, tmp_path):
    first = Detector()
    first.backbone.load_state_dict(dict(released))
    torch.save(dict(state_dict=first.state_dict(), meta={}),
               tmp_path / 'epoch_1.pth')
    for prefix, kind in ((None, 'Pretrained'), ('backbone.', PretrainedInit)):
        init_cfg = dict(type=kind, checkpoint=str(tmp_path / 'epoch_1.pth'))
        if prefix:
            init_cfg['prefix'] = prefix
        second = Detector(init_cfg=init_cfg)
        second.init_weights()
        check_equals_released(second.backbone, released)


def test_other_initialisers_come_first(tiny, tmp_path):
    """In mmengine's list one may follow another."""
    constant = dict(type='Constant', layer='LayerNorm', val=3.)
    model = IFormer(**tiny, init_cfg=constant)
    model.init_weights()
    assert model.stages[0].out_norm.weight.unique().tolist() == [3.]
    torch.save(IFormer(**tiny).state_dict(), tmp_path / 'plain.pth')
    model = IFormer(**tiny, init_cfg=[constant, dict(
        type='Pretrained', checkpoint=str(tmp_path / 'plain.pth'))])
    model.init_weights()
    assert model.stages[0].out_norm.weight.unique().tolist() == [1.]


def test_an_output_norm_that_the_model_lacks_is_dropped(released, tiny, log):
    IFormer(**tiny, out_norms=False).load_state_dict(dict(released))
    assert 'dropped norm.weight' in log[-1]


def test_stages_that_are_not_built_are_skipped(released, tiny, tmp_path, log):
    path = str(tmp_path / 'weights.pth')
    torch.save(dict(released), path)
    model = IFormer(**tiny, out_indices=(0, 1), init_cfg=dict(
        type='Pretrained', checkpoint=path))
    model.init_weights()
    late = [name for name in released
            if (rename(name) or '').startswith(('stages.2', 'stages.3'))]
    assert f'skipped {len(late)} tensors' in log[-1]
    assert 'out_indices: 2, 3' in log[-1]
    detector = Detector(out_indices=(0, 1))
    make_runner(detector, tmp_path, load_from=path).load_or_resume()
    for backbone in (model, detector.backbone):
        assert torch.equal(backbone.stages[1].blocks[0].norm1.weight,
                           released['blocks2.0.norm1.weight'])
    with pytest.raises(RuntimeError, match='Missing.*stages.2'):
        IFormer(**tiny).load_state_dict(model.state_dict())


def test_position_maps_of_another_grid_are_resized(released, log):
    model = IFormer(TINY, pretrain_img_size=(384, 320))
    model.load_state_dict(dict(released))
    assert model.stages[0].pos_embed.shape == (1, 96, 80, 16)
    torch.testing.assert_close(
        model.stages[3].pos_embed.data,
        resize_pos_embed(released['pos_embed4'], (12, 10)))
    assert 'resized stages.0.pos_embed from 16x16 to 96x80' in log[-1]


def test_resizing_a_position_map():
    ramp = torch.arange(4.).view(1, 2, 2, 1)
    assert resize_pos_embed(ramp, (2, 2)) is ramp
    row = resize_pos_embed(ramp, (2, 4))[0, 0, :, 0]
    assert row.tolist() == [0., .25, .75, 1.]  # cell centres, not corners


def test_a_partial_checkpoint_raises_and_lists_the_names(
        released, tiny, tmp_path):
    path = str(tmp_path / 'part.pth')
    model = IFormer(**tiny, init_cfg=dict(type='Pretrained', checkpoint=path))
    before = model.stages[0].pos_embed.clone()
    state = dict(released)
    del state['blocks3.1.attn.proj.weight']
    state['blocks5.0.norm1.weight'] = torch.ones(3)
    state['patch_embed2.proj.bias'] = torch.ones(7)
    torch.save(state, path)
    with pytest.raises(ValueError) as error:
        model.init_weights()
    message = str(error.value)
    assert path in message and 'is arch the same' in message
    assert 'missing 1: stages.2.blocks.1.mixer.proj.weight' in message
    assert 'unknown 1: blocks5.0.norm1.weight' in message
    assert ('of another shape 1: stages.1.patch_embed.proj.bias (7,) instead '
            'of (32,)') in message
    runner = make_runner(Detector(), tmp_path, load_from=path)
    with pytest.raises(ValueError, match='unknown 1: blocks5.0.norm1.weight'):
        runner.load_or_resume()
    model.is_init = True
    with pytest.raises(RuntimeError, match='Missing(.|\n)*blocks5'):
        model.load_state_dict(state)  # torch loads what fits, and raises
    assert not torch.equal(model.stages[0].pos_embed, before)


@pytest.mark.parametrize('nested', [False, True])
def test_strict_false_is_torchs_contract(nested, released):
    """torch reports what is missing and unexpected; names and position maps
    are adapted all the same."""
    model = Detector(pretrain_img_size=96)
    backbone = model.backbone
    target, prefix = (model, 'backbone.') if nested else (backbone, '')
    before = backbone.stages[1].pos_embed.clone()
    part = {prefix + name: released[name] for name in (
        'pos_embed1', 'blocks2.0.norm1.weight', 'norm.bias', 'head.bias')}
    part['lora.weight'] = torch.ones(1)
    result = target.load_state_dict(part, strict=False)
    assert result.unexpected_keys == ['lora.weight']
    loaded = {'stages.0.pos_embed', 'stages.1.blocks.0.norm1.weight',
              'stages.3.out_norm.bias'}
    assert {prefix + name for name in backbone.state_dict()
            if name not in loaded and 'num_batches' not in name
            and '.out_norm.' not in name} == {
        name for name in result.missing_keys if 'neck' not in name}
    assert backbone.stages[0].pos_embed.shape[1] == 24
    assert torch.equal(backbone.stages[1].blocks[0].norm1.weight,
                       released['blocks2.0.norm1.weight'])
    assert torch.equal(backbone.stages[1].pos_embed, before)
    with pytest.raises(RuntimeError, match='Missing key'):
        target.load_state_dict(part)
    with pytest.raises(RuntimeError, match='size mismatch'):
        target.load_state_dict({f'{prefix}norm.bias': torch.ones(3)},
                               strict=False)


@pytest.mark.parametrize('foreign', [
    'layer1.0.conv1.weight',
    'stages.0.blocks.0.norm1.weight'])  # Swin's, of the same shape as ours
def test_the_heads_of_a_detector_with_another_backbone_load(
        foreign, tmp_path, capsys):
    """By load_from; its backbone stays as it was initialised."""
    model = Detector()
    before = {name: value.clone() for name, value in
              model.backbone.state_dict().items()}
    torch.save(dict(state_dict={
        f'backbone.{foreign}': torch.full((16, ), 3.),
        'backbone.conv1.weight': torch.ones(1),
        'neck.weight': torch.ones(2, 2), 'neck.bias': torch.ones(2)}),
        tmp_path / 'other.pth')
    runner = make_runner(model, tmp_path, log_level='WARNING',
                         load_from=str(tmp_path / 'other.pth'))
    runner.load_or_resume()
    said = ''.join(capsys.readouterr())
    for words in ('unexpected key in source state_dict', 'conv1.weight',
                  'missing keys in source state_dict', 'backbone.stages.0'):
        assert words in said
    assert torch.equal(model.neck.weight, torch.ones(2, 2))
    for name, value in model.backbone.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize('load', ['init_cfg', 'load_from'])
def test_a_checkpoint_that_matches_nothing_raises(load, tiny, tmp_path):
    path = str(tmp_path / 'resnet.pth')
    torch.save({'layer1.0.conv1.weight': torch.ones(1)}, path)
    model = IFormer(**tiny, init_cfg=dict(type='Pretrained', checkpoint=path))
    runner = make_runner(Detector(), tmp_path, load_from=path)
    with pytest.raises(ValueError, match='no tensor.*layer1.0.conv1'):
        (model.init_weights if load == 'init_cfg' else
         runner.load_or_resume)()


def test_a_backbone_alone_without_the_hook_is_said(
        released, tmp_path, monkeypatch):
    """mmengine gives the backbone nothing of such a file."""
    said = []
    monkeypatch.setattr(weights, 'print_log', lambda *args: said.append(args))
    torch.save(dict(released), tmp_path / 'bare.pth')
    runner = make_runner(Detector(), tmp_path, hook=False,
                         load_from=str(tmp_path / 'bare.pth'))
    runner.load_or_resume()
    ((line, _, level), ) = said
    assert level == logging.WARNING
    assert 'loaded 0 of 0' in line and "type='Pretrained'" in line


def test_a_file_without_weights(tiny, tmp_path):
    torch.save([1, 2], tmp_path / 'list.pth')
    model = IFormer(**tiny, init_cfg=dict(
        type='Pretrained', checkpoint=str(tmp_path / 'list.pth')))
    with pytest.raises(ValueError, match='list.pth holds a list'):
        model.init_weights()


def test_another_number_of_input_channels_is_named(tiny):
    weights = IFormer(**tiny).state_dict()
    with pytest.raises(ValueError, match='in_channels is 4.* with 3'):
        check_fit(IFormer(**tiny, in_channels=4), weights)
    with pytest.raises(ValueError) as error:  # of the same four
        check_fit(IFormer(**tiny, in_channels=4), dict(
            IFormer(**tiny, in_channels=4).state_dict(), other=torch.ones(1)))
    assert 'in_channels' not in str(error.value)
