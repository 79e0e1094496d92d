"""Imports run one way, between rooms and between files."""
import ast

import pytest
from conftest import ROOT

graphlib = pytest.importorskip('graphlib', reason='needs Python 3.9')

# A room imports rooms of a lower number, or itself. The package itself only
# names what its rooms have. The kit could serve any OpenMMLab project.
LEVELS = dict(version=0, registry=0, unpickler=0, zoo=0, compat=1,
              checkpoint=2, config=2, front=3, kit=3, backbone=3, paper=4,
              __main__=5, tools=5, mmiformer=9)
BORDER = 'backbone', 'paper', 'registry'
OUTSIDE = {'tests', 'benchmarks', 'demo', 'conftest', 'reference',
           'shapes', 'nuclei', 'drawing'}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def imported(path, modules):
    """The modules that a file names in imports, at any depth of its code."""
    package = module_name(path).split('.')
    if path.name != '__init__.py':
        package.pop()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) + 1 - node.level] if (
                node.level) else []
            base = '.'.join([*base, *filter(None, [node.module])])
            for alias in node.names:
                inner = f'{base}.{alias.name}'
                yield inner if inner in modules else base


def room(module):
    parts = module.split('.')
    return parts[1] if parts[0] == 'mmiformer' and len(parts) > 1 else parts[0]


def find_imports():
    files = {module_name(path): path for folder in ('mmiformer', 'tools')
             for path in (ROOT / folder).rglob('*.py')
             if '.mim' not in path.parts}
    return {name: set(imported(path, files)) for name, path in files.items()}


def test_rooms_import_one_way():
    wrong = [f'{name} imports {other}'
             for name, others in find_imports().items() for other in others
             if room(other) in LEVELS and room(other) != room(name)
             and LEVELS[room(other)] >= LEVELS[room(name)]
             and other not in ('mmiformer', 'mmiformer.version')]
    assert wrong == []


def test_the_kit_knows_nothing_of_the_network():
    assert [f'{name} imports {other}'
            for name, others in find_imports().items() for other in others
            if room(name) == 'kit' and room(other) in BORDER] == []


def test_nothing_shipped_imports_what_is_not():
    assert [f'{name} imports {other}'
            for name, others in find_imports().items() for other in others
            if other.split('.')[0] in OUTSIDE] == []


def test_files_have_no_cycle():
    imports = find_imports()
    # A package and its files name each other by design.
    graph = {name: {other for other in others if other in imports
                    and not name.startswith(f'{other}.') and other != name}
             for name, others in imports.items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_every_room_has_a_level():
    assert {room(name) for name in find_imports()} <= set(LEVELS)
