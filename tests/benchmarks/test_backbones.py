"""Cases, variants and rows, mostly on networks of one convolution."""
import json
import sys
from functools import partial

import backbones
import pytest
import torch
from backbones import Case, make_cases, run_case
from conftest import TINY
from reference import fill
from torch import nn
from variants import DEFAULT, NETWORKS, SAME, Variant

from mmiformer import IFormer


class Plain(nn.Module):
    """One convolution, whose output can be moved."""

    def __init__(self, shift=0.):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.shift, self.factor = shift, 1.

    def switch_to_deploy(self):
        self.factor = 1.25

    def compile(self, dynamic):
        self.factor = 0.5 if dynamic is False else 0.

    def forward(self, x):
        x = self.conv(x)
        return x * self.factor + self.shift * x.std(unbiased=False), x


class Broken(Plain):

    def forward(self, x):
        raise RuntimeError('no | kernel\nand more')


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    for name, network in dict(
            plain=Plain, shifted=partial(Plain, 0.5), broken=Broken,
            tiny=partial(IFormer, TINY)).items():
        monkeypatch.setitem(NETWORKS, name, network)
    monkeypatch.setitem(SAME, 'shifted', 'plain')


def run(*names, mode='forward', dtype='fp32', size=(8, 6, 2)):
    return run_case(Case(*size, mode, dtype), [Variant.parse(x) for x in names],
                    torch.device('cpu'), rounds=2)


@pytest.mark.parametrize('read, text, words', [
    *((lambda size: make_cases([size], ['forward'], ['fp32']), size,
       ['800x1280']) for size in ('22y', '0x3', '224@0', '224x')),
    (Variant.parse, 'Swin-X', ['Swin-T', 'reference']),
    (Variant.parse, 'iFormer-S+fast', ["'fast'", 'deploy', 'compile'])])
def test_what_is_unknown_is_named(read, text, words):
    with pytest.raises(ValueError) as error:
        read(text)
    assert all(word in str(error.value) for word in (text, *words))


def test_cases_and_variants():
    cases = make_cases(['224@8', '800x1280'], ['train'], ['bf16'])
    assert cases == [Case(224, 224, 8, 'train', 'bf16'),
                     Case(800, 1280, 1, 'train', 'bf16')]
    assert [case.size for case in cases] == ['224@8', '800x1280']
    variant = Variant.parse('iFormer-B+compile+window+deploy')
    assert variant == Variant('iFormer-B', ('window', 'deploy', 'compile'))
    assert variant.truth == Variant('iFormer-B', ('window', ))
    assert Variant.parse('reference').truth == Variant('iFormer-S')
    assert all(Variant.parse(name).name == name for name in DEFAULT)


def test_options_and_weights_reach_the_network():
    network = Variant.parse('tiny+cp+window').build()
    stage = network.stages[0]
    assert stage.with_cp and stage.blocks[0].mixer.low_mixer.window_size == 28
    assert [stage.with_cp for stage in Variant.parse('tiny+cp1').build().stages
            ] == [True, False, False, False]
    fill(expected := IFormer(TINY))
    for name, value in network.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name])
        if 'layer_scale' in name:  # it hides no block
            assert value.min() >= 0.1
        elif value.is_floating_point():
            assert value.std() > 0.01, name


def test_the_error_is_that_against_the_eager_network():
    rows = run('plain', 'plain+cp', 'shifted', 'plain+deploy', 'plain+compile')
    assert [row['multiply_adds'] for row in rows] == [2 * 48 * 3 * 4] * 4
    fill(model := Plain())
    out = model.conv(torch.randn(
        2, 3, 8, 6, generator=torch.Generator().manual_seed(0)))
    largest = (out.abs().max() / out.std(unbiased=False)).item()
    assert [row['error'] for row in rows] == pytest.approx(
        [0, 0.5, 0.25 * largest, 0.5 * largest], rel=1e-4)
    row, = run('plain', dtype='bf16')
    assert 1e-4 < row['error'] < 0.1  # what bf16 rounds, against fp32


def test_a_failing_variant_costs_its_own_row():
    rows = run('plain', 'plain+deploy', 'broken', 'plain+cp', mode='train')
    assert [row['variant'] for row in rows] == ['plain', 'broken', 'plain+cp']
    assert rows[0]['multiply_adds'] == 3 * 2 * 48 * 3 * 4
    assert rows[0]['failure'] is None and len(rows[0]['samples']) == 2
    assert rows[1]['failure'] == 'RuntimeError: no / kernel'
    assert 'with_cp' in rows[2]['failure']  # the class has no such argument


def test_a_training_step_trains():
    case = Case(8, 6, 2, 'train', 'fp32')
    model = backbones.build(Variant('plain'), case, torch.device('cpu'))
    before = model.conv.weight.detach().clone()
    backbones.make_step(model, model, case, torch.rand(2, 3, 8, 6))()
    # The first step of AdamW is of the size of the learning rate.
    moved = (model.conv.weight - before).abs()
    assert moved.max().item() == pytest.approx(1e-4, rel=0.2)
    assert model.conv.weight.grad is None and model.training


def test_statistics_and_comparison():
    rows = [dict(variant=name, failure=None, multiply_adds=12, dtype='bf16')
            for name in ('plain', 'reference')]
    backbones.add_statistics(rows[0], [10., 1., 4., 2., 3.])
    backbones.add_statistics(rows[1], [6.])
    assert [(x['median'], x['quartiles']) for x in rows] == [
        (3, [2, 4]), (6, [6, 6])]
    backbones.compare([dict(failure='x'), *rows], dict(fp32=1., bf16=8.))
    assert [(x['speedup'], x['of_peak'], x['baseline']) for x in rows] == [
        (2, 0.5, 'reference'), (1, 0.25, 'reference')]
    backbones.compare(rows[:1], dict(bf16=8.))
    assert (rows[0]['speedup'], rows[0]['baseline']) == (1, 'plain')


def test_the_command(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(backbones, 'product_rate', partial(
        backbones.product_rate, sides=(64, )))
    monkeypatch.setattr(sys, 'argv', [
        'backbones.py', '--sizes', '8x6@2', '7', '--dtypes', 'fp32',
        '--variants', 'plain', '--rounds', '2', '--out', str(tmp_path)])
    backbones.main()
    report = json.loads((tmp_path / 'backbones.json').read_text())
    assert [(row['size'], row['mode']) for row in report['rows']] == [
        ('8x6@2', 'forward'), ('7', 'forward'), ('8x6@2', 'train'),
        ('7', 'train')]
    for row in report['rows']:
        assert row['speedup'] == 1 and row['memory'] > 0
        assert row['of_peak'] == (row['multiply_adds'] / row['median'] /
                                  report['product_rates']['fp32'])
    assert (tmp_path / 'backbones.md').read_text() in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['forward', 'train'])
def test_real_networks(mode):
    rows = run('reference', 'iFormer-S', 'iFormer-S+deploy', 'ResNet50',
               'Swin-T', 'PVT-S', mode=mode, size=(64, 32, 2))
    assert [row['failure'] for row in rows] == [None] * len(rows)
    assert all(row['error'] < 1e-4 for row in rows)
    assert rows[0]['multiply_adds'] == rows[1]['multiply_adds'] > 1e8
