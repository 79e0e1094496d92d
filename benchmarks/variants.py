"""The networks that are compared, and the options they run with."""
from dataclasses import dataclass, field
from functools import partial
from typing import Callable, Dict, Sequence, Tuple

import torch
from mmengine.registry import MODELS
from peers import PEERS
from reference import Reference, fill
from torch import Tensor, nn

MODES = ('forward', 'train')
REFERENCE = 'reference'

Forward = Callable[[Tensor], Sequence[Tensor]]


def build(**cfg) -> nn.Module:
    """A registered backbone."""
    return MODELS.build(cfg)


def _peer(name: str, **changes) -> Callable[..., nn.Module]:
    return partial(build, **{**PEERS[name][0], **changes})


# No drop path, and BatchNorms that learn: a training step does the same kind
# of work in all of them.
NETWORKS: Dict[str, Callable[..., nn.Module]] = {
    'iFormer-S': partial(build, type='mmiformer.IFormer', arch='small'),
    'iFormer-B': partial(build, type='mmiformer.IFormer', arch='base'),
    'iFormer-L': partial(build, type='mmiformer.IFormer', arch='large'),
    REFERENCE: partial(Reference, 'small'),
    'ResNet50': _peer('ResNet50', norm_eval=False),
    'Swin-T': _peer('Swin-T', drop_path_rate=0.),
    'PVT-S': _peer('PVT-S', drop_path_rate=0.),
    'ConvNeXt-T': partial(
        build, type='mmpretrain.ConvNeXt', arch='tiny', drop_path_rate=0.,
        out_indices=(0, 1, 2, 3), gap_before_final_norm=False),
}
# Networks with equal names of equal weights: the second, eager and in fp32,
# is what the error of the first is measured against.
SAME = {REFERENCE: 'iFormer-S'}


@dataclass(frozen=True)
class Option:
    """A way to run a network.

    Attributes:
        settings: Added to the network's config.
        convert: Takes the network in its mode and on its device; returns what
            maps images to feature maps: in training a network with the same
            parameters, in inference any callable.
        modes: Where it makes sense.
        exact: The outputs should equal those of the network without it.
    """
    settings: dict = field(default_factory=dict)
    convert: Callable[[nn.Module], Forward] = lambda network: network
    modes: Tuple[str, ...] = MODES
    exact: bool = True


def _channels_last(network: nn.Module) -> nn.Module:
    return network.to(memory_format=torch.channels_last)


def _deploy(network: nn.Module) -> nn.Module:
    network.switch_to_deploy()
    return network


def _compile(network: nn.Module, **settings) -> nn.Module:
    network.compile(dynamic=False, **settings)
    return network


# In the order in which they are applied.
OPTIONS: Dict[str, Option] = {
    # Each position sees as many others as in pre-training at 224.
    'window': Option(settings=dict(window_size=(28, 14, 14, None)),
                     exact=False),
    'cp': Option(settings=dict(with_cp=True), modes=('train', )),
    'cp1': Option(settings=dict(with_cp=(True, False, False, False)),
                  modes=('train', )),
    'channels_last': Option(convert=_channels_last),
    'deploy': Option(convert=_deploy, modes=('forward', )),
    'compile': Option(convert=_compile),
    'autotune': Option(convert=partial(_compile, mode='max-autotune')),
}

DEFAULT = (REFERENCE, 'iFormer-S', 'iFormer-S+cp', 'iFormer-S+cp1',
           'iFormer-S+deploy', 'iFormer-S+compile', 'iFormer-S+deploy+compile',
           'iFormer-S+window', 'iFormer-S+window+cp',
           'iFormer-S+window+deploy', 'ResNet50', 'Swin-T', 'Swin-T+cp',
           'PVT-S', 'ConvNeXt-T')


@dataclass(frozen=True)
class Variant:
    """A network with options, which are keys of :data:`OPTIONS`."""
    network: str
    options: Tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> 'Variant':
        """Reads ``NETWORK[+OPTION]...``.

        Raises:
            ValueError: There is no such network or option.
        """
        network, *options = text.split('+')
        for kind, names, known in (('network', [network], NETWORKS),
                                   ('option', options, OPTIONS)):
            for name in names:
                if name not in known:
                    raise ValueError(f'{text}: unknown {kind} {name!r}: choose '
                                     f'from {list(known)}')
        return cls(network, tuple(x for x in OPTIONS if x in options))

    @property
    def name(self) -> str:
        return '+'.join((self.network, *self.options))

    @property
    def truth(self) -> 'Variant':
        """The variant whose eager fp32 outputs this one's should equal."""
        return Variant(SAME.get(self.network, self.network),
                       tuple(x for x in self.options if not OPTIONS[x].exact))

    def runs(self, mode: str) -> bool:
        return all(mode in OPTIONS[x].modes for x in self.options)

    def build(self) -> nn.Module:
        """The network with the weights that belong to its names."""
        settings = {}
        for option in self.options:
            settings.update(OPTIONS[option].settings)
        network = NETWORKS[self.network](**settings)
        fill(network)
        return network

    def convert(self, network: nn.Module) -> Forward:
        """Applies the options to a network that :meth:`build` returned."""
        forward = network
        for option in self.options:
            forward = OPTIONS[option].convert(forward)
        return forward
