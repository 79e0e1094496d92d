"""torchrun, but that its processes are forked from this one, which has
imported what they need: that takes longer than what they do.

    forked_torchrun.py [options of torchrun] tools/train.py [its arguments]
"""
import os
import runpy
import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.errors import record
from torch.distributed.launcher.api import elastic_launch


def work(script: str, *arguments: str) -> None:
    """A process; its exit status is the script's."""
    sys.argv = [script, *arguments]
    try:
        runpy.run_path(script, run_name='__main__')
    except SystemExit as error:
        if error.code:
            sys.stderr.write(f'{error}\n')
            sys.stderr.flush()
            os._exit(error.code if isinstance(error.code, int) else 1)


@record
def main() -> None:
    from mmseg.utils import register_all_modules
    register_all_modules()
    args = run.parse_args([
        '--start-method=fork', '--rdzv-backend=c10d',
        '--rdzv-endpoint=localhost:0', *sys.argv[1:]])
    config, _, _ = run.config_from_args(args)
    elastic_launch(config, work)(
        args.training_script, *args.training_script_args)


if __name__ == '__main__':
    main()
