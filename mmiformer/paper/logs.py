"""What mmengine has logged in a work dir."""
import json
from pathlib import Path
from typing import Dict, List


def find_metrics(work_dir: Path) -> List[Path]:
    """The files that tests have written, ``<time>/<time>.json``, oldest
    first."""
    return sorted((file for file in Path(work_dir).glob('*/*.json')
                   if file.stem == file.parent.name),
                  key=lambda file: file.stat().st_mtime)


def last_metrics(work_dir: Path) -> Dict[str, float]:
    """The metrics of the latest test; none if there was none."""
    files = find_metrics(work_dir)
    return json.loads(files[-1].read_text().splitlines()[-1]) if files else {}


def read_scalars(work_dir: Path) -> List[Dict[str, float]]:
    """The records of a training and its validations, in the order of their
    steps; where a resumed run repeats a step, the later record."""
    records = {}
    for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            records[record['step'], 'loss' in record] = record
    return [records[key] for key in sorted(records)]


def to_points(name: str, value: float) -> float:
    """A logged metric in points (percent): mmdet logs those of COCO from 0 to
    1, mmseg and mmpretrain log percent."""
    return value * 100 if name.startswith('coco/') else value
