"""What the kill harness takes for a difference."""
import torch


def test_differences(monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '1')  # set by the import
    from kill_and_resume import differences
    a = dict(weights=torch.tensor([1., 2.]), random=[3], metrics={8: 0.5})
    assert differences(a, dict(a)) == []
    for key, value in dict(weights=torch.tensor([1., 2.0000002]), random=[3.],
                           metrics={8: 0.5, 9: 0.5}).items():
        b = {**a, key: value}
        assert len(differences(a, b)) == len(differences(b, a)) == 1
        assert differences(a, b)[0].startswith(key)
