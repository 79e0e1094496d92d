"""Attention in windows: what it equals, and what it saves."""
import pytest
import torch
import torch.nn.functional as F
from conftest import TINY

from mmiformer import IFormer
from mmiformer.backbone.mixer import LowMixer
from mmiformer.paper import count


def padded_and_masked(mixer, x, side):
    """The definition: windows of a padded map, none of which sees padding."""
    batch, height, width, dim = x.shape
    pad = (-width % side, -height % side)
    inside = F.pad(torch.ones(1, height, width, 1), (0, 0, 0, pad[0],
                                                     0, pad[1]))
    x = F.pad(mixer.qkv(x), (0, 0, 0, pad[0], 0, pad[1]))

    def windows(x):  # (B, H, W, C) to (windows, side * side, C)
        size, h, w, channels = x.shape
        x = x.reshape(size, h // side, side, w // side, side, channels)
        return x.transpose(2, 3).reshape(-1, side * side, channels)

    seen = windows(inside.expand(batch, -1, -1, -1))[:, None, None, :, 0] > 0
    q, k, v = windows(x).reshape(
        -1, side * side, 3, mixer.num_heads, dim // mixer.num_heads
    ).permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(2, 3) * (dim // mixer.num_heads) ** -0.5
    x = scores.masked_fill(~seen, float('-inf')).softmax(-1) @ v
    grid = (height + pad[1]) // side, (width + pad[0]) // side
    x = x.transpose(1, 2).reshape(batch, *grid, side, side, dim)
    x = x.transpose(2, 3).reshape(batch, grid[0] * side, grid[1] * side, dim)
    return x[:, :height, :width]


@pytest.mark.parametrize('size', [(8, 8), (9, 8), (8, 10), (13, 7), (3, 9),
                                  (2, 3), (4, 1), (1, 1)])
def test_windows_equal_padding_and_a_mask(size):
    torch.manual_seed(0)
    mixer = LowMixer(12, 3, pool_stride=1, window_size=4).double()
    x = torch.randn(2, *size, 12, dtype=torch.double, requires_grad=True)
    out, expected = mixer.attend(x), padded_and_masked(mixer, x, 4)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    gradients = [torch.autograd.grad(y.square().sum(),
                                     (x, mixer.qkv.weight))
                 for y in (out, expected)]
    for one, other in zip(*gradients):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize('window_size', [8, (None, 4, None, 9)])
@torch.no_grad()
def test_a_window_that_covers_the_map_is_global(tiny, window_size):
    """Bit for bit. The maps that attend have sides of 8, 4, 4 and 2 here."""
    torch.manual_seed(0)
    model = IFormer(**tiny).eval()
    windowed = IFormer(**tiny, window_size=window_size).eval()
    windowed.load_state_dict(model.state_dict())
    x = torch.rand(2, 3, 64, 57)
    for one, other in zip(model(x), windowed(x)):
        assert torch.equal(one, other)


@torch.no_grad()
def test_windows_do_not_see_each_other():
    torch.manual_seed(0)
    mixer = LowMixer(8, 2, pool_stride=2, window_size=3).eval()
    x = torch.rand(1, 20, 14, 8)
    other = x.clone()
    other[:, 6:12, :6] = torch.rand(6, 6, 8)  # the second window from above
    changed = (mixer(x) != mixer(other)).any(-1)[0]
    assert changed[6:12, :6].all()
    changed[6:12, :6] = False
    assert not changed.any()


def test_windows_save_attention():
    """Each position sees 4 x 4 others in place of 16 x 16."""
    attention = [count(IFormer(TINY, window_size=(window, 4, 2, 1)), (256, 256)
                       ).operators['attention'] for window in (16, 4)]
    channels = 8  # of the one head of the first stage; 32 x 32 positions
    assert attention[0] - attention[1] == (
        2 * channels * 32 ** 2 * (16 ** 2 - 4 ** 2))
