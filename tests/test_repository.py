"""What the repository says to GitHub and what it publishes."""
import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest
from conftest import ROOT

from mmiformer import __version__

GITHUB = ROOT / '.github'


def needs(*modules):
    return pytest.mark.skipif(
        not all(map(importlib.util.find_spec, modules)),
        reason=f'needs {" and ".join(modules)}')


@pytest.mark.skipif(sys.version_info < (3, 9), reason='needs Python 3.9')
@needs('check_jsonschema')
@pytest.mark.parametrize('schema, pattern', [
    ('github-workflows', '.github/workflows/*.yml'),
    ('github-issue-forms', '.github/ISSUE_TEMPLATE/[!c]*.yml'),
    ('github-issue-config', '.github/ISSUE_TEMPLATE/config.yml'),
    ('dependabot', '.github/dependabot.yml'),
    ('citation-file-format', 'CITATION.cff')])
def test_schemas(schema, pattern):
    checked = subprocess.run(
        [sys.executable, '-m', 'check_jsonschema', '--builtin-schema',
         f'vendor.{schema}', *ROOT.glob(pattern)],
        stdout=subprocess.PIPE, text=True)
    assert checked.returncode == 0, checked.stdout


def test_bug_reports_ask_for_the_environment():
    form = (GITHUB / 'ISSUE_TEMPLATE' / 'bug.yml').read_text()
    assert re.search(r'`mmiformer env`.*?required: true', form, re.DOTALL)


def test_the_version_is_in_one_place():
    first = re.search('^## (.*)', (ROOT / 'CHANGELOG.md').read_text(), re.M)[1]
    assert re.fullmatch(
        rf'{re.escape(__version__)} \((unreleased|\d{{4}}-\d\d-\d\d)\)', first)
    for name in ('setup.py', 'pyproject.toml', 'CITATION.cff', 'mkdocs.yml'):
        assert __version__ not in (ROOT / name).read_text(), name


@needs('build', 'twine')
def test_what_is_published(tmp_path):
    """What git has of the package, its configs and tools, and nothing else."""
    tracked = subprocess.run(
        ['git', 'ls-files'], cwd=ROOT, check=True, stdout=subprocess.PIPE,
        text=True).stdout.splitlines()
    source, dist = tmp_path / 'source', tmp_path / 'dist'
    for name in tracked:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name, follow_symlinks=False)
    subprocess.run([sys.executable, '-m', 'build', '--no-isolation',
                    '--outdir', dist, source], check=True,
                   stdout=subprocess.DEVNULL)
    subprocess.run([sys.executable, '-m', 'twine', 'check', '--strict',
                    *dist.iterdir()], check=True)

    package = {name for name in tracked if name.startswith('mmiformer')}
    mim = {name for name in tracked if name.startswith(('configs/', 'tools/'))}
    with tarfile.open(next(dist.glob('*.tar.gz'))) as file:
        found = {name.partition('/')[2] for name in file.getnames()
                 if not file.getmember(name).isdir()}
    assert {name for name in found if '.egg-info/' not in name} == {
        *package, *mim, 'CHANGELOG.md', 'LICENSE', 'MANIFEST.in', 'PKG-INFO',
        'README.md', 'model-index.yml', 'pyproject.toml', 'setup.cfg',
        'setup.py'}
    with zipfile.ZipFile(next(dist.glob('*.whl'))) as file:
        found = {name for name in file.namelist() if '.dist-info/' not in name}
    assert found == {*package, *(
        f'mmiformer/.mim/{name}' for name in {*mim, 'model-index.yml'})}
