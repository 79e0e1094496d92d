"""What the repository says to GitHub and what it publishes."""
import re
import tarfile
import zipfile

from conftest import ROOT
from installed import list_files

from mmiformer import __version__


def test_bug_reports_ask_for_the_environment():
    form = (ROOT / '.github' / 'ISSUE_TEMPLATE' / 'bug.yml').read_text()
    assert re.search(r'`mmiformer env`.*?required: true', form, re.DOTALL)


def test_the_changelog_begins_with_the_version():
    first = re.search('^## (.*)', (ROOT / 'CHANGELOG.md').read_text(), re.M)[1]
    assert first.split()[0] == __version__


def test_what_is_published(dist):
    """What git has of the package, its configs and tools, and nothing else."""
    package = {*list_files('mmiformer', 'mmiformer_cli.py')}
    mim = {*list_files('configs', 'tools')}
    with tarfile.open(next(dist.glob('*.tar.gz'))) as file:
        found = {name.partition('/')[2] for name in file.getnames()
                 if not file.getmember(name).isdir()}
    assert {name for name in found if '.egg-info/' not in name} == {
        *package, *mim, 'CHANGELOG.md', 'LICENSE', 'MANIFEST.in', 'PKG-INFO',
        'README.md', 'model-index.yml', 'pyproject.toml', 'setup.cfg',
        'setup.py'}
    with zipfile.ZipFile(next(dist.glob('*.whl'))) as file:
        found = {name for name in file.namelist() if '.dist-info/' not in name}
        entry, = (file.read(name).decode() for name in file.namelist()
                  if name.endswith('entry_points.txt'))
    assert found == {*package, *(
        f'mmiformer/.mim/{name}' for name in {*mim, 'model-index.yml'})}
    assert 'mmiformer = mmiformer_cli:main' in entry
