"""The registries of this package.

mmengine imports this module by itself for ``type='mmiformer.IFormer'`` and
hides every ImportError in it, so keep it free of other imports.
"""
from typing import Optional, Type

from mmengine.config.utils import MODULE2PACKAGE
from mmengine.registry import DefaultScope, Registry, root

SCOPE = 'mmiformer'

# Lets '_base_' say 'mmiformer::...'. mmengine looks for a distribution beside
# its metadata, where an editable install has no code, but finds a module
# wherever it is.
MODULE2PACKAGE[SCOPE] = f'{SCOPE}.version'


class ScopedRegistry(Registry):
    """Looks for a class here first, then in the scope of the run.

    mmengine gives the typed dicts of a ``'mmiformer::...'`` base our scope,
    though nearly all of them name classes of mmdet, mmseg or mmengine. They
    have to mean the same as in a config without that scope.
    """

    def get(self, key: str) -> Optional[Type]:
        """The class of a name, or None."""
        self.import_from_location()
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
HOOKS = root.HOOKS.children[SCOPE]
