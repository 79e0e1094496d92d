"""tools/check_dataset.py, end to end."""
import json

import damages as d
from conftest import call, refusal


def test_errors(bases, root, tmp_path):
    path = root / 'annotations/validation/00001.png'
    path.write_bytes(path.read_bytes()[:-100])
    d.configure(bases('seg'), root).dump(tmp_path / 'c.py')
    output = call('check_dataset.py', tmp_path / 'c.py', '--out',
                  tmp_path / 'out.json', check=False)
    assert '1 errors, 0 notes' in output and (
        'label maps that are damaged' in output)
    assert str(path) in output and 'Traceback' not in output
    report = json.loads((tmp_path / 'out.json').read_text())
    assert report['errors'] == 1 and len(report['faults']) == 1
    assert report['faults'][0]['names'][0].startswith(str(path))


def test_notes_alone_pass(bases, root, tmp_path):
    path = root / 'annotations/instances_training.json'
    content = json.loads(path.read_text())
    content['annotations'][0]['bbox'][2] = 0
    path.write_text(json.dumps(content))
    config = tmp_path / 'c.py'
    d.configure(bases('coco'), root).dump(config)
    output = call('check_dataset.py', config)
    assert 'note: boxes that are empty: 1' in output
    assert 'train: images: 6' in output  # the progress, off a terminal
    assert f'{config}/report.json: ' in refusal(
        'check_dataset.py', config, '--out', config / 'report.json')


