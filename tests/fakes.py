"""Made-up networks for the tests of the benchmark."""
import torch
from torch import nn

from mmiformer.analysis import benchmark
from mmiformer.analysis.benchmark.models import Network


class Plain(nn.Module):
    """One convolution, whose output can be moved."""

    def __init__(self, arch=None, shift=0.):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.shift, self.deployed = shift, False

    def switch_to_deploy(self):
        self.deployed = True

    def forward(self, x):
        x = self.conv(x)
        if self.deployed:
            return (x + 3 * x.std(unbiased=False), )
        return x + self.shift * x.std(unbiased=False), x


class Broken(Plain):

    def forward(self, x):
        raise RuntimeError("can't allocate memory: you tried 9 bytes")


class Folding(Plain):

    def forward(self, x):
        return self.conv(x) * (1.25 if self.deployed else 1), self.conv(x)


def fake(cls, base=None, **kwargs):
    return Network(dict(arch=None), (4, ), lambda arch: cls(arch, **kwargs),
                   base)


FAKES = {'plain': fake(Plain), 'shifted': fake(Plain, 'plain', shift=0.5),
         'broken': fake(Broken), 'folding': fake(Folding)}


def run_fakes(names, mode='forward', dtype='fp32', **kwargs):
    variants = [benchmark.parse_variant(name, FAKES) for name in names]
    bench = benchmark.Benchmark(
        FAKES, variants, benchmark.BackboneTask(), torch.device('cpu'),
        repeats=2, **kwargs)
    cases = benchmark.make_cases(['8x6@2'], [mode], [dtype])
    return bench, cases, bench.run(cases)
