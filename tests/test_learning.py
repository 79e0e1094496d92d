"""A training learns: the loss of 40 iterations on coloured squares."""
import cv2
import numpy as np
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.structures import PixelData
from tiny_models import build, child

SIZE = 64


def draw(random):
    """A batch of four images, in which a class is a colour."""
    from mmseg.structures import SegDataSample
    images, samples = [], []
    for _ in range(4):
        image = random.randint(0, 60, (SIZE, SIZE, 3), np.uint8)
        labels = np.zeros((SIZE, SIZE), np.uint8)
        for kind, colour in enumerate(((200, 0, 0), (0, 200, 0), (0, 0, 200)),
                                      1):
            x, y = map(int, random.randint(0, SIZE - 20, 2))
            corners = (x, y), (x + 20, y + 20)
            cv2.rectangle(image, *corners, colour, -1)
            cv2.rectangle(labels, *corners, kind, -1)
        images.append(torch.from_numpy(image).permute(2, 0, 1))
        samples.append(SegDataSample(gt_sem_seg=PixelData(
            data=torch.from_numpy(labels).long()[None])))
    return dict(inputs=images, data_samples=samples)


@pytest.mark.parametrize('part, fresh, share', [
    ('', True, 0.2),  # images that are new in each iteration
    ('backbone', False, 0.5)])  # below a random head, which stays
def test_the_loss_falls(part, fresh, share, configs):
    cfg = child(configs, 'fpn_ade20k')
    cfg.model.data_preprocessor.size = (SIZE, SIZE)
    model = build(cfg).train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(part))
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    random = np.random.RandomState(0)
    data, losses = draw(random), []
    for _ in range(40):
        losses.append(model.train_step(data, wrapper)['loss'].item())
        data = draw(random) if fresh else data
    assert np.mean(losses[-5:]) < share * losses[0]
