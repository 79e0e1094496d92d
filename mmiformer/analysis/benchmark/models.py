"""What the benchmark times: networks by name, and variants of them."""
import importlib.util
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple, Type

import torch
from mmengine.registry import MODELS
from torch import nn

from ...backbone.arch import resolve_arch
from ..peers import PEERS
from .measure import describe_error

REFERENCE = 'reference'
MODES = ('forward', 'train')
SUFFIXES = ('cp', 'deploy', 'compiled')
# Of ours for large images: where attention grows with the square of the
# pixels, each position sees as many others as in pre-training at 224.
WINDOW_SIZE = (28, 14, 14, None)


class Unavailable(Exception):
    """A network or a mode of it cannot be had here; says why."""


@dataclass(frozen=True)
class Network:
    """A backbone that can be built.

    Attributes:
        cfg: For mmengine's registry.
        channels: Of the four maps.
        replacement: Class that stands in for what ``cfg`` builds, with equal
            names of its weights; called with the architecture.
        base: The network whose eager fp32 outputs are the truth for this
            one; None for itself.
    """
    cfg: dict
    channels: Tuple[int, ...]
    replacement: Optional[Type[nn.Module]] = None
    base: Optional[str] = None

    def with_cp(self) -> 'Network':
        """The same, recomputing activations in backward.

        Raises:
            Unavailable: It cannot do so.
        """
        if self.replacement is not None:
            raise Unavailable('the network has no with_cp')
        return replace(self, cfg=dict(self.cfg, with_cp=True))

    def build(self) -> nn.Module:
        """The bare backbone.

        Raises:
            Unavailable: No installed package has it.
        """
        if self.replacement is not None:
            return self.replacement(self.cfg['arch'])
        try:
            return MODELS.build(dict(self.cfg))
        except TypeError as error:  # of an argument, say with_cp
            raise Unavailable(describe_error(error)) from error
        except (ImportError, KeyError, RuntimeError, AttributeError) as error:
            # Registries and half-installed packages raise any of these.
            raise Unavailable('not in the installed packages') from error


@dataclass(frozen=True)
class Variant:
    """A network in a way of running it."""
    name: str
    network: str
    cp: bool = False
    deploy: bool = False
    compiled: bool = False

    def runs(self, mode: str) -> bool:
        """Whether it has that mode: what is folded does not train, and only
        a training step can save by recomputing."""
        return not (self.deploy if mode == 'train' else self.cp)


def _other(name: str, channels: Sequence[int], **cfg) -> Network:
    return Network(dict(type=name, **cfg), tuple(channels))


def _peer(name: str, **changes) -> Network:
    cfg, channels = PEERS[name]
    return Network({**cfg, **changes}, channels)


# No drop path anywhere, and BatchNorms that learn, so that a training step
# does the same work in all.
PEER_NETWORKS: Dict[str, Network] = {
    'ResNet50': _peer('ResNet50', norm_eval=False),
    'Swin-T': _peer('Swin-T', drop_path_rate=0.),
    'PVT-S': _peer('PVT-S', drop_path_rate=0.),
    'PVTv2-B2': _other('mmdet.PyramidVisionTransformerV2',
                       (64, 128, 320, 512), num_layers=[3, 4, 6, 3],
                       drop_path_rate=0.),
    'ConvNeXt-T': _other('mmpretrain.ConvNeXt', (96, 192, 384, 768),
                         arch='tiny', out_indices=(0, 1, 2, 3),
                         gap_before_final_norm=False, drop_path_rate=0.),
    'PoolFormer-S24': _other('mmpretrain.PoolFormer', (64, 128, 320, 512),
                             arch='s24', out_indices=(0, 2, 4, 6),
                             drop_path_rate=0.),
}


def our_name(arch: str) -> str:
    """``iFormer-S`` for ``small``."""
    return f'iFormer-{arch[0].upper()}'


def networks(arch: str = 'small', reference: Optional[Path] = None
             ) -> Dict[str, Network]:
    """Every network by name, ours first.

    Args:
        arch: Size of ours, a key of the presets.
        reference: File that defines ``Reference``, the plain network; where
            there is none, it is left out.

    Raises:
        ValueError: The size is unknown.
    """
    channels = resolve_arch(arch)['embed_dims']
    cfg = dict(type='mmiformer.IFormer', arch=arch)
    name = our_name(arch)
    found = {name: Network(cfg, channels), f'{name}-window': Network(
        dict(cfg, window_size=WINDOW_SIZE), channels)}
    if reference is not None and reference.is_file():
        spec = importlib.util.spec_from_file_location(REFERENCE, reference)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        found[REFERENCE] = Network(cfg, channels, module.Reference, name)
    return {**found, **PEER_NETWORKS}


def default_variants(known: Dict[str, Network]) -> List[str]:
    """Ours in each mode, the rest as they are."""
    ours, windowed, *others = known
    return [*(ours + mode for mode in ('', '+cp', '+deploy', '+compiled',
                                       '+deploy+compiled')),
            windowed, f'{windowed}+deploy', *others]


def parse_variant(text: str, known: Dict[str, Network]) -> Variant:
    """Reads ``NETWORK[+cp][+deploy][+compiled]``.

    Raises:
        ValueError: There is no such network or mode.
    """
    network, *suffixes = text.split('+')
    if network not in known:
        hint = ('' if REFERENCE in known else
                f' ({REFERENCE}: only where the checkout has tests/)')
        raise ValueError(f'variant {text!r}: unknown network {network!r}, '
                         f'choose from {list(known)}{hint}')
    if wrong := [x for x in suffixes if x not in SUFFIXES]:
        raise ValueError(f'variant {text!r}: unknown mode {wrong[0]!r}, '
                         f'choose from {list(SUFFIXES)}')
    name = '+'.join([network, *(x for x in SUFFIXES if x in suffixes)])
    return Variant(name, network, **{x: x in suffixes for x in SUFFIXES})


def left_out(variants: Sequence[Variant], known: Dict[str, Network]
             ) -> Dict[str, str]:
    """Why some variants cannot be timed here, by name; builds each once."""
    reasons, built = {}, {}
    for variant in variants:
        try:
            if variant.network not in built:
                built[variant.network] = known[variant.network].build()
            if variant.cp:
                known[variant.network].with_cp().build()
            if variant.deploy and not hasattr(built[variant.network],
                                              'switch_to_deploy'):
                raise Unavailable('the network has no switch_to_deploy()')
        except Unavailable as error:
            reasons[variant.name] = str(error)
    return reasons


@torch.no_grad()
def fill(model: nn.Module) -> None:
    """Gives every parameter and statistic a value that depends on its name
    alone, none of them trivial.

    Networks with the same names get the same weights, folding has statistics
    to fold, and layer scale does not hide the blocks that it would hide as
    initialised. Kernels are scaled by their fan-in, so that maps keep a
    moderate deviation.
    """
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue  # indices and counters
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        value = torch.randn(tensor.shape, generator=generator)
        if name.endswith('running_var'):
            value = 0.5 + 0.5 * value.abs()
        elif name.endswith('running_mean'):
            value = 0.1 * value
        elif 'layer_scale' in name or name.endswith('gamma'):
            value = 0.1 + 0.2 * value.abs()
        elif 'pos_embed' in name:
            value = 0.2 * value
        elif tensor.dim() > 1:
            value = value / tensor[0].numel() ** 0.5
        elif name.endswith('weight'):  # of a norm
            value = 1 + 0.1 * value
        else:
            value = 0.05 * value
        tensor.copy_(value)

