"""What this package has: its configs, and their models."""
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from typing import List, NamedTuple, Optional

from mmengine.fileio import load

PACKAGE = Path(__file__).parent
CONFIGS = PACKAGE / '.mim' / 'configs'
if not CONFIGS.is_dir():  # a checkout that is not installed
    CONFIGS = PACKAGE.parent / 'configs'


def config_path(name: str) -> str:
    """The path of one of our configs, for ``_base_`` of another.

    ``_base_`` may be an expression, but sees no imports of its file::

        _base_ = __import__('mmiformer').config_path('mask_rcnn/iformer_s_1x')

    Args:
        name: The path below ``configs/``, with or without that and ``.py``.

    Raises:
        ValueError: There is no such config; the message names those with a
            similar name.
    """
    path = Path(name).with_suffix('.py')
    if path.parts[:1] == ('configs', ):
        path = path.relative_to('configs')
    if not (CONFIGS / path).is_file():
        near = get_close_matches(str(path), [
            str(file.relative_to(CONFIGS)) for file in CONFIGS.glob('*/*.py')])
        raise ValueError(f'no such file: {name!r}; ' + (
            f'do you mean {", ".join(near)}?' if near else
            "'mmiformer models' lists our configs"))
    return str(CONFIGS / path)


class Model(NamedTuple):
    """A model that one of our configs trains."""
    name: str  # of the config, as `config_path` takes it
    task: str
    data: str
    parameters: int  # of the whole model
    # In the paper; UperNet's in the authors' README. None: in neither.
    published: Optional[str]
    weights: Optional[str]  # as `IFormer.from_pretrained` takes it


def list_models(pattern: str = '*') -> List[Model]:
    """The models of our configs, from the files that mim reads.

    Args:
        pattern: Of names, with ``*`` and ``?``: ``'*iformer_s*'``.
    """
    root = CONFIGS.parent
    models = []
    for file in load(root / 'model-index.yml')['Import']:
        content = load(root / file)
        about, = content['Collections']
        for model in content['Models']:
            name = str(Path(model['Config']).relative_to('configs')
                       .with_suffix(''))
            weights = model['Weights']
            # A model's own metadata go before those of its collection.
            metadata = {**about['Metadata'], **model['Metadata']}
            models.append(Model(
                name, metadata['Task'], metadata['Training Data'],
                metadata['Parameters'], metadata.get('Published'),
                Path(weights).stem if '://' in weights else None))
    return [model for model in models if fnmatch(model.name, pattern)]
