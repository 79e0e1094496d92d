"""Times backbones and whole models side by side, see tools/benchmark.py."""
from .iterations import time_iterations
from .machine import ceilings, describe, limit_memory
from .measure import Timing, measure, peak_memory, worst_error
from .models import (
                     MODES,
                     REFERENCE,
                     Network,
                     Variant,
                     default_variants,
                     fill,
                     left_out,
                     networks,
                     our_name,
                     parse_variant,
)
from .parts import parts_table
from .report import draw, markdown, save
from .run import SHAPES, Benchmark, Case, compare, make_cases
from .tasks import BackboneTask, ModelTask

__all__ = [
    'MODES', 'REFERENCE', 'SHAPES', 'BackboneTask', 'Benchmark', 'Case',
    'ModelTask', 'Network', 'Timing', 'Variant', 'ceilings', 'compare',
    'default_variants', 'describe', 'draw', 'fill', 'left_out',
    'limit_memory', 'make_cases', 'markdown', 'measure', 'networks',
    'our_name', 'parse_variant', 'parts_table', 'peak_memory', 'save',
    'time_iterations', 'worst_error'
]
