"""Names for the predictions of images in several folders."""
import os
from collections import Counter
from functools import partial
from pathlib import PurePath
from typing import Any, Callable, Dict, List

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class UniqueNamesHook(Hook):
    """Keeps drawings and label maps from overwriting each other.

    mmdet, mmseg and mmpretrain name them by the image without its folder. Of
    images with the same name the folders become part of it.
    """

    def before_test(self, runner) -> None:
        dataset = runner.test_dataloader.dataset
        names = unique_names([
            path for i in range(len(dataset))
            if (path := dataset.get_data_info(i).get('img_path'))])
        if not names:
            return
        visualizer = runner.visualizer
        for method in ('add_datasample', 'visualize_cls'):
            if hasattr(visualizer, method):
                setattr(visualizer, method, partial(
                    _draw, getattr(visualizer, method), names))
        for metric in runner.test_evaluator.metrics:
            if getattr(metric, 'output_dir', None):
                metric.process = partial(_process, metric.process, names)


def unique_names(paths: List[str]) -> Dict[str, str]:
    """Names without a suffix for those images whose own are not unique.

    Args:
        paths: Of images; repeated ones are one image.

    Returns:
        By path, the folders below those that all have in common, and the
        name: ``day_0001``.
    """
    paths = list(dict.fromkeys(paths))
    count = Counter(PurePath(path).stem for path in paths)
    taken = {stem for stem, number in count.items() if number == 1}
    clashing = [path for path in paths if count[PurePath(path).stem] > 1]
    names: Dict[str, str] = {}
    if not clashing:
        return names
    root = os.path.commonpath([
        os.path.dirname(os.path.abspath(path)) for path in clashing])
    for path in clashing:
        part = PurePath(os.path.relpath(path, root))
        name = '_'.join(part.with_suffix('').parts)
        if name in taken:
            name += part.suffix.replace('.', '_')
        while name in taken:
            name += '_'
        taken.add(name)
        names[path] = name
    return names


def _renamed(path: str, names: Dict[str, str]) -> str:
    """The same path with a unique name, which need not exist."""
    if path not in names:
        return path
    return os.path.join(os.path.dirname(path),
                        names[path] + PurePath(path).suffix)


def _draw(draw: Callable, names: Dict[str, str], *args: Any,
          data_sample: Any, **options: Any) -> Any:
    """A visualizer's method; the image's name is in the file's or in the
    window's, which may have something before and after it."""
    path = data_sample.get('img_path') or ''
    old = os.path.basename(path)
    new = os.path.basename(_renamed(path, names))
    if options.get('out_file'):
        folder, file = os.path.split(options['out_file'])
        options['out_file'] = os.path.join(folder, file.replace(old, new))
    if args:
        args = (args[0].replace(old, new), *args[1:])
    return draw(*args, data_sample=data_sample, **options)


def _process(process: Callable, names: Dict[str, str], data_batch: Any,
             data_samples: List[dict]) -> None:
    """A metric's method, which takes nothing but the name from the path."""
    process(data_batch, [
        dict(sample, img_path=_renamed(sample['img_path'], names))
        for sample in data_samples])
