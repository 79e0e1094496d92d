"""demo/run.py from its first line to its last, on a few small shapes."""
import json
from pathlib import Path

import cv2
import pytest
import run as demo
from conftest import run_tool
from small_configs import write_config

SEG = 'train_cfg = dict(max_iters=2, val_interval=2)\n'
DET = '''
train_cfg = dict(max_epochs=1)
model['backbone']['init_cfg'] = dict(
    type='Pretrained', prefix='backbone.', checkpoint='')
'''


@pytest.mark.slow
def test_the_demo(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    calls = []

    def run(name, *words):
        calls.append((name, *words))
        return run_tool(name, *words)

    for name, value in dict(
            FPN=write_config(tmp_path / 'fpn.py', 'seg', SEG),
            MASK_RCNN=write_config(tmp_path / 'rcnn.py', 'det', DET),
            DATA=Path('shapes'), make_shapes=lambda path: path,
            run_tool=run).items():
        monkeypatch.setattr(demo, name, value)
    monkeypatch.setattr('sys.argv', ['run.py', 'out'])
    demo.main()
    assert [name for name, *_ in calls] == ['train.py', 'test.py'] * 2
    metrics = json.loads(Path('out/metrics.json').read_text())
    assert metrics.keys() == {'mIoU', 'bbox_AP50', 'segm_AP50'}
    assert 0 < metrics['mIoU'] < 1
    assert f'mIoU {metrics["mIoU"]:.3f}' in capsys.readouterr().out
    # The detector begins with the segmentor's backbone.
    start, = Path.cwd().glob('out/semantic_fpn/iter_2.pth')
    assert Path(calls[2][-1].partition('=')[2]).resolve() == start
    for name in ('semantic_fpn', 'mask_rcnn', 'curves'):
        assert cv2.imread(f'out/{name}.png').shape[1] > 800
