"""Builds the site from docs/ and mkdocs.yml into build/site: ``make docs``.

Zensical fails for links in the text to pages and anchors that do not exist.
The rest is looked for in what it has built: files that do not exist, pages
that the navigation lacks, images without a text.
"""
import contextlib
import io
import os
import re
import runpy
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Dict, List, Tuple
from unittest import mock
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = """\
# Reference: commands

`mmiformer COMMAND` works in any folder; in a checkout `python tools/train.py`
and so on do the same. Below is what each prints for `--help`.
"""


def call(*words: str) -> str:
    """What the command ``mmiformer`` prints, 80 columns wide."""
    stdout = io.StringIO()
    with mock.patch.object(sys, 'argv', ['mmiformer', *words]), (
            mock.patch.dict(os.environ, COLUMNS='80')), (
            contextlib.redirect_stdout(stdout)), (
            contextlib.suppress(SystemExit)):
        runpy.run_module('mmiformer', run_name='__main__')
    return stdout.getvalue().rstrip()


def write_commands(docs: Path) -> None:
    """The page of the commands, from their own help."""
    words = re.findall(r'^  (\w+)', call('--help'), re.MULTILINE)
    (docs / 'commands.md').write_text('\n'.join([COMMANDS, *(
        f'## {word}\n\n```text\n{call(word, "--help")}\n```\n'
        for word in words)]), encoding='utf-8')


class Page(HTMLParser):
    """The files that a page of the site refers to, and its images."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.folder = path.parent
        self.targets: Dict[str, Path] = {}
        self.without_text: List[str] = []
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag: str, attrs: List[Tuple]) -> None:
        attrs = dict(attrs)
        for link in filter(None, (attrs.get('href'), attrs.get('src'))):
            scheme, host, path, *_ = urlsplit(link)
            if path and not scheme and not host:
                target = (self.folder / unquote(path)).resolve()
                self.targets[link] = (
                    target / 'index.html' if target.is_dir() else target)
        if tag == 'img' and not attrs.get('alt'):
            self.without_text.append(attrs['src'])


def find_faults(site: Path) -> List[str]:
    """What is wrong with the pages of a site, a line each."""
    pages = {path: Page(path) for path in sorted(
        site.resolve().rglob('index.html'))}
    navigation = set.intersection(  # what all pages link to
        *({path, *page.targets.values()} for path, page in pages.items()))
    faults = []
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        faults += [f'{name}: an image without a text: {image}'
                   for image in page.without_text]
        faults += [f'{name}: does not exist: {link}'
                   for link, target in page.targets.items()
                   if not target.is_file()]
        if path not in navigation:
            faults.append(f'{name}: not in the navigation')
    return faults


def build(root: Path) -> List[str]:
    """Builds the site of a project; returns what is wrong with it.

    Raises:
        CalledProcessError: Zensical has found faults, and printed them.
    """
    subprocess.run(
        [sys.executable, '-m', 'zensical', 'build', '--clean', '--strict'],
        cwd=root, check=True)
    return find_faults(root / 'build' / 'site')


if __name__ == '__main__':
    write_commands(ROOT / 'docs')
    try:
        faults = build(ROOT)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    sys.exit('\n'.join(f'error: {fault}' for fault in faults) or 0)
