"""Images and videos as a command names them."""
from importlib.util import find_spec
from pathlib import Path
from typing import List, NamedTuple, Tuple
from urllib.parse import urlparse

IMAGES = {'.bmp', '.jpeg', '.jpg', '.png', '.ppm', '.tif', '.tiff', '.webp'}
VIDEOS = {'.avi', '.m4v', '.mkv', '.mov', '.mp4', '.webm'}


class Source(NamedTuple):
    """An input, and the name of what is written for it, without suffix."""
    path: str
    name: str


def find_sources(inputs: List[str]) -> List[Source]:
    """The images and videos that are meant, each with a name of its own.

    Args:
        inputs: Paths of files and folders, URLs of images. Folders are
            searched with their sub-folders; hidden files are skipped.

    Raises:
        ImportError: There are videos, and supervision is missing.
    """
    found: List[Tuple[str, Path]] = []
    for text in inputs:
        path = Path(text)
        if '://' in text:
            found.append((text, Path(Path(urlparse(text).path).name)))
        elif path.is_dir():
            found += [
                (str(file), file.relative_to(path))
                for file in sorted(path.rglob('*'))
                if file.suffix.lower() in IMAGES | VIDEOS
                and not file.name.startswith('.')]
        else:
            found.append((text, Path(path.name)))
    sources, taken = [], set()
    for path, relative in found:
        stem = name = str(relative.with_suffix(''))
        number = 1
        while name in taken:
            number += 1
            name = f'{stem}_{number}'
        taken.add(name)
        sources.append(Source(path, name))
    if (any(suffix(source.path) in VIDEOS for source in sources)
            and find_spec('supervision') is None):
        raise ImportError('videos need supervision: in the checkout, '
                          'pip install ".[predict]"')
    return sources


def suffix(path: str) -> str:
    """Of a path or a URL, in lower case."""
    return Path(urlparse(path).path).suffix.lower()
