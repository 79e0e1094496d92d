"""What is written: Markdown and the picture."""
import tables


def make_row(variant, median, mode='forward'):
    return dict(
        variant=variant, size='64@2', mode=mode, dtype='fp32', failure=None,
        median=median, quartiles=[0.9 * median, 1.2 * median],
        memory=3 * 2 ** 20, error=2e-6, speedup=0.4 / median,
        baseline='reference', of_peak=0.04 / median)


ROWS = [make_row('reference', 0.4), make_row('iFormer-S', 0.1),
        dict(make_row('Swin-T', 1), failure='OutOfMemoryError: x'),
        make_row('iFormer-S', 12.34567, 'train')]
REPORT = dict(command='backbones.py --x', date='2026-01-02', rows=ROWS,
              machine=dict(cpu='a cpu'), product_rates=dict(fp32=1e11))


def test_markdown():
    lines = tables.markdown(REPORT).splitlines()
    assert {'`backbones.py --x`, 2026-01-02', '- cpu: a cpu',
            '- matrix products, fp32: 100 G multiply-adds/s',
            '## forward, fp32', '## train, fp32'} <= set(lines)
    assert [line for line in lines if line.startswith('| 64@2')] == [
        '| 64@2 | reference | 400 | 360 to 480 | 1.00 | 3 | 0.10 | 2.0e-06 |',
        '| 64@2 | iFormer-S | 100 | 90 to 120 | 4.00 | 3 | 0.40 | 2.0e-06 |',
        '| 64@2 | Swin-T | failed: OutOfMemoryError: x |  |  |  |  |  |',
        '| 64@2 | iFormer-S | 12346 | 11111 to 14815 | 0.03 | 3 | 0.00 '
        '| 2.0e-06 |']


def test_picture():
    forward, train = tables.draw(REPORT).axes
    assert forward.get_title() == '64@2'
    assert train.get_ylabel() == 'train, fp32'
    assert [label.get_text() for label in forward.get_yticklabels()] == [
        'reference', 'iFormer-S', 'Swin-T']
    # A bar per variant that has a time, as long as its speedup.
    assert [bar.get_width() for bar in forward.patches] == [1, 4]
    (start, _), (end, _) = forward.collections[1].get_segments()[0]
    assert abs(start - 4 / 1.2) < 1e-9 and abs(end - 4 / 0.9) < 1e-9
