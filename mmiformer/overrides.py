"""Overrides of a config's own variables, such as ``data_root``.

mmengine overrides when a file has been executed, and its other lines have
taken their values from the variable by then.
"""
import ast
import inspect
import logging
import re
import tempfile
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Tuple

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import Registry, root
from mmengine.runner import Runner

# What runners and tools read; all else at the top of a config is its own.
SETTINGS = {*inspect.signature(Runner.__init__).parameters} | {
    'compile', 'custom_imports', 'find_unused_parameters', 'fp16',
    'model_wrapper_cfg', 'runner_type', 'strategy', 'sync_bn', 'tta_model',
    'tta_pipeline'}


def read_config(path: str, options: Dict[str, Any]
                ) -> Tuple[Config, Dict[str, Any]]:
    """Reads a config, with its own variables overridden before the lines
    that use them.

    Args:
        path: The file.
        options: Values by dotted key.

    Returns:
        The config, and the options that are still to be merged.

    Raises:
        ValueError: A variable cannot be overridden.
    """
    path = str(path)
    keys = [key for key in options if key.split('.')[0] not in SETTINGS]
    if not keys or not path.endswith('.py'):
        return Config.fromfile(path), dict(options)
    lazy = Config._is_lazy_import(path)
    files = [] if lazy else [*_files(path)]
    used = _used(path) if lazy else {
        name for file, _ in files for name in _used(file)}
    inner: Dict[str, Dict[str, Any]] = {}
    for key in keys:
        name, _, rest = key.partition('.')
        if name in used:
            inner.setdefault(name, {})[rest] = options[key]
    if not inner:
        return Config.fromfile(path), dict(options)
    with tempfile.TemporaryDirectory() as folder:
        if not lazy:
            copied = _copy(path, Path(folder), inner)
            try:
                cfg = Config.fromfile(copied)
            except (IndexError, KeyError, TypeError) as error:
                raise ValueError(f'--cfg-options {", ".join(inner)}: {error}'
                                 ) from error
    if lazy or {scope for _, scope in files} - {
            None, cfg.get('default_scope')}:
        raise ValueError(
            f'--cfg-options {", ".join(inner)}: {path} has other settings '
            'made of it, in a way that cannot be overridden; write a child '
            'config that sets those')
    object.__setattr__(cfg, '_filename', path)
    return cfg, {key: value for key, value in options.items()
                 if key.split('.')[0] not in inner}


def override(old: Any, options: Dict[str, Any]) -> Any:
    """A variable's new value; called by the copies of config files.

    Args:
        old: Its value so far.
        options: By the dotted key inside of it; empty for itself. A single
            value in place of several becomes one of them, and a folder that
            ended with a slash still does.
    """
    for key, new in options.items():
        if key or isinstance(old, dict) and isinstance(new, dict):
            cfg = Config(dict(variable=old))
            cfg.merge_from_dict({f'variable.{key}'.rstrip('.'): new})
            old = cfg.to_dict()['variable']
        elif isinstance(old, (list, tuple)):
            old = type(old)(new if isinstance(new, (list, tuple)) else [new])
        else:
            slash = str(old).endswith('/') and not str(new).endswith('/')
            old = f'{new}/' if slash else new
    return old


def check_keys(cfg: Config, options: Dict[str, Any]) -> None:
    """Warns of overrides that look misspelt.

    Raises:
        ValueError: Nothing reads a key, and there is one much like it.
    """
    for key in options:
        node, names = cfg._cfg_dict, key.split('.')
        for depth, name in enumerate(names):
            if isinstance(node, (list, tuple)) and name.isdigit():
                node = node[int(name)] if int(name) < len(node) else None
                continue
            known = set(node) if isinstance(node, dict) else set()
            if not depth:
                known |= SETTINGS
            if not known or name in known:
                node = node.get(name) if known and node else None
                continue
            near = get_close_matches(name, sorted(known), 1, 0.8)
            kind = depth and options.get(
                '.'.join([*names[:depth], 'type']), node.get('type'))
            if near and kind and takes(kind, name, cfg.get('default_scope')):
                break
            meant = '.'.join([*names[:depth], *near])
            if near and not depth:
                raise ValueError(f'--cfg-options {key}: nothing reads {name}; '
                                 f'is it {meant}?')
            if near or not depth:
                print_log(
                    f'--cfg-options {key}: the config has no '
                    f'{".".join(names[:depth + 1])}' + (
                        f'; is it {meant}?' if near else
                        ' and nothing here reads it'),
                    logger='current', level=logging.WARNING)
            break


def takes(kind: Any, argument: str, scope: Any) -> bool:
    """Whether a class has an argument, or passes it on to a base class.

    Args:
        kind: What ``type`` has in a config: a class, a function or its name.
        argument: Its name.
        scope: The ``default_scope`` of the config.
    """
    kinds = [kind]
    if isinstance(kind, str):
        kinds = []
        for registry in vars(root).values():
            # A package that is not installed, or a name that nobody has.
            with suppress(ImportError, RuntimeError):
                if isinstance(registry, Registry):
                    with registry.switch_scope_and_registry(scope) as scoped:
                        kinds.append(scoped.get(kind))
    for found in filter(None, kinds):
        for part in getattr(found, '__mro__', [found]):
            taken = inspect.signature(
                part.__init__ if isinstance(part, type) else part).parameters
            if argument in taken:
                return True
            if all(p.kind is not p.VAR_KEYWORD for p in taken.values()):
                break
    return False


def _parse(path: str) -> ast.Module:
    """A config file whose ``{{ fileDirname }}`` and the like are filled in."""
    with tempfile.TemporaryDirectory() as folder:
        filled = Path(folder, 'config.py')
        Config._substitute_predefined_vars(path, str(filled))
        return ast.parse(filled.read_text(encoding='utf-8'), path)


def _bases(path: str, tree: ast.Module) -> Iterator[Tuple[ast.Assign, list]]:
    """The statement that names base files, and their paths and scopes."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and '_base_' in _bound(node):
            value = ast.literal_eval(node.value)
            yield node, [
                Config._get_cfg_path(base, path)
                for base in ([value] if isinstance(value, str) else value)]


def _files(path: str, scope: Any = None) -> Iterator[Tuple[str, Any]]:
    """A config file and all that it inherits from, with their scopes."""
    yield path, scope
    if path.endswith('.py'):
        for _, bases in _bases(path, _parse(path)):
            for base in bases:
                yield from _files(*base)


def _used(path: str) -> Set[str]:
    """Names that a file's lines read, of its own or of its bases."""
    if not path.endswith('.py'):
        return set()
    text = Path(path).read_text(encoding='utf-8')
    return {*re.findall(r'_base_\.(\w+)', text)} | {
        node.id for node in ast.walk(_parse(path))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def _bound(statement: ast.stmt) -> Set[str]:
    """Variables that a statement at the top of a file assigns."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return set()
    targets: List[ast.expr] = []
    for node in ast.walk(statement):
        if isinstance(node, ast.Assign):
            targets += node.targets
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign)):
            targets.append(node.target)
    return {node.id for target in targets for node in ast.walk(target)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _copy(path: str, folder: Path, options: Dict[str, Dict[str, Any]]) -> str:
    """Copies a config and its bases, with the overrides after the lines
    that assign the variables."""
    if not path.endswith('.py'):
        return str(Path(path).absolute())
    tree = _parse(path)
    for node, bases in _bases(path, tree):
        node.value = ast.Constant([
            _copy(base, folder, options) for base, _ in bases])
    body = []
    for node in tree.body:
        body.append(node)
        for name in sorted(_bound(node) & options.keys()):
            body += ast.parse(
                f'{name} = __import__({__name__!r}, fromlist=["override"])'
                f'.override({name}, {options[name]!r})').body
    tree.body = body
    # The name of its own, in a folder of its own.
    copied = Path(tempfile.mkdtemp(dir=folder), Path(path).name)
    copied.write_text(ast.unparse(tree), encoding='utf-8')
    return str(copied)
