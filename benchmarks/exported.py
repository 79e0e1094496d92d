"""Times exported backbones in ONNX Runtime and OpenVINO beside PyTorch.

    benchmarks/exported.py --sizes 224 224@8 800x1280 --opsets 18 20 23 \\
        --out work_dirs/exported.md

iFormer-S on a CPU, in fp32 where nothing else is said. The file of each opset
is exported for the size; `dynamic` is exported for any. OpenVINO is measured if
installed. PyTorch runs the network as it is built, and deployed, in bf16, too.
"""
import argparse
import multiprocessing
import re
import shlex
import statistics
import sys
import tempfile
import time
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
import torch
from measure import describe_machine, parse_size, quartiles, worst_error
from variants import Variant

from mmiformer.kit.export import AXES, OPSET, TRACED_SIZE

NETWORK = 'iFormer-S'
DEPLOYED = f'{NETWORK}+deploy'
BF16 = 'deployed, bf16'
TITLES = ('size', 'runtime', 'opset', 'ms', 'quartiles', 'time', 'memory MiB',
          'error')
NOTES = """\
- **ms**: median, wall clock, or CPU time with --cpu-time. Each row runs in a
  process of its own; they are sampled in interleaved rounds, each after an
  inference that is not timed.
- **time**: relative to the eager network in PyTorch.
- **memory**: what the process takes for its first inference, beyond what it
  had with the network loaded.
- **error**: largest difference from the eager network, relative to the
  standard deviation of the map.
"""

Infer = Callable[[np.ndarray], Sequence[np.ndarray]]


class Case(NamedTuple):
    """A row: a runtime, and the file that it runs, if any."""
    runtime: str
    opset: str = ''
    path: str = ''


def load(case: Case, threads: int) -> Infer:
    """A function from images ``(B, 3, H, W)`` to the maps."""
    if case.runtime == 'onnxruntime':
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(
            case.path, options, providers=['CPUExecutionProvider'])
        return lambda image: session.run(None, {'image': image})
    if case.runtime == 'openvino':
        import openvino
        # By default it computes in bf16 on CPUs that have it.
        model = openvino.Core().compile_model(case.path, 'CPU', {
            'INFERENCE_PRECISION_HINT': 'f32',
            'INFERENCE_NUM_THREADS': threads})
        return lambda image: list(model([image]).values())
    torch.set_num_threads(threads)
    network = build(NETWORK if case.runtime == 'eager' else DEPLOYED)

    def infer(image: np.ndarray) -> List[np.ndarray]:
        with torch.no_grad(), torch.autocast(
                'cpu', torch.bfloat16, enabled=case.runtime == BF16):
            return [x.float().numpy() for x in network(
                torch.from_numpy(image))]

    return infer


def build(name: str) -> torch.nn.Module:
    variant = Variant.parse(name)
    return variant.convert(variant.build().eval())


def export(folder: Path, opset: int, shape: Tuple[int, ...], dynamic: bool
           ) -> str:
    """Writes the deployed network; returns the path."""
    path = folder / f'{opset}{"_dynamic" * dynamic}.onnx'
    batch, height, width = TRACED_SIZE if dynamic else (shape[0], *shape[2:])
    with torch.no_grad():
        torch.onnx.export(
            build(DEPLOYED), (torch.zeros(batch, 3, height, width), ),
            dynamo=True,
            opset_version=opset, input_names=['image'], verbose=False,
            dynamic_shapes=(AXES, ) if dynamic else None
        ).save(path, external_data=False)
    return str(path)


def serve(connection: Connection, case: Case, shape: Tuple[int, ...],
          threads: int, clock: Callable[[], float]) -> None:
    """Runs one network in a process of its own, whose threads disturb no
    other: sends its maps and the memory of its first inference in MiB, then
    for each message the seconds of one more."""
    infer = load(case, threads)
    image = np.random.RandomState(0).randn(*shape).astype(np.float32)
    Path('/proc/self/clear_refs').write_text('5')  # restarts VmHWM
    before = read_status('VmRSS')
    maps = infer(image)
    memory = (read_status('VmHWM') - before) / 1024
    connection.send(([np.array(x) for x in maps], memory))
    while connection.recv():
        infer(image)  # brings weights and threads back
        start = clock()
        infer(image)
        connection.send(clock() - start)


def read_status(key: str) -> int:
    """KiB of ``/proc/self/status``."""
    return int(re.search(rf'{key}:\s+(\d+)',
                         Path('/proc/self/status').read_text())[1])


def run_size(size: str, args: argparse.Namespace) -> List[str]:
    """The lines of the table for one size."""
    height, width, batch = parse_size(size)
    shape = (batch, 3, height, width)
    context = multiprocessing.get_context('spawn')
    networks: Dict[Case, Connection] = {}
    with tempfile.TemporaryDirectory() as folder:
        cases = [Case('eager'), Case('deployed'), Case(BF16)]
        for opset in args.opsets:
            for dynamic in [False] + [True] * (args.dynamic and opset == OPSET):
                print(f'{size}: exporting opset {opset}', file=sys.stderr)
                path = export(Path(folder), opset, shape, dynamic)
                name = f'{opset}{", dynamic" * dynamic}'
                cases += [Case(runtime, name, path)
                          for runtime in args.runtimes]
        results, samples, processes = {}, {case: [] for case in cases}, []
        for case in cases:
            networks[case], theirs = context.Pipe()
            process = context.Process(target=serve, daemon=True, args=(
                theirs, case, shape, args.threads,
                time.process_time if args.cpu_time else time.perf_counter))
            process.start()
            processes.append(process)
            results[case] = networks[case].recv()
        for _ in range(args.rounds):
            for case, network in networks.items():
                network.send(True)
                samples[case].append(network.recv())
        for network, process in zip(networks.values(), processes):
            network.send(False)
            process.join()
    unit = statistics.median(samples[cases[0]])
    truth = [torch.from_numpy(x) for x in results[cases[0]][0]]
    return [line(size, case, samples[case], unit, memory, worst_error(
        [torch.from_numpy(x) for x in maps], truth))
        for case, (maps, memory) in results.items()]


def line(size: str, case: Case, seconds: List[float], unit: float,
         memory: float, error: float) -> str:
    low, median, high = quartiles(seconds)
    return cells(size, case.runtime, case.opset, f'{1e3 * median:.0f}',
                 f'{1e3 * low:.0f} to {1e3 * high:.0f}',
                 f'{median / unit:.2f}', f'{memory:.0f}', f'{error:.1e}')


def cells(*values: str) -> str:
    return f'| {" | ".join(values)} |'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sizes', nargs='+', metavar='H[xW][@BATCH]',
                        default=['224', '224@8', '512', '800x1280'])
    parser.add_argument('--opsets', nargs='+', type=int,
                        default=[18, 20, 23])
    parser.add_argument('--fixed', dest='dynamic', action='store_false',
                        help='leave out the file for any size, whose export '
                        'takes minutes')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--threads', type=int,
                        default=torch.get_num_threads())
    parser.add_argument('--cpu-time', action='store_true',
                        help='what a process takes of the CPU, in place of '
                        'wall-clock time: for a machine that does other work, '
                        'with --threads 1, as idle threads count too')
    parser.add_argument('--out', type=Path, help='a Markdown file')
    args = parser.parse_args()
    args.runtimes = ['onnxruntime']
    try:
        import openvino  # noqa: F401
        args.runtimes.append('openvino')
    except ImportError:
        print('OpenVINO is not installed: left out', file=sys.stderr)
    return args


def main() -> None:
    args = parse_args()
    machine: Dict[str, object] = describe_machine(torch.device('cpu'))
    machine['threads'] = args.threads
    for name in args.runtimes:
        machine[name] = __import__(name).__version__
    lines = [f'`{shlex.join(["benchmarks/exported.py", *sys.argv[1:]])}`, '
             f'{date.today()}', '',
             *(f'- {key}: {value}' for key, value in machine.items()), '',
             NOTES, cells(*TITLES),
             cells(*['---'] * 3, *['---:'] * (len(TITLES) - 3))]
    for size in args.sizes:
        lines += run_size(size, args)
        if args.out:
            args.out.write_text('\n'.join(lines) + '\n')
    print('\n'.join(lines))


if __name__ == '__main__':
    main()
