"""What is written: ratios, Markdown, JSON and the picture."""
import json

import cv2
import pytest

from mmiformer.analysis import benchmark


def make_row(variant, median, **changes):
    return {**dict(
        variant=variant, network=variant.split('+')[0], shape='64@2',
        height=64, width=64, batch=2, mode='forward', dtype='fp32',
        error=None, samples=[median], median=median,
        quartiles=[0.9 * median, 1.2 * median], images_per_second=2 / median,
        memory=3 * 2 ** 20, multiply_adds=4e9, accuracy=2e-6), **changes}


def make_report():
    rows = [
        make_row('iFormer-S', 0.1, traffic=10 ** 8),
        make_row('reference', 0.4),
        make_row('Swin-T', 0.2, error='out of memory'),
        make_row('iFormer-S', 0.5, mode='train'),
        make_row('ResNet50', 0.25, mode='train'),
    ]
    for key in ('samples', 'median', 'quartiles', 'memory'):
        del rows[2][key]
    rates = dict(fp32=1e11, copy=1e10)
    benchmark.compare(rows, rates)
    return dict(title='backbone', command='tools/benchmark.py --x',
                date='2026-01-02', machine=dict(cpu='a cpu', device='cpu'),
                ceilings=rates, left_out={'ConvNeXt-T': 'not installed'},
                rows=rows)


def test_ratios_and_fractions():
    ours, reference, failed, trained, peer = make_report()['rows']
    assert ours['ratio'] == pytest.approx(4) and reference['ratio'] == 1
    assert ours['baseline'] == 'reference'
    # 4 G multiply-adds in 0.1 s of 100 G/s; 0.1 GB in 0.1 s of 10 GB/s.
    assert ours['fraction'] == pytest.approx(0.4)
    assert ours['copy_fraction'] == pytest.approx(0.1)
    assert reference['fraction'] == pytest.approx(0.1)
    assert 'copy_fraction' not in reference and 'ratio' not in failed
    # Without a reference the first is the measure.
    assert trained['ratio'] == 1 and peer['ratio'] == 2
    assert peer['baseline'] == 'iFormer-S'


def test_markdown():
    page = benchmark.markdown(make_report())
    for line in (
            '# Benchmark: backbone',
            '`tools/benchmark.py --x`, 2026-01-02',
            '- cpu: a cpu',
            '- matrix products, fp32: 100 G multiply-adds/s',
            '- copy: 10 GB/s, read and written',
            '- ConvNeXt-T: left out, not installed',
            '## forward, fp32',
            '## train, fp32',
            '| 64@2 | iFormer-S | 100 | 90 to 120 | 4.00 | 20 | 3.0 | 0.400 '
            '| 0.10 | 2.0e-06 |',
            '| 64@2 | reference | 400 | 360 to 480 | 1.00 | 5 | 3.0 | 0.100 '
            '|  | 2.0e-06 |',
            '| 64@2 | Swin-T | failed: out of memory |  |  |  |  |  |  |  |',
    ):
        assert line in page.splitlines(), line


def blue(path):
    image = cv2.imread(str(path)).astype(int)
    return ((image[..., 0] - image[..., 2]) > 100).mean()


def test_files(tmp_path):
    report = make_report()
    paths = benchmark.save(tmp_path / 'new', report)
    assert [path.name for path in paths] == [
        'benchmark.md', 'benchmark.json', 'benchmark.png']
    assert paths[0].read_text() == benchmark.markdown(report)
    assert json.loads(paths[1].read_text()) == report
    fast = blue(paths[2])
    report['rows'][0].update(ratio=0.5)
    benchmark.draw(paths[2], report)
    assert fast > 1.2 * blue(paths[2]) > 0  # the bar is as long as the ratio
