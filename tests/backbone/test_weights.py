"""Released and trained weights: all of a file, or an error that names why."""
import pickle

import pytest
import torch
from mmengine.model import BaseModel, PretrainedInit
from mmengine.runner import Runner

from mmiformer import IFormer
from mmiformer.backbone.hub import read_checkpoint
from mmiformer.backbone.layers import resize_pos_embed
from mmiformer.backbone.weights import adapt_state_dict

SIX = ['iformer_small', 'iformer_base', 'iformer_large', 'iformer_small_384',
       'iformer_base_384', 'iformer_large_384']


def check_equals_released(backbone, released):
    """A sample of tensors from every part, by their released names."""
    own = backbone.state_dict()
    for ours, theirs in {
            'stages.0.pos_embed': 'pos_embed1',
            'stages.0.patch_embed.proj1.weight': 'patch_embed.proj1.weight',
            'stages.0.patch_embed.norm2.running_var':
            'patch_embed.norm2.running_var',
            'stages.2.patch_embed.proj.weight': 'patch_embed3.proj.weight',
            'stages.1.blocks.2.mixer.depthwise_branch.depthwise.weight':
            'blocks2.2.attn.high_mixer.proj1.weight',
            'stages.2.blocks.8.mixer.low_mixer.qkv.bias':
            'blocks3.8.attn.low_mixer.qkv.bias',
            'stages.3.blocks.0.scale2.layer_scale':
            'blocks4.0.layer_scale_2',
            'stages.3.out_norm.weight': 'norm.weight',
    }.items():
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


@pytest.mark.parametrize('wrap', [
    dict,
    lambda weights: dict(state_dict=weights, meta=dict(epoch=3)),
    lambda weights: dict(model=weights, epoch=3),
    lambda weights: {f'backbone.{k}': v for k, v in weights.items()},
    lambda weights: dict(state_dict={
        f'module.backbone.{k}': v for k, v in weights.items()}),
], ids=['plain', 'state_dict', 'model', 'backbone.', 'module.backbone.'])
@pytest.mark.parametrize('road', ['load_state_dict', 'init_cfg'])
def test_every_wrapping(wrap, road, released_small, tmp_path, log):
    checkpoint = wrap(dict(released_small))
    if road == 'load_state_dict':
        model = IFormer('small')
        model.load_state_dict(checkpoint)
    else:
        torch.save(checkpoint, tmp_path / 'weights.pth')
        model = IFormer('small', init_cfg=dict(
            type='Pretrained', checkpoint=str(tmp_path / 'weights.pth')))
        model.init_weights()
    check_equals_released(model, released_small)
    (line, ) = [line for line in log if 'loaded' in line]
    assert 'loaded 371 of 371 tensors' in line
    assert 'dropped head.weight, head.bias' in line
    assert 'stages.0.out_norm.weight' in line  # starts fresh, and is named
    assert 'resized' not in line


class Detector(BaseModel):

    def __init__(self, init_cfg=None):
        super().__init__()
        self.backbone = IFormer('small', init_cfg=init_cfg)
        self.neck = torch.nn.Linear(2, 2)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.backbone(inputs)


@pytest.mark.parametrize('wrap', [
    dict, lambda weights: dict(model=weights),
    lambda weights: {f'backbone.{k}': v for k, v in weights.items()},
], ids=['plain', 'model', 'backbone.'])
def test_load_from(wrap, released_small, tmp_path):
    torch.save(wrap(dict(released_small)), tmp_path / 'weights.pth')
    runner = Runner(
        Detector(), work_dir=str(tmp_path), default_hooks=dict(
            weights=dict(type='mmiformer.LoadBackboneHook')),
        load_from=str(tmp_path / 'weights.pth'))
    runner.load_or_resume()
    check_equals_released(runner.model.backbone, released_small)


def test_a_trained_detector_starts_another(released_small, tmp_path):
    first = Detector()
    first.backbone.load_state_dict(dict(released_small))
    torch.save(dict(state_dict=first.state_dict(), meta={}),
               tmp_path / 'epoch_1.pth')
    for prefix, kind in ((None, 'Pretrained'), ('backbone.', PretrainedInit)):
        init_cfg = dict(type=kind, checkpoint=str(tmp_path / 'epoch_1.pth'))
        if prefix:
            init_cfg['prefix'] = prefix
        second = Detector(init_cfg)
        second.init_weights()
        check_equals_released(second.backbone, released_small)


def test_state_dict_round_trip_is_strict(tiny):
    first, second = IFormer(**tiny), IFormer(**tiny)
    assert second.load_state_dict(first.state_dict()).missing_keys == []
    for name, value in second.state_dict().items():
        assert torch.equal(value, first.state_dict()[name])


def test_a_last_norm_that_is_not_emitted_is_dropped(released_small, log):
    IFormer('small', out_indices=(0, 1)).load_state_dict(dict(released_small))
    assert 'loaded 369 of 369 tensors' in log[-1]
    assert 'norm.weight' in log[-1]


def test_position_maps_of_another_grid_are_resized(released_small, log):
    model = IFormer('small', pretrain_img_size=(384, 320))
    model.load_state_dict(dict(released_small))
    assert model.stages[0].pos_embed.shape == (1, 96, 80, 96)
    torch.testing.assert_close(
        model.stages[3].pos_embed.data,
        resize_pos_embed(released_small['pos_embed4'], (12, 10)))
    assert 'resized stages.0.pos_embed from 56x56 to 96x80' in log[-1]


def test_resizing_a_position_map():
    ramp = torch.arange(4.).view(1, 2, 2, 1)
    assert resize_pos_embed(ramp, (2, 2)) is ramp
    row = resize_pos_embed(ramp, (2, 4))[0, 0, :, 0]
    assert row.tolist() == [0., .25, .75, 1.]  # cell centres, not corners


def test_a_partial_checkpoint_raises_and_lists_the_names(released_small):
    model = IFormer('small')
    before = model.stages[0].pos_embed.clone()
    state = dict(released_small)
    del state['blocks3.4.attn.proj.weight']
    state['blocks5.0.norm1.weight'] = torch.ones(3)
    state['patch_embed2.proj.bias'] = torch.ones(7)
    with pytest.raises(ValueError) as error:
        model.load_state_dict(state)
    message = str(error.value)
    assert 'missing 1: stages.2.blocks.4.mixer.proj.weight' in message
    assert 'unknown 1: blocks5.0.norm1.weight' in message
    assert ('of another shape 1: stages.1.patch_embed.proj.bias (7,) instead '
            'of (192,)') in message
    assert torch.equal(model.stages[0].pos_embed, before)


@pytest.mark.parametrize('nested', [False, True])
def test_a_checkpoint_that_matches_nothing_raises(nested, tmp_path):
    torch.save({'layer1.0.conv1.weight': torch.ones(1)}, tmp_path / 'r.pth')
    if nested:  # mmengine's load_from would only log a warning
        runner = Runner(Detector(), work_dir=str(tmp_path),
                        load_from=str(tmp_path / 'r.pth'))
        with pytest.raises(ValueError, match='matches no tensor.*init_cfg'):
            runner.load_or_resume()
    else:
        model = IFormer('small', init_cfg=dict(
            type='Pretrained', checkpoint=str(tmp_path / 'r.pth')))
        with pytest.raises(ValueError, match='r.pth.*layer1.0.conv1.weight'):
            model.init_weights()


def test_another_size_raises(released_small):
    with pytest.raises(ValueError, match='only in part .is arch the same'):
        IFormer('base').load_state_dict(dict(released_small))


class Payload:
    """Would write a file if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, 'w')


@pytest.mark.parametrize('zipped', [True, False])
def test_a_file_that_runs_code_is_refused(zipped, tmp_path):
    torch.save(dict(state_dict=Payload(str(tmp_path / 'ran'))),
               tmp_path / 'evil.pth', _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match='refused.*more than tensors.*open'):
        read_checkpoint(str(tmp_path / 'evil.pth'))
    assert not (tmp_path / 'ran').exists()


def test_bare_pickle_is_refused(tmp_path):
    (tmp_path / 'evil.pkl').write_bytes(
        pickle.dumps(Payload(str(tmp_path / 'ran'))))
    with pytest.raises(ValueError):
        read_checkpoint(str(tmp_path / 'evil.pkl'))
    assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('part', [0, .01, .5, .99])
def test_a_truncated_file(zipped, part, tmp_path):
    path = tmp_path / 'cut.pth'
    torch.save(dict(a=torch.rand(1000)), path,
               _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[:int(part * len(content))])
    with pytest.raises(ValueError, match='cut.pth is damaged.*again'):
        read_checkpoint(str(path))


def test_a_file_without_weights(tmp_path):
    torch.save([1, 2], tmp_path / 'list.pth')
    model = IFormer('small', init_cfg=dict(
        type='Pretrained', checkpoint=str(tmp_path / 'list.pth')))
    with pytest.raises(ValueError, match='holds a list'):
        model.init_weights()


def test_a_missing_path(tmp_path):
    with pytest.raises(FileNotFoundError, match='no checkpoint.*gone.pth'):
        read_checkpoint(str(tmp_path / 'gone.pth'))
