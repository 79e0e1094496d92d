"""The backbone is found by name from every framework."""
import subprocess
import sys

import pytest

# A plain name is unknown until mmiformer is imported, which a scoped one does
# by itself.
BUILD = """
from mmengine.registry import init_default_scope
from {package}.registry import MODELS
init_default_scope('{package}')
names = []
for name in ('IFormer', 'mmiformer.IFormer', 'IFormer'):
    try:
        names.append(type(MODELS.build(dict(type=name))).__module__)
    except KeyError as error:
        names.append('KeyError')
print(*names)
"""


@pytest.mark.parametrize('package', [
    'mmengine', 'mmdet', 'mmseg', 'mmpretrain'])
def test_names_in_a_process_that_has_not_imported_mmiformer(package):
    result = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', BUILD.format(package=package)],
        capture_output=True, text=True)
    assert result.stdout.splitlines()[-1].split() == [
        'KeyError', *2 * ['mmiformer.backbone.iformer']], result.stderr


