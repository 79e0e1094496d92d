"""The site of docs/: it builds, and what is wrong with a page stops it."""
import re
import runpy
import shutil
import subprocess

import pytest
from conftest import ROOT

from mmiformer.backbone.arch import resolve_arch

SITE = runpy.run_path(str(ROOT / 'docs' / 'build.py'))
CONFIG = '''\
site_name: x
site_dir: build/site
nav: [{Start: index.md}, {Next: next.md}, {Lost: lost.md}]
'''


@pytest.fixture
def build():
    pytest.importorskip('zensical', reason='needs zensical')
    return SITE['build']


@pytest.fixture
def project(tmp_path, build):
    """Makes a site of the given pages and builds it."""
    def make(**pages):
        (tmp_path / 'docs').mkdir()
        (tmp_path / 'mkdocs.yml').write_text(CONFIG)
        for name, text in pages.items():
            (tmp_path / 'docs' / f'{name}.md').write_text(text)
        return build(tmp_path)

    return make


def test_a_link_that_leads_nowhere(project):
    with pytest.raises(subprocess.CalledProcessError):
        project(index='# A\n\n[a](other.md#gone)', other='# B')


def test_what_zensical_lets_pass(project):
    faults = project(
        index='# A\n\n![](a.png) ![text](b.png) [file](../setup.py) '
        '[good](other.md#b) [out](https://a.example/)',
        next='# B', other='# B')
    assert sorted(faults) == [
        'index.html: an image without a text: a.png',
        'index.html: does not exist: ../setup.py',
        'index.html: does not exist: ./lost.md',
        'index.html: does not exist: a.png',
        'index.html: does not exist: b.png',
        'next/index.html: does not exist: ../lost.md',
        'other/index.html: does not exist: ../lost.md',
        'other/index.html: not in the navigation']


def test_the_site(tmp_path, build):
    """It asks no other host for anything."""
    shutil.copytree(ROOT / 'docs', tmp_path / 'docs')
    shutil.copy(ROOT / 'mkdocs.yml', tmp_path)
    (tmp_path / 'mmiformer').symlink_to(ROOT / 'mmiformer')
    SITE['write_commands'](tmp_path / 'docs')
    assert build(tmp_path) == []
    pages = tmp_path / 'build' / 'site'
    assert '--auto-scale-lr' in (pages / 'commands/index.html').read_text()
    reference = (pages / 'reference/index.html').read_text()
    assert 'from_pretrained' in reference
    assert not re.findall(r'<(?:script|img|link rel="stylesheet")[^>]*'
                          r'(?:src|href)="(?:https?:)?//', reference)


def test_the_shares_in_the_picture_of_the_mixer():
    """They are those of the preset."""
    arch = resolve_arch('small')
    expected = [
        (dim // heads * attention, (dim - dim // heads * attention) // 2)
        for dim, heads, stage in zip(
            arch['embed_dims'], arch['num_heads'], arch['attention_heads'])
        for attention in stage]
    drawn = re.findall(
        r'<title>block (\d+): (\d+) convolution, (\d+) max-pooling, (\d+) '
        r'attention</title>', (ROOT / 'docs/images/mixer.svg').read_text())
    assert [tuple(map(int, block)) for block in drawn] == [
        (number, high, high, low)
        for number, (low, high) in enumerate(expected, 1)]
