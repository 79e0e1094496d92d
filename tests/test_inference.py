"""Models with their weights, as the tools load them."""
import pytest
import torch
from tiny_models import build, child

from mmiformer.kit.inference import load_model


def test_weights_fit_in_full(configs, tmp_path):
    cfg = child(configs, 'imagenet')
    state = build(cfg).state_dict()
    torch.save(dict(state_dict=state, meta={}), tmp_path / 'all.pth')
    loaded = load_model(cfg, str(tmp_path / 'all.pth')).cpu().state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    del state['head.fc.bias']
    torch.save(state, tmp_path / 'part.pth')
    with pytest.raises(ValueError, match=r'part.pth: .*head\.fc\.bias'):
        load_model(cfg, str(tmp_path / 'part.pth'))
    # Released: of the backbone by other names, and the head.
    released = {name[len('backbone.'):]: value for name, value in
                build(cfg, seed=1).state_dict().items()
                if name.startswith('backbone.')}
    released.update({'head.weight': torch.randn(3, 48),
                     'head.bias': torch.randn(3)})
    torch.save(released, tmp_path / 'released.pth')
    loaded = load_model(cfg, str(tmp_path / 'released.pth')).cpu()
    assert torch.equal(loaded.head.fc.weight, released['head.weight'])
