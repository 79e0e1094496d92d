"""Where this package keeps its configs, for configs of other projects."""
from pathlib import Path

PACKAGE = Path(__file__).parent
CONFIGS = PACKAGE / '.mim' / 'configs'
if not CONFIGS.is_dir():  # a checkout that is not installed
    CONFIGS = PACKAGE.parent / 'configs'


def config_path(name: str) -> str:
    """The path of one of our configs, for ``_base_`` of another.

    ``_base_`` may be an expression, but sees no imports of its file::

        _base_ = __import__('mmiformer').config_path('mask_rcnn/iformer_s_1x')

    Args:
        name: The path below ``configs/``, with or without ``.py``.

    Raises:
        ValueError: There is no such config; the message lists all.
    """
    path = CONFIGS / Path(name).with_suffix('.py')
    if not path.is_file():
        names = sorted(str(file.relative_to(CONFIGS))
                       for file in CONFIGS.glob('*/*.py'))
        raise ValueError(f'there is no config {name!r}, but {", ".join(names)}')
    return str(path)
