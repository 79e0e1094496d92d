"""The registries of this package.

mmengine imports this module by itself for ``type='mmiformer.IFormer'`` and
hides every ImportError that it meets here, so nothing else belongs in it.
"""
from importlib import import_module
from typing import Optional, Type

from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import DefaultScope, Registry, root

SCOPE = 'mmiformer'

# Lets '_base_' say 'mmiformer::...'. For a distribution's name mmengine looks
# beside its metadata, where an editable install has no code; a module it
# finds wherever that is.
MODULE2PACKAGE[SCOPE] = f'{SCOPE}.version'

# Imported when a config names them: each needs a framework.
DATASET_MODULES = dict(
    ShapesDetDataset='mmiformer.datasets.detection',
    ShapesSegDataset='mmiformer.datasets.segmentation',
    ShapesClsDataset='mmiformer.datasets.classification')


class ScopedRegistry(Registry):
    """Ours first, then what the scope of the run knows.

    mmengine marks the typed dicts that a ``'mmiformer::...'`` base defines
    with our scope, though nearly all of them name classes of mmdet, mmseg or
    mmengine. They have to mean the same as in a config without that mark.
    """

    def get(self, key: str) -> Optional[Type]:
        """The class of a name; None where nobody has it."""
        self.import_from_location()
        name = key.rpartition('.')[2]
        if self is DATASETS and name in DATASET_MODULES:
            import_module(DATASET_MODULES[name])
        if '.' not in key and key not in self.module_dict:
            scopes = [instance.scope_name
                      for instance in DefaultScope._instance_dict.values()
                      if instance.scope_name != SCOPE]
            if scopes:
                found = self.parent.get(f'{scopes[-1]}.{key}')
                if found is not None:
                    return found
        return super().get(key)


for _parent in list(vars(root).values()):
    if isinstance(_parent, Registry):
        ScopedRegistry(
            _parent.name, parent=_parent, scope=SCOPE, locations=[SCOPE])

BACKBONES = root.MODELS.children[SCOPE]
DATASETS = root.DATASETS.children[SCOPE]
