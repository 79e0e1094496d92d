"""The paper's dense tables against what the installed packages build."""
import pytest
from conftest import call, refusal
from mmengine.config import Config

from mmiformer.paper import count
from mmiformer.paper.peers import PEERS, build_row
from mmiformer.paper.tables import SHAPES, TABLES, find_row

COCO, ADE = 'mask_rcnn/iformer_s_1x.py', 'fpn_ade20k/iformer_s_80k.py'


@pytest.mark.parametrize('name', sorted(PEERS))
def test_parameters_of_every_row(name, configs):
    for table, config in (('coco', COCO), ('ade20k', ADE)):
        if name in TABLES[table]:
            model = build_row(Config.fromfile(configs / config), name)
            params = sum(p.numel() for p in model.parameters()) / 1e6
            assert abs(params - TABLES[table][name].params) < 0.6, table


@pytest.mark.slow
@pytest.mark.parametrize('name', sorted(PEERS))
def test_flops_of_every_row(name, configs):
    for table, config in (('coco', COCO), ('ade20k', ADE)):
        if name in TABLES[table]:
            model = build_row(Config.fromfile(configs / config), name)
            flops = count(model, SHAPES[table]).flops / 1e9
            # On COCO all are within 1 G, but Twins-B: 345 here, 340 in print.
            loose = table == 'ade20k' and not name.startswith('iFormer')
            assert flops == pytest.approx(
                TABLES[table][name].flops, rel=0.03 if loose else 0,
                abs=5 if name == 'Twins-B' else 1)


@pytest.mark.parametrize('config, row', [
    (COCO, ('coco', 'iFormer-S')),
    ('mask_rcnn/iformer_b_1x.py', ('coco', 'iFormer-B')),
    (ADE, ('ade20k', 'iFormer-S')),
    ('upernet_ade20k/iformer_s_160k.py', ('upernet', 'iFormer-S')),
    ('mask_rcnn/iformer_l_1x.py', None),
    ('mask_rcnn/iformer_s_3x_ms.py', ('coco', 'iFormer-S')),
    ('faster_rcnn/iformer_s_custom.py', None),
    ('mask_rcnn/iformer_s_nuclei.py', None),  # heads for other data
    ('fpn_camvid/iformer_s.py', None),
])
def test_the_row_of_a_config(config, row, configs):
    cfg = Config.fromfile(configs / config)
    found = find_row(cfg)
    assert (found and (*found[:2], found[2])) == (
        row and (*row, TABLES[row[0]][row[1]]))
    if row:
        assert build_row(cfg, 'Focal-T') is None  # of no package
        cfg.model.decode_head = [dict(type='FPNHead')] * 2  # of a cascade
        cfg.model.type = 'CascadeEncoderDecoder'
        assert find_row(cfg) is None
    assert find_row(Config(dict(model=dict(type='IFormer')))) is None


@pytest.mark.slow
def test_the_tool(configs, tmp_path):
    """Of a table's model at a size that the table has not, and of a backbone
    in a config without ``default_scope``, at its own size."""
    (tmp_path / 'bare.py').write_text(
        "model = dict(type='mmiformer.IFormer', arch='small')\n")
    for arguments, shape, name, numbers in (
            ((configs / COCO, '--shape', 64, 96), '64x96', 'iFormer-S',
             ['39.6', '-']),
            ((tmp_path / 'bare.py', ), '224x224', 'model',
             ['19.5', '-', '4.5', '-', '4.9'])):
        output = call('get_flops.py', *arguments)
        assert f'at {shape}' in output
        line, = [x for x in output.splitlines() if x.startswith(name)]
        assert line.split()[1:][:len(numbers)] == numbers
    assert '--table' in refusal('get_flops.py')
