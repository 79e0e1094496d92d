"""The notebook: its two files are one, and it runs from a clean kernel."""
import os
import re
import shutil
import subprocess
import sys

import jupytext
import pytest
from conftest import ROOT

NOTEBOOK = ROOT / 'notebooks' / 'own_data.ipynb'


def test_text_and_notebook_are_one_without_outputs():
    """If not: jupytext --to ipynb notebooks/own_data.md"""
    text, notebook = (
        [(cell.cell_type, cell.source, cell.get('outputs', []))
         for cell in jupytext.read(path).cells]
        for path in (NOTEBOOK.with_suffix('.md'), NOTEBOOK))
    assert text == notebook


@pytest.mark.slow
def test_it_runs(tmp_path):
    copy = shutil.copy(NOTEBOOK, tmp_path)
    ran = subprocess.run(
        [sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider', '--nbmake',
         '--nbmake-timeout=1800', '--overwrite', copy], cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=str(ROOT)), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert ran.returncode == 0, ran.stdout[-3000:]
    outputs = [output for cell in jupytext.read(copy).cells
               for output in cell.get('outputs', [])]
    printed = ''.join(output.get('text', '') for output in outputs)
    # Labels of four classes, of which the background is most.
    assert float(re.findall(r'mIoU: +([\d.]+)', printed)[-1]) > 60
    same, = re.findall(r'([\d.]+)% of the pixels', printed)
    assert float(same) > 99.9
    assert sum('image/png' in output.get('data', {}) for output in outputs) == 3
