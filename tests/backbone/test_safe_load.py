"""mmengine's own checkpoints open with weights_only=True; others do not."""
import subprocess
import sys

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader

from mmiformer.backbone.hub import read_checkpoint

REFUSED = 'is refused: it asks for more than tensors'


def test_the_training_history_opens(tmp_path):
    history = HistoryBuffer([1., 2., 4.], [1, 1, 2])
    history.update(np.float64(3.5).item())
    torch.save(dict(loss=history, mIoU=np.float64(.5), best=np.int32(7)),
               tmp_path / 'epoch_1.pth')
    content = read_checkpoint(str(tmp_path / 'epoch_1.pth'))
    assert (content['mIoU'], content['best']) == (.5, 7)
    loaded = content['loss']
    assert loaded.data[0].tolist() == [1., 2., 4., 3.5]
    assert loaded.mean() == history.mean()
    # Again, after a fork's own loader has taken its allowances back.
    CheckpointLoader.load_checkpoint(str(tmp_path / 'epoch_1.pth'))
    read_checkpoint(str(tmp_path / 'epoch_1.pth'))


def test_without_mmiformer_it_would_not(tmp_path):
    """Upstream's fault, without which the allow-list would be dead code."""
    torch.save(HistoryBuffer([1.], [1]), tmp_path / 'epoch_1.pth')
    code = f'import torch; torch.load({str(tmp_path / "epoch_1.pth")!r})'
    result = subprocess.run([sys.executable, '-c', code], capture_output=True,
                            text=True)
    assert 'HistoryBuffer' in result.stderr


def test_the_way_to_its_methods_leads_nowhere_else(tmp_path):
    for owner, name in ((HistoryBuffer, '__init__'), (np.ndarray, 'tofile')):
        torch.save(Getattr(owner, name), tmp_path / 'x.pth')
        with pytest.raises(ValueError, match=REFUSED):
            read_checkpoint(str(tmp_path / 'x.pth'))


class Getattr:

    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return getattr, self.arguments


class Code:

    def __reduce__(self):
        return eval, ('1 + 1', )


@pytest.mark.parametrize('content', [
    Code(), HistoryBuffer, np.array([Code()], dtype=object)])
def test_everything_else_stays_refused(content, tmp_path):
    torch.save(content, tmp_path / 'x.pth')
    if content is HistoryBuffer:  # the class alone is harmless
        assert read_checkpoint(str(tmp_path / 'x.pth')) is HistoryBuffer
        return
    with pytest.raises(ValueError, match=REFUSED):
        read_checkpoint(str(tmp_path / 'x.pth'))


def test_mmengines_own_loader_runs_no_code(tmp_path, monkeypatch):
    """Not even that of a fork which falls back to weights_only=False; in a
    process of its own, since the setting is for a whole process."""
    torch.save(Touch(tmp_path / 'ran'), tmp_path / 'x.pth')
    result = subprocess.run(
        [sys.executable, '-c', f'''
from mmengine.runner import CheckpointLoader
from mmiformer.backbone.safe_load import force_weights_only
force_weights_only()
CheckpointLoader.load_checkpoint({str(tmp_path / 'x.pth')!r})'''],
        capture_output=True, text=True)
    assert 'Weights only load failed' in result.stderr
    assert not (tmp_path / 'ran').exists()
    # The file does run code where nobody is careful.
    monkeypatch.delenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', raising=False)
    torch.load(tmp_path / 'x.pth', weights_only=False)
    assert (tmp_path / 'ran').exists()


class Touch:

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')
