"""What a checkpoint file may ask for, looked at before torch opens it.

``weights_only=True`` keeps code out. It does not keep a small file from asking
for much: compressed archives, storages larger than the file, structures that
are walked forever. Here the file is read as data, nothing is built from it.
"""
import pickletools
import re
import zipfile
from pathlib import Path
from typing import BinaryIO, Dict, List, Set

MOST_OPERATIONS = 10**7  # of a pickle; a detector with its optimizer: 10**5
MOST_NODES = 10**7  # with everything that is referred to written out
MOST_LEVELS = 100

ZIP = b'PK\x03\x04'
PARTS_OF_OLD = 5  # magic number, version, system, content, storage keys
# Bytes of an element; of all others 1.
ELEMENT = {'HalfStorage': 2, 'BFloat16Storage': 2, 'ShortStorage': 2,
           'IntStorage': 4, 'FloatStorage': 4, 'LongStorage': 8,
           'DoubleStorage': 8, 'ComplexFloatStorage': 8,
           'ComplexDoubleStorage': 16}
# What fills something that is on the stack already.
FILLING = ('APPEND', 'APPENDS', 'SETITEM', 'SETITEMS', 'ADDITEMS', 'BUILD')
STORED = re.compile(r'[^/\\]+/data/\d+')


class _Node:
    """Something on a pickle's stack: its size when it is written out, its
    depth, and what it was made of where that is short."""
    __slots__ = ('size', 'depth', 'parts')

    def __init__(self, parts: tuple = ()):
        self.size, self.depth, self.parts = 1, 0, parts

    def add(self, nodes: List['_Node']) -> None:
        self.size += sum(node.size for node in nodes)
        self.depth = max([self.depth, *(node.depth + 1 for node in nodes)])


def zipped(path: Path) -> bool:
    """Whether torch will read it as an archive, or as its older format."""
    with path.open('rb') as file:
        return file.read(len(ZIP)) == ZIP


def check_bounds(path: Path) -> None:
    """Refuses a checkpoint that could exhaust memory or time.

    Args:
        path: A file of ``torch.save``, zipped or of the format before it.

    Raises:
        ValueError, zipfile.BadZipFile, EOFError: It is damaged, or asks for
            more than the file has.
    """
    check = _check_zip if zipped(path) else _check_old
    with path.open('rb') as file:
        check(file, path.stat().st_size)


def _check_zip(file: BinaryIO, size: int) -> None:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        sizes = {entry.filename.lower(): entry.file_size for entry in entries}
        if any(entry.compress_type != zipfile.ZIP_STORED or
               entry.file_size != entry.compress_size or entry.flag_bits & 1
               for entry in entries):
            raise ValueError('it has compressed entries, which torch.save '
                             'does not write')
        # Entries that overlap would be read more than once; a comment or
        # bytes before the first may hide another archive.
        if (len(sizes) < len(entries) or sum(sizes.values()) > size
                or archive.comment
                or min(entry.header_offset for entry in entries)):
            raise ValueError('its entries overlap or do not begin and end '
                             'with the file')
        for name in sizes:
            parts = name.split('/')
            if '..' in parts or not parts[0] or '\\' in name or ':' in name:
                raise ValueError(f'its entry {name!r} leads out of it')
            if '/data/' in name and not STORED.fullmatch(name):
                raise ValueError(f'its entry {name!r} is none of torch.save')
        # torch reads the bytes as they are, flipped or not.
        if damaged := archive.testzip():
            raise ValueError(f'its entry {damaged!r} has another checksum '
                             'than it was written with')
        content = [entry for entry in entries
                   if entry.filename.endswith('/data.pkl')]
        if len(content) != 1:
            raise ValueError('it has no data.pkl, or several')
        folder = content[0].filename.lower().rpartition('/')[0]
        with archive.open(content[0]) as pickled:
            storages = _check_pickle(pickled)
    for key, wanted in storages.items():
        if wanted > sizes.get(f'{folder}/data/{key}', -1):
            raise ValueError(f'its storage {key} has fewer than the {wanted} '
                             'bytes it should have')


def _check_old(file: BinaryIO, size: int) -> None:
    storages: Dict[str, int] = {}
    written: Set[str] = set()
    for part in range(PARTS_OF_OLD):
        written.clear()  # those of the last part are the storages' keys
        storages.update(_check_pickle(file, written))
        if part == 0 and not storages and file.tell() == size:
            raise ValueError('it is a pickle, not a file of torch.save')
    if sum(storages.values()) > size - file.tell():
        raise ValueError(f'its storages should have {sum(storages.values())} '
                         f'bytes, it has {size - file.tell()} for them')
    if missing := set(storages) - written:
        raise ValueError(f'its storages {sorted(missing)[:5]} have no content')


def _check_pickle(file: BinaryIO, texts: Set[str] = None) -> Dict[str, int]:
    """Goes through a pickle's operations without performing them.

    Args:
        file: Read to the pickle's end, not further.
        texts: Where to collect the strings in it.

    Returns:
        Bytes of each storage that it refers to.
    """
    stack: List[_Node] = []
    marks: List[int] = []
    memo: Dict[int, _Node] = {}
    borrowed: Set[int] = set()  # places on the stack filled from the memo
    storages: Dict[str, int] = {}
    for count, (op, arg, _) in enumerate(pickletools.genops(file)):
        if count > MOST_OPERATIONS:
            raise ValueError(f'it has more than {MOST_OPERATIONS} operations')
        if texts is not None and isinstance(arg, str):
            texts.add(arg)
        if op.name == 'MARK':
            marks.append(len(stack))
        elif op.name.endswith('GET'):
            borrowed.add(len(stack))
            stack.append(memo[arg])
        elif op.name.endswith('PUT') or op.name == 'MEMOIZE':
            memo[len(memo) if arg is None else arg] = stack[-1]
        elif op.name == 'DUP':
            borrowed.add(len(stack))
            stack.append(stack[-1])
        else:
            wanted = op.stack_before
            if pickletools.markobject in wanted:
                start = marks.pop() - wanted.index(pickletools.markobject)
            else:
                start = len(stack) - len(wanted)
            if start < 0 or start > len(stack):
                raise ValueError('it takes more from its stack than there is')
            taken = stack[start:]
            del stack[start:]
            # What pickle.dump writes is filled before it is referred to.
            fills = op.name in FILLING
            if fills and start in borrowed:
                raise ValueError('it changes what it has referred to')
            borrowed.difference_update(range(start, start + len(taken)))
            if op.name in ('BINPERSID', 'PERSID'):
                _note_storage(taken, storages)
            if op.stack_after:
                node = taken[0] if fills else _Node(
                    tuple(taken) if 0 < len(taken) <= 6 else (arg, ))
                node.add(taken[1:] if fills else taken)
                if node.size > MOST_NODES or node.depth > MOST_LEVELS:
                    raise ValueError('what it holds is nested too deeply, or '
                                     'refers to itself too often')
                stack.append(node)
    return storages


def _note_storage(taken: List[_Node], storages: Dict[str, int]) -> None:
    """Reads ('storage', type, key, location, count[, view])."""
    parts = taken[0].parts if taken else ()
    values = [part.parts[0] if part.parts else None for part in parts
              if isinstance(part, _Node)]
    if len(values) not in (5, 6) or values[0] != 'storage':
        raise ValueError('it refers to something else than storages')
    element = ELEMENT.get(str(values[1]).rpartition(' ')[2], 1)
    key, count = values[2], values[4]
    if not isinstance(count, int) or count < 0:
        raise ValueError(f'its storage {key!r} has no size')
    storages[str(key)] = max(storages.get(str(key), 0), count * element)
