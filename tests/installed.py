"""An environment with the wheel and an mm stack, but without this checkout."""
import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]


def list_files(*patterns: str) -> list:
    """What git has of the checkout."""
    return subprocess.run(
        ['git', 'ls-files', *patterns], cwd=ROOT, check=True,
        stdout=subprocess.PIPE, text=True).stdout.splitlines()


def build(folder: Path) -> None:
    """Builds the source distribution, and the wheel from it."""
    def run(kind, source):
        subprocess.run(
            [sys.executable, '-c', 'from setuptools import build_meta; '
             f'build_meta.build_{kind}({str(folder)!r})'], check=True,
            stdout=subprocess.DEVNULL, cwd=source)

    # From a copy: setuptools would find what it once built in the checkout.
    source = folder / 'source'
    for name in list_files():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name, follow_symlinks=False)
    run('sdist', source)
    with tarfile.open(next(folder.glob('*.tar.gz'))) as file:
        file.extractall(folder / 'sdist', filter='data')
    run('wheel', next((folder / 'sdist').iterdir()))


def install(wheel: Path, folder: Path) -> None:
    """Installs a wheel into a new environment that sees this one's stack."""
    venv.create(folder, symlinks=True)
    subprocess.run(
        [sys.executable, '-m', 'pip', '--python', folder / 'bin/python',
         'install', '--quiet', '--no-deps', '--no-index', '--no-compile',
         wheel], check=True)
    site = next((folder / 'lib').glob('python*/site-packages'))
    # The stack's folder is only searched: its .pth files, of which one may
    # lead to this checkout, are not read; but the set-up's, if there is one,
    # and that of setuptools, which has distutils from Python 3.12 on.
    stack = [path for path in sys.path if path.endswith('-packages')]
    for path in list(stack):
        for name in ('torchvision_finder.pth', 'distutils-precedence.pth'):
            if Path(path, name).exists():
                stack.append(Path(path, name).read_text().strip())
    (site / 'stack.pth').write_text('\n'.join(stack))
