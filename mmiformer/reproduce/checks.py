"""Everything that would stop or spoil a reproduction, found at once."""
import importlib
import os
import shutil
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional

from ..checks.preflight import find_data_faults, find_weight_faults
from ..config import find_datasets
from .estimate import Estimate
from .plan import Plan

# What a framework needs, imported as the run will: versions that do not fit
# each other and operators that do not load show up here.
PACKAGES = {'mmdet': ('mmcv.ops', 'pycocotools.mask', 'mmdet.apis'),
            'mmseg': ('mmcv.ops', 'mmseg.apis')}
EXTRAS = dict(mmdet='det', mmseg='seg')
IMAGES = ('.jpg', '.png')
SHARED_MEMORY = Path('/dev/shm')
GB = 1e9


def find_package_faults(framework: str) -> List[str]:
    """One line for each package that cannot be imported. Without these not
    even the config can be read, so they are asked for first."""
    faults = []
    for name in PACKAGES[framework]:
        try:
            importlib.import_module(name)
        except Exception as error:  # mm* packages assert their versions
            reason = (str(error).splitlines() or [repr(error)])[0]
            faults.append(
                f'{name} cannot be imported ({reason}); `make setup`, or '
                f'`pip install .[{EXTRAS[framework]}]`')
    return faults


def find_faults(plan: Plan, estimate: Optional[Estimate],
                environ: Mapping[str, str] = os.environ) -> List[str]:
    """One line for each thing without which the run must not start."""
    faults = []
    if int(environ.get('SLURM_STEP_NUM_TASKS', 1)) > 1:
        faults.append('started many times over by srun; start it once, in an '
                      'sbatch script or salloc, and it calls srun itself')
    if plan.wanted_gpus and plan.wanted_gpus > plan.available:
        faults.append(f'--gpus {plan.wanted_gpus}, but torch finds '
                      f'{plan.available} here')
    if not (plan.available or plan.embedded):
        faults.append('no GPU: torch finds none, and on a CPU this would take '
                      f'months; the recipe is for {plan.recipe_gpus}')
    if not plan.embedded:
        named: Dict[str, str] = {}  # each path once, whoever reads it
        for fault in find_data_faults(plan.cfg, plan.splits):
            named.setdefault(fault.partition(' (')[0], fault)
        faults += [*named.values(), *_count_files(plan)]
    faults += find_weight_faults(_with_checkpoint(plan), plan.splits)
    if estimate:
        faults += _check_disk(plan, estimate)
    return [*faults, *_check_settings(plan)]


def find_warnings(plan: Plan, estimate: Optional[Estimate]) -> List[str]:
    """One line for each thing that makes the result less likely."""
    warnings = []
    if plan.cfg_options:
        warnings.append('settings of your own, so this is not the recipe: '
                        + ' '.join(plan.cfg_options))
    if plan.cfg.optim_wrapper.type != 'OptimWrapper':
        warnings.append(f'{plan.cfg.optim_wrapper.type}: the recipe trains in '
                        'single precision')
    if plan.scales_lr and not plan.checkpoint:
        warnings.append(_batch_warning(plan))
    workers = plan.cfg.train_dataloader.num_workers
    if workers and SHARED_MEMORY.is_dir():
        size, wanted = shutil.disk_usage(SHARED_MEMORY).total, (
            max(1, plan.gpus) * GB)
        if size < wanted:
            warnings.append(
                f'{SHARED_MEMORY} has {size / GB:.1f} GB, and {workers} '
                f'loading processes per GPU want {wanted / GB:.0f}: give a '
                'container more (docker run --shm-size), or fewer workers '
                '(--cfg-options train_dataloader.num_workers=1)')
    if estimate and estimate.gpu_memory and (
            estimate.memory_bytes > estimate.gpu_memory):
        warnings.append(
            f'a GPU has {estimate.gpu_memory / GB:.0f} GB and about '
            f'{estimate.memory_bytes / GB:.0f} are needed: --cfg-options '
            'model.backbone.with_cp=True')
    return warnings


def _batch_warning(plan: Plan) -> str:
    base = plan.cfg.auto_scale_lr.base_batch_size
    text = (f'{max(1, plan.gpus)} x {plan.batch} = {plan.total_batch} images '
            f'an iteration, the recipe has {base}: the learning rate is '
            f'scaled by {plan.total_batch / base:g}')
    if 'max_iters' in plan.cfg.train_cfg:
        text += (', and as the schedule counts iterations, '
                 f'{plan.total_batch / base:.0%} of its images are seen')
    if plan.gpus and base % plan.gpus == 0:
        text += ('. A GPU with the memory keeps the recipe: --cfg-options '
                 f'train_dataloader.batch_size={base // plan.gpus}')
    return text


def _with_checkpoint(plan: Plan):
    """The config as tools/test.py will see it, if it only tests."""
    cfg = plan.cfg.copy()
    if plan.checkpoint:
        cfg.load_from = plan.checkpoint
    return cfg


def _count_files(plan: Plan) -> Iterator[str]:
    """Compares the images in each folder that is there with the recipe."""
    for split, folder in _folders(plan):
        wanted = plan.recipe.images[split]
        with os.scandir(folder) as entries:
            found = sum(entry.name.lower().endswith(IMAGES)
                        for entry in entries)
        if found != wanted:
            yield (f'{folder} has {found} images, {wanted} belong there: '
                   'unpack the archive again, into an empty folder')


def _folders(plan: Plan) -> Iterator:
    seen: Dict[Path, str] = {}
    for split in plan.splits:
        loader = plan.cfg[f'{split}_dataloader']
        for dataset in find_datasets(loader.dataset):
            for prefix in (dataset.get('data_prefix') or {}).values():
                folder = Path(dataset.get('data_root') or '', prefix)
                if folder.is_dir():
                    seen.setdefault(
                        folder, 'train' if split == 'train' else 'val')
    for folder, split in seen.items():
        yield split, folder


def _check_disk(plan: Plan, estimate: Estimate) -> Iterator[str]:
    folder = plan.work_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < estimate.disk_bytes:
        yield (f'{folder} has {free / GB:.1f} GB free, the checkpoints take '
               f'{estimate.disk_bytes / GB:.1f}: choose another --work-dir, '
               'or keep fewer by --cfg-options '
               'default_hooks.checkpoint.max_keep_ckpts=1')


def _check_settings(plan: Plan) -> Iterator[str]:
    """A work dir goes on with the settings that it was started with."""
    if plan.checkpoint:
        return
    found, _ = plan.read_settings()
    if found is None and plan.training() == 'start':
        return
    if found != plan.settings:
        old, new = next(
            (pair for pair in zip((found or '').splitlines(),
                                  plan.settings.splitlines())
             if pair[0] != pair[1]), ('unknown', 'these'))
        yield (f'{plan.train_dir} holds a run with other settings '
               f'({old.strip()!r} there, {new.strip()!r} now): choose another '
               '--work-dir, or remove it')
