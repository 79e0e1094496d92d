"""The command ``mmiformer``: a word for each of the tools.

Beside the package, not in it, so that ``mmiformer env`` also answers where
``import mmiformer`` fails, because torch or mmengine do.
"""
import ast
import sys
from difflib import get_close_matches
from importlib.util import (
    find_spec,
    module_from_spec,
    spec_from_file_location,
)
from pathlib import Path
from typing import Dict

PACKAGE = Path(find_spec('mmiformer').origin).parent  # without its import
TOOLS = PACKAGE / '.mim' / 'tools'
if not TOOLS.is_dir():  # a checkout that is not installed
    TOOLS = PACKAGE.parent / 'tools'
WORDS = dict(check='check_dataset', flops='get_flops')  # others: their files'


def find_tools() -> Dict[str, Path]:
    """The file of each word."""
    files = {path.stem: path for path in sorted(TOOLS.glob('*.py'))}
    words = {name: word for word, name in WORDS.items()}
    return {words.get(stem, stem): path for stem, path in files.items()}


def main() -> None:
    """Runs the tool that the first argument names, with the others.

    Raises:
        SystemExit: There is no such tool.
    """
    tools = find_tools()
    word = sys.argv[1] if len(sys.argv) > 1 else '--help'
    if word in ('-h', '--help'):
        lines = [f'  {name:<12}{_purpose(path)}'
                 for name, path in tools.items()]
        sys.stdout.write('\n'.join([
            'usage: mmiformer COMMAND ..., or mmiformer COMMAND --help', '',
            *lines, '', '--debug after any of them shows the trace of an error',
            '']))
        return
    if word not in tools:
        near = get_close_matches(word, tools, 1)
        sys.exit(f'mmiformer: there is no command {word!r}; ' + (
            f'is it {near[0]}?' if near else f'choose from {", ".join(tools)}'))
    sys.argv[:2] = [f'mmiformer {word}']
    # Run as __main__, so that the code under `if __name__` runs too.
    spec = spec_from_file_location('__main__', tools[word])
    spec.loader.exec_module(module_from_spec(spec))


def _purpose(path: Path) -> str:
    """The first line of a tool's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8')))
    return text.splitlines()[0]
