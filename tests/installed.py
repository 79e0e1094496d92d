"""An environment with the wheel and an mm stack, but without this checkout."""
import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

from conftest import ROOT


def build_wheel(folder: Path) -> None:
    """Builds the wheel, from the source distribution."""
    def build(kind, source):
        subprocess.run(
            [sys.executable, '-c', 'from setuptools import build_meta; '
             f'build_meta.build_{kind}({str(folder)!r})'], check=True,
            stdout=subprocess.DEVNULL, cwd=source)

    # From a copy: setuptools would find what it once built in the checkout.
    source = folder / 'source'
    for name in ('mmiformer', 'configs', 'tools'):
        shutil.copytree(ROOT / name, source / name,
                        ignore=shutil.ignore_patterns('.mim', '__pycache__'))
    for name in ('LICENSE', 'MANIFEST.in', 'README.md', 'mmiformer_cli.py',
                 'model-index.yml', 'pyproject.toml', 'setup.py'):
        shutil.copy(ROOT / name, source)
    build('sdist', source)
    with tarfile.open(next(folder.glob('*.tar.gz'))) as file:
        file.extractall(folder / 'sdist', filter='data')
    build('wheel', next((folder / 'sdist').iterdir()))


def install(folder: Path) -> Path:
    """Builds the wheel and installs it.

    Returns:
        The site-packages; the command ``mmiformer`` is in ``bin`` of their
        ``parents[2]``.
    """
    build_wheel(folder)
    venv.create(folder / 'venv', symlinks=True)
    subprocess.run(
        [sys.executable, '-m', 'pip', '--python', folder / 'venv/bin/python',
         'install', '--quiet', '--no-deps', '--no-index', '--no-compile',
         next(folder.glob('*.whl'))], check=True)
    site = next((folder / 'venv' / 'lib').glob('python*/site-packages'))
    # The stack's folder is only searched: its .pth files, of which one may
    # lead to this checkout, are not read; but the set-up's, if there is one,
    # and that of setuptools, which has distutils from Python 3.12 on.
    stack = [path for path in sys.path if path.endswith('-packages')]
    for path in list(stack):
        for name in ('torchvision_finder.pth', 'distutils-precedence.pth'):
            if Path(path, name).exists():
                stack.append(Path(path, name).read_text().strip())
    (site / 'stack.pth').write_text('\n'.join(stack))
    return site
