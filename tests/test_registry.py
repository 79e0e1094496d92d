"""The backbone is found by name from every framework."""
import subprocess
import sys

import pytest
from mmengine.registry import MODELS

from mmiformer import IFormer
from mmiformer.registry import BACKBONES

BUILD = '''
from mmengine.registry import init_default_scope
{imports}
model = MODELS.build(dict(type={type!r}, arch='small'))
print(type(model).__module__, type(model).__name__)
'''


def build(imports, type_name):
    """Builds in a process that has not imported mmiformer."""
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c',
         BUILD.format(imports=imports, type=type_name)],
        capture_output=True, text=True)
    # A log line may come first.
    return (result.stdout.strip() or result.stderr).splitlines()[-1]


@pytest.mark.parametrize('imports', [
    'from mmengine.registry import MODELS',
    'from mmdet.registry import MODELS; init_default_scope("mmdet")',
    'from mmseg.registry import MODELS; init_default_scope("mmseg")',
])
def test_scoped_name_without_custom_imports(imports):
    assert build(imports, 'mmiformer.IFormer') == (
        'mmiformer.backbone.iformer IFormer')


@pytest.mark.parametrize('package', ['mmdet', 'mmseg'])
def test_plain_name_with_custom_imports(package):
    imports = (f'from {package}.registry import MODELS; '
               f'init_default_scope("{package}"); import mmiformer')
    assert build(imports, 'IFormer') == 'mmiformer.backbone.iformer IFormer'
    assert 'KeyError' in build(
        imports.replace('import mmiformer', ''), 'IFormer')


def test_the_registry_is_a_child_of_mmengines():
    assert BACKBONES.parent is MODELS and BACKBONES.scope == 'mmiformer'
    assert BACKBONES.get('IFormer') is IFormer


def test_from_mmpretrain():
    imports = ('from mmpretrain.registry import MODELS; '
               'init_default_scope("mmpretrain")')
    assert build(imports, 'mmiformer.IFormer') == (
        'mmiformer.backbone.iformer IFormer')
    assert build(imports + '; import mmiformer', 'IFormer') == (
        'mmiformer.backbone.iformer IFormer')
