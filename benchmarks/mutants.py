"""Changes the code in one place at a time, and sees whether a test fails.

    benchmarks/mutants.py --number 200 --seed 0

Each mutant is a copy of the checkout with one changed operator, number,
condition, returned value or dropped call. The tests that reach its line run on
it, or, where none is known to (the line runs at the import, or in a process of
its own), all tests of the part. Those that no test notices are printed: each is
a missing test, a line that nobody needs, or an equivalent program. Needs
pytest-cov; 200 mutants take about an hour on 2 cores.
"""
import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import (
    Callable,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Sequence,
    Set,
    Tuple,
)

ROOT = Path(__file__).resolve().parents[1]
# By part: what is changed, and the tests that belong to it.
PARTS = {
    'backbone': (('mmiformer/backbone', 'mmiformer/checkpoint.py'),
                 ('tests/backbone', 'tests/test_classification.py',
                  'tests/engine/test_checkpoint.py')),
    'resume': (('mmiformer/kit/resume', ), ('tests/engine', ))}
TIMEOUT = 900  # seconds, for the tests of a mutant
SWAPS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot,
    ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult,
    ast.And: ast.Or, ast.Or: ast.And, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd}
# Calls that are left alone.
WORDS = ('print_log', 'shorten', 'warning', 'register_module')


class Mutant(NamedTuple):
    """A file, the position of a node in :func:`ast.walk`, and what becomes of
    it."""
    file: str
    line: int
    node: int
    change: str


def find_left_alone(tree: ast.AST) -> Set[int]:
    """Nodes of messages, annotations and docstrings, by identity."""
    roots: List[ast.AST] = []
    for node in ast.walk(tree):
        name = getattr(node, 'func', None)
        name = getattr(name, 'attr', getattr(name, 'id', ''))
        if isinstance(node, (ast.Raise, ast.JoinedStr, ast.Import)) or (
                name in WORDS):
            roots.append(node)
        roots += filter(None, (getattr(node, field, None)
                               for field in ('annotation', 'returns')))
        if isinstance(node, ast.Expr) and (
                isinstance(node.value, ast.Constant) or getattr(
                    getattr(node.value, 'func', None), 'attr', '') in WORDS
                or getattr(getattr(node.value, 'func', None), 'id', '')
                in WORDS):
            roots.append(node)
    return {id(node) for root in roots for node in ast.walk(root)}


def find_changes(node: ast.AST) -> Dict[str, Callable[[], ast.AST]]:
    """By name, what makes a changed copy of a node."""
    def changed(**fields) -> Callable[[], ast.AST]:
        def make() -> ast.AST:
            result = copy.copy(node)
            vars(result).update(fields)
            return result
        return make

    def negated() -> ast.AST:
        return ast.UnaryOp(ast.Not(), node.test)

    changes: Dict[str, Callable[[], ast.AST]] = {}
    operators = getattr(node, 'ops', None) or [getattr(node, 'op', None)]
    swap = SWAPS.get(type(operators[0]))
    if swap and len(operators) == 1:
        field = dict(ops=[swap()]) if hasattr(node, 'ops') else dict(op=swap())
        changes[f'{type(operators[0]).__name__} to {swap.__name__}'] = (
            changed(**field))
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        changes['without not'] = lambda: node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        changes[f'{node.value} flipped'] = changed(value=not node.value)
    elif isinstance(node, ast.Constant) and isinstance(
            node.value, (int, float)):
        changes[f'{node.value} plus 1'] = changed(value=node.value + 1)
    elif isinstance(node, (ast.If, ast.While, ast.IfExp)):
        changes['condition negated'] = changed(test=negated())
    elif isinstance(node, ast.Return) and getattr(
            node.value, 'value', node.value) is not None:
        changes['returns None'] = changed(value=ast.Constant(None))
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        changes['call dropped'] = ast.Pass
    return changes


def find_mutants(file: str) -> Iterator[Mutant]:
    """All mutants of a file."""
    tree = ast.parse((ROOT / file).read_text())
    left_alone = find_left_alone(tree)
    for number, node in enumerate(ast.walk(tree)):
        if id(node) not in left_alone:
            for change in find_changes(node):
                yield Mutant(file, node.lineno, number, change)


def mutate(mutant: Mutant) -> str:
    """The text of the file with the change."""
    tree = ast.parse((ROOT / mutant.file).read_text())
    node = [*ast.walk(tree)][mutant.node]

    class Replace(ast.NodeTransformer):
        def visit(self, visited: ast.AST) -> ast.AST:
            if visited is node:
                return find_changes(node)[mutant.change]()
            return self.generic_visit(visited)

    return ast.unparse(ast.fix_missing_locations(Replace().visit(tree)))


def run_pytest(folder: Path, *arguments: str) -> int:
    """The exit status of pytest in a copy; 1 where it takes too long."""
    env = dict(os.environ, PYTHONPATH=str(folder), OMP_NUM_THREADS='1',
               PYTHONDONTWRITEBYTECODE='1')
    try:
        return subprocess.run(
            [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider',
             *arguments], cwd=folder, env=env, timeout=TIMEOUT,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
    except subprocess.TimeoutExpired:
        return 1


def copy_checkout(folder: Path) -> Path:
    names = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, check=True,
                           capture_output=True, text=True).stdout.split('\0')
    for name in filter(None, names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    mim = folder / 'mmiformer' / '.mim'
    mim.mkdir()
    for name in ('configs', 'tools', 'model-index.yml'):
        (mim / name).symlink_to(folder / name)
    return folder


def find_tests(folder: Path, tests: Sequence[str]
               ) -> Dict[Tuple[str, int], List[str]]:
    """The tests that reach each line of a file."""
    from coverage import CoverageData
    status = run_pytest(folder, *tests, '--cov=mmiformer', '--cov-report=',
                        '--cov-context=test')
    if status:
        sys.exit(f'{tests} fails on the unchanged code: status {status}')
    data = CoverageData(str(folder / '.coverage'))
    data.read()
    reached = {}
    for path in data.measured_files():
        file = str(Path(path).relative_to(folder))
        for line, contexts in data.contexts_by_lineno(path).items():
            reached[file, line] = sorted(
                {context.split('|')[0] for context in contexts} - {''})
    return reached


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--number', type=int, default=200)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--jobs', type=int, default=os.cpu_count())
    parser.add_argument('--part', choices=PARTS, help='default: all')
    args = parser.parse_args()
    files = {str(path.relative_to(ROOT)): part
             for part, (places, _) in PARTS.items()
             if args.part in (None, part)
             for place in places for path in sorted(
                 (ROOT / place).glob('*.py') if (ROOT / place).is_dir()
                 else [ROOT / place])}
    mutants = [mutant for file in files for mutant in find_mutants(file)]
    random.Random(args.seed).shuffle(mutants)
    survived: Dict[str, List[int]] = {part: [0, 0] for part in PARTS}
    with tempfile.TemporaryDirectory() as scratch:
        folders: 'Queue[Path]' = Queue()
        for job in range(args.jobs):
            folders.put(copy_checkout(Path(scratch, str(job))))
        folder = folders.queue[0]
        reached: Dict[Tuple[str, int], List[str]] = {}
        for part in {*files.values()}:  # they share some tests
            reached.update(
                (place, tests) for place, tests in find_tests(
                    folder, PARTS[part][1]).items()
                if files.get(place[0]) == part)

        def judge(mutant: Mutant) -> None:
            part, folder = files[mutant.file], folders.get()
            tests = (reached.get((mutant.file, mutant.line))
                     or PARTS[part][1])
            (folder / mutant.file).write_text(mutate(mutant))
            status = run_pytest(folder, '-x', *tests)
            shutil.copy(ROOT / mutant.file, folder / mutant.file)
            folders.put(folder)
            survived[part][0] += 1
            if status == 0:
                survived[part][1] += 1
                print(f'survived: {mutant.file}:{mutant.line}: '
                      f'{mutant.change}, {len(tests)} tests', flush=True)

        with ThreadPoolExecutor(args.jobs) as pool:
            list(pool.map(judge, mutants[:args.number]))
    for part, (number, alive) in survived.items():
        if number:
            print(f'{part}: {number - alive} of {number} killed '
                  f'({1 - alive / number:.0%})')


if __name__ == '__main__':
    main()
