"""The network against the plain reference: values, gradients, and work."""
import pytest
import torch
from conftest import (
    TINY,
    assert_parity,
    golden_image,
    golden_state,
    golden_weights,
)
from reference import Reference, fill

from mmiformer import IFormer
from mmiformer.paper import count


def pair(arch, **kwargs):
    """Ours and the reference, with the same weights, none of them trivial:
    as initialised, layer scale would hide the late blocks."""
    with torch.device('meta'):  # the initial values are not needed
        models = IFormer(arch, **kwargs), Reference(arch, **kwargs)
    ours, reference = (model.to_empty(device='cpu') for model in models)
    fill(ours)
    reference.load_state_dict(ours.state_dict())
    return ours, reference


def worst(outs, expected):
    """The largest error, as a part of its map's deviation."""
    assert [out.shape for out in outs] == [out.shape for out in expected]
    return max(float((out - other).abs().max() / other.std(unbiased=False))
               for out, other in zip(outs, expected))


@pytest.fixture(scope='module')
def tiny_pair():
    return pair(TINY, pretrain_img_size=64)


@pytest.mark.parametrize('arch', ['small', 'base', 'large'])
@torch.no_grad()
def test_every_size_equals_the_reference(arch):
    ours, reference = (model.eval() for model in pair(arch))
    image = torch.from_numpy(golden_weights.image(33, 57))
    assert worst(ours(image), reference(image)) < 1e-5


# In double precision, so that what is left is a difference in definition.
@pytest.mark.parametrize('size', [
    (64, 64), (1, 1), (2, 3), (33, 57), (96, 40), (40, 96), (100, 36),
    (161, 31), (5, 224), (32, 128)])  # as many positions as 64x64 has
@torch.no_grad()
def test_any_image_equals_the_reference(tiny_pair, size):
    ours, reference = (model.double().eval() for model in tiny_pair)
    image = torch.from_numpy(golden_weights.image(*size)).double()
    image = torch.cat([image, image.flip(3) + 1])
    outs = ours(image)
    assert worst(outs, reference(image)) < 1e-10
    # RoIAlign reads NCHW memory whatever the strides say.
    assert all(out.is_contiguous() for out in outs)


@torch.no_grad()
def test_without_output_norms():
    ours, reference = (model.eval() for model in pair(
        TINY, pretrain_img_size=64, out_norms=False))
    image = torch.from_numpy(golden_weights.image(48, 80))
    assert worst(ours(image), reference(image)) < 1e-5


@pytest.mark.parametrize('size', [(64, 64), (75, 41)])
def test_every_gradient_equals_the_reference(tiny_pair, size):
    image = torch.from_numpy(golden_weights.image(*size)).double()
    image = torch.cat([image, image.flip(2)]).requires_grad_()
    gradients = []
    for model in tiny_pair:
        model.double().train()
        loss = sum(((i + out) ** 2).mean() for i, out in enumerate(
            model(image)))
        names, parameters = zip(*model.named_parameters())
        gradients.append(dict(zip(
            ('image', *names),
            torch.autograd.grad(loss, (image, *parameters)))))
    ours, expected = gradients
    assert ours.keys() == expected.keys()
    for name, gradient in expected.items():
        # A bias before BatchNorm has no gradient but rounding.
        bound = 1e-4 * gradient.abs().max().clamp(min=1e-8)
        assert (ours[name] - gradient).abs().max() < bound, name


@torch.no_grad()
def test_the_reference_has_parity_with_the_authors_network(released_keys):
    with torch.device('meta'):
        ours = IFormer('small', out_norms=False)
        reference = Reference('small', out_norms=False)
    # Through ours, whose state dict turns released names into its own.
    ours.to_empty(device='cpu').load_state_dict(
        golden_state('small', released_keys))
    reference.to_empty(device='cpu').load_state_dict(ours.state_dict())
    case = 'iformer_small_192x320'
    assert_parity(reference.eval()(golden_image(case)), case)


def test_the_reference_does_the_same_work(tiny_pair):
    ours, reference = (count(model.float(), (72, 104)) for model in tiny_pair)
    assert ours.params == reference.params
    assert ours.flops == reference.flops
    assert ours.flops_with_attention == reference.flops_with_attention
