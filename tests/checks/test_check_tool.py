"""The tool end to end, and the check at the start of training."""
import json
import shutil

import damages as d
import pytest
from conftest import ROOT, call, refusal

from mmiformer.checks import check_start
from mmiformer.config import load_config

CONFIG = '''
_base_ = {base!r}
shapes = dict(root={data!r}, train=6, val=3, size=64)
train_dataloader = dict(dataset=dict({train}))
val_dataloader = dict(dataset=dict({val}))
test_dataloader = val_dataloader
model = dict(backbone=dict(init_cfg=None))
'''


def write_config(family, root, path):
    def where(name):
        if family == 'cls':
            return f'data_prefix={str(root / "crops" / name)!r}'
        return f'data_root={str(root) + "/"!r}'

    text = CONFIG.format(
        base=str(ROOT / 'configs' / d.FAMILIES[family] / 'iformer_s_shapes.py'),
        data=str(root), train=where('training'), val=where('validation'))
    if family == 'coco':
        text += (f"val_evaluator = dict(ann_file={str(root)!r} + "
                 "'/annotations/instances_validation.json')\n"
                 'test_evaluator = val_evaluator')
    path.write_text(text)
    return path


@pytest.mark.parametrize('family, victim, title', [
    ('coco', 'images/training/00003.jpg', 'truncated or damaged'),
    ('seg', 'annotations/validation/00001.png', 'label maps that are damaged'),
    ('cls', 'crops/training/*/*.jpg', 'truncated or damaged')])
def test_the_tool(family, victim, title, shapes, tmp_path):
    root = tmp_path / 'shapes'
    shutil.copytree(shapes, root)
    path = next(root.glob(victim))
    path.write_bytes(path.read_bytes()[:100])
    config = write_config(family, root, tmp_path / 'c.py')
    output = call('check_dataset.py', config, '--out', tmp_path / 'out.json',
                  check=False)
    assert '1 errors, 0 notes' in output and title in output
    assert str(path) in output and 'Traceback' not in output
    report = json.loads((tmp_path / 'out.json').read_text())
    assert report['errors'] == 1 and len(report['faults']) == 1
    assert report['faults'][0]['names'][0].startswith(str(path))


def test_notes_alone_pass(shapes, tmp_path):
    root = tmp_path / 'shapes'
    shutil.copytree(shapes, root)
    path = root / 'annotations/instances_training.json'
    content = json.loads(path.read_text())
    content['annotations'][0]['bbox'][2] = 0
    path.write_text(json.dumps(content))
    config = write_config('coco', root, tmp_path / 'c.py')
    output = call('check_dataset.py', config)
    assert 'note: boxes that are empty: 1' in output
    assert 'train: images: 6' in output  # the progress, off a terminal
    assert f'{config}/report.json: ' in refusal(
        'check_dataset.py', config, '--out', config / 'report.json')


@pytest.mark.parametrize('family', d.FAMILIES)
def test_training_does_not_start_on_bad_data(family, shapes, tmp_path, log):
    root = tmp_path / 'shapes'
    shutil.copytree(shapes, root)
    cfg = load_config(str(write_config(family, root, tmp_path / 'c.py')))
    check_start(cfg, ('train', 'val'))
    folder = root / ('crops' if family == 'cls' else 'images')
    path = next((folder / 'validation').rglob('*.jpg'))
    whole = path.read_bytes()
    shutil.copy(next((folder / 'training').rglob('*.jpg')), path)
    check_start(cfg, ('train', 'val'))  # contents are compared by the tool alone
    assert not any('also in testing' in line for line in log)
    path.write_bytes(whole[:700])
    with pytest.raises(ValueError, match='cannot train on this data; tools/'
                       'check_dataset.py .*c.py reads all') as error:
        check_start(cfg, ('train', 'val'))
    assert str(path) in str(error.value)
    check_start(cfg, ('test', ))  # a test says itself what it cannot read


def test_notes_are_logged_at_the_start(shapes, tmp_path, log):
    root = tmp_path / 'shapes'
    shutil.copytree(shapes, root)
    cfg = load_config(str(write_config('seg', root, tmp_path / 'c.py')))
    (root / 'images/training/00000.jpg').unlink()
    check_start(cfg, ('train', 'val'))
    assert any('label maps without an image: 1' in line for line in log)


def test_train_py_says_it_without_a_trace(shapes, tmp_path):
    root = tmp_path / 'shapes'
    shutil.copytree(shapes, root)
    (root / 'images/training/00002.jpg').unlink()
    config = write_config('coco', root, tmp_path / 'c.py')
    output = refusal('train.py', config, '--work-dir', tmp_path / 'w')
    assert output.startswith('error: cannot train on this data')
    assert '00002.jpg' in output
    assert not (tmp_path / 'w').exists()
