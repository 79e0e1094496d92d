"""Builds the site from docs/ and mkdocs.yml into build/site: ``make docs``.

Zensical fails for links in the text to pages and anchors that do not exist.
The rest is looked for in what it has built: files that do not exist, pages
that the navigation lacks, images without a text.
"""
import contextlib
import io
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Dict, List, Set
from unittest import mock
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = """\
# Reference: commands

`mmiformer COMMAND` works in any folder, and in a checkout so does the file of the same
name, `python tools/train.py`. Below is what each prints for `--help`.
"""


def find_help(word: str) -> str:
    """What ``mmiformer WORD --help`` prints, 80 columns wide."""
    from mmiformer import cli
    stdout = io.StringIO()
    with mock.patch.object(sys, 'argv', ['mmiformer', word, '--help']), (
            mock.patch.dict(os.environ, COLUMNS='80')), (
            contextlib.redirect_stdout(stdout)), (
            contextlib.suppress(SystemExit)):
        cli.main()
    return stdout.getvalue().strip()


def write_commands(docs: Path) -> None:
    """The page of the commands, from their own help."""
    from mmiformer import cli
    (docs / 'commands.md').write_text('\n'.join([COMMANDS, *(
        f'## {word}\n\n```text\n{find_help(word)}\n```\n'
        for word in cli.find_tools())]), encoding='utf-8')


class Page(HTMLParser):
    """The links, anchors and images of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.links: Set[str] = set()
        self.anchors = {''}
        self.without_text: List[str] = []
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs) -> None:
        attrs = dict(attrs)
        self.anchors.add(attrs.get('id') or '')
        self.links.update(attrs[name] for name in ('href', 'src')
                          if attrs.get(name))
        if tag == 'img' and not attrs.get('alt'):
            self.without_text.append(attrs['src'])

    def target(self, link: str) -> Path:
        """The file of a link within the site."""
        path = self.path.parent / unquote(urlsplit(link).path)
        if not urlsplit(link).path:
            return self.path
        return (path / 'index.html' if path.is_dir() else path).resolve()


def find_faults(site: Path) -> List[str]:
    """What is wrong with the pages of a site, a line each."""
    pages: Dict[Path, Page] = {path: Page(path) for path in sorted(
        site.resolve().rglob('index.html'))}
    faults = []
    for path, page in pages.items():
        name = path.parent.relative_to(site.resolve())
        faults += [f'{name}: an image without a text: {image}'
                   for image in page.without_text]
        for link in sorted(page.links):
            if urlsplit(link).scheme or urlsplit(link).netloc:
                continue
            target = page.target(link)
            if not target.is_file():
                faults.append(f'{name}: does not exist: {link}')
            elif (target in pages and unquote(urlsplit(link).fragment)
                  not in pages[target].anchors):
                faults.append(f'{name}: no such anchor: {link}')
    start = pages[site.resolve() / 'index.html']
    linked = {start.target(link) for link in start.links}
    faults += [f'{path.parent.name}: not in the navigation'
               for path in pages if path not in linked]
    return faults


def main() -> None:
    write_commands(ROOT / 'docs')
    built = subprocess.run(
        [sys.executable, '-m', 'zensical', 'build', '--clean', '--strict'],
        cwd=ROOT)
    if built.returncode:
        sys.exit(built.returncode)
    if faults := find_faults(ROOT / 'build' / 'site'):
        sys.exit('\n'.join(f'error: {fault}' for fault in faults))


if __name__ == '__main__':
    main()
