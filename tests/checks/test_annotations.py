"""What would crash pycocotools is refused before it gets there."""
import json
import re
import subprocess
import sys

import pytest
from mmengine.config import Config

from mmiformer.checks.annotations import find_annotation_faults
from mmiformer.checks.preflight import find_data_faults


@pytest.fixture
def write(tmp_path):
    def write(segmentation=None, name='a.png', **annotation):
        (tmp_path / 'a.json').write_text(json.dumps(dict(
            images=[dict(id=1, file_name=name, height=20, width=30)],
            annotations=[dict(id=7, image_id=1, bbox=[1, 1, 5, 5],
                              segmentation=segmentation, **annotation)])))
        return tmp_path / 'a.json'
    return write


@pytest.mark.parametrize('mask', [
    None, [], [[1, 1, 5, 1, 5, 5]], [[-3, 1, 35.5, 1, 5, 5], [1, 1, 2, 2]],
    dict(size=[20, 30], counts=[600]), dict(size=[20, 30], counts='e`0')])
def test_usual_masks_pass(mask, write, tmp_path):
    assert find_annotation_faults(write(mask), tmp_path) == []


@pytest.mark.parametrize('mask, message', [
    ([[1, 1, 1e9, 1, 5, 5]], 'annotation 7: a polygon reaches further than'),
    ([[1, 1, -1e6, 1, 5, 5]], 'reaches further than 100000 pixels'),
    ([[1, 1, float('inf'), 1, 5, 5]], 'Infinity is no number of JSON'),
    ([[1, 1, float('nan'), 1, 5, 5]], 'NaN is no number of JSON'),
    ([['a', 'b']], "is not of COCO's format"),
    (dict(size=[10**5, 10**6], counts='11'), r'the size \[100000, 1000000\], '
     r'the image has \[20, 30\]'),
    (dict(counts='11'), 'run lengths of the size None'),
    (7, 'its segmentation is a int')])
def test_what_is_refused(mask, message, write, tmp_path):
    (fault, ) = find_annotation_faults(write(mask), tmp_path)
    assert re.search(message, fault), fault


def test_why():
    """pycocotools' fault, without which this would be dead code."""
    code = ('import resource; from pycocotools import mask\n'
            'resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))\n'
            'mask.frPyObjects([[0, 0, 1e9, 0, 1e9, 1e9]], 20, 30)')
    pytest.importorskip('pycocotools')
    result = subprocess.run([sys.executable, '-c', code],
                            stderr=subprocess.DEVNULL)
    assert result.returncode < 0  # a signal


@pytest.mark.parametrize('name, inside', [
    ('a.png', True), ('sub/a.png', True), ('sub/../a.png', True),
    ('../images2/a.png', False), ('/etc/passwd', False),
    ('sub/../../a.png', False)])
def test_names_that_lead_out_of_the_folder(name, inside, write, tmp_path):
    (tmp_path / 'images').mkdir()
    path = write(name=name)
    faults = find_annotation_faults(path, tmp_path / 'images')
    assert bool(faults) != inside
    assert inside or f'the image {name!r} lies outside of' in faults[0]
    assert find_annotation_faults(path) == []  # an evaluator reads none
    cfg = Config(dict(
        val_dataloader=dict(dataset=dict(
            type='CocoDataset', data_root=str(tmp_path), ann_file='a.json',
            data_prefix=dict(img='images/'))),
        val_evaluator=dict(type='CocoMetric', ann_file=str(path))))
    assert len(find_data_faults(cfg, ('val', ))) == (not inside)


def test_a_file_that_the_evaluator_alone_reads(write):
    cfg = Config(dict(val_evaluator=[dict(
        type='CocoMetric', ann_file=str(write([[0, 0, 1e9, 0, 1, 1]])))]))
    (fault, ) = find_data_faults(cfg, ('val', ))
    assert 'reaches further' in fault


def test_many_faults_are_counted(tmp_path):
    (tmp_path / 'a.json').write_text(json.dumps(dict(annotations=[
        dict(id=i, segmentation=[[1e9] * 6]) for i in range(9)])))
    faults = find_annotation_faults(tmp_path / 'a.json')
    assert len(faults) == 6 and faults[-1].endswith('4 more of these')


@pytest.mark.parametrize('text', ['', '[', '[' * 10**5, '[]', '{"images": 3}',
                                  '{"annotations": [[]]}'])
def test_what_is_no_coco_json(text, tmp_path):
    (tmp_path / 'a.json').write_text(text)
    (fault, ) = find_annotation_faults(tmp_path / 'a.json')
    assert fault.startswith(f'{tmp_path}/a.json is no')
