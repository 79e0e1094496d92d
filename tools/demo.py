"""The demo: both heads trained and tested on the embedded shapes, then drawn.

    tools/demo.py work_dirs/demo

It calls tools/train.py and tools/test.py as a person would. A second call
finds the finished runs and only tests and draws.
"""
import argparse
import json
import pickle
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mmiformer.analysis import pictures
from mmiformer.config import load_config

TOOLS = Path(__file__).parent
CONFIGS = TOOLS.parent / 'configs'
FPN = CONFIGS / 'fpn_ade20k' / 'iformer_s_shapes.py'
MASK_RCNN = CONFIGS / 'mask_rcnn' / 'iformer_s_shapes.py'
SHOWN = 8  # pictures in a grid
SCORE = 0.5  # least score of a drawn instance
PROGRESS = re.compile(r'((Iter|Epoch)\((train|val|test)\)|\w+: loaded) .*')


def say(text: str) -> None:
    print(f'\n[demo] {text}', flush=True)


def tool(name: str, *arguments) -> None:
    """Runs a tool; of its output only the progress is shown."""
    command = ['tools/' + name, *map(str, arguments)]
    print('  ' + ' '.join(command), flush=True)
    lines = []
    with subprocess.Popen(
            [sys.executable, str(TOOLS / name), *command[1:]], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        for line in process.stdout:
            lines.append(line)
            if progress := PROGRESS.search(line):
                print('  ' + progress[0].rstrip()[:170], flush=True)
    if process.returncode:
        print(*lines[-30:], sep='')
        sys.exit(f'[demo] tools/{name} failed, see above; mend that and run '
                 'the same command again: it goes on where it stopped')


def last_checkpoint(work_dir: Path) -> Path:
    return Path((work_dir / 'last_checkpoint').read_text().strip())


def last_metrics(work_dir: Path) -> dict:
    """What the latest tools/test.py wrote into a work dir."""
    files = [file for file in work_dir.glob('*/*.json')
             if file.stem == file.parent.name]
    newest = max(files, key=lambda file: file.stat().st_mtime)
    return json.loads(newest.read_text().splitlines()[-1])


def read_rgb(path: Path) -> np.ndarray:
    return cv2.imread(str(path))[:, :, ::-1]


def segment_rows(cfg, predictions: Path) -> list:
    """[image, truth, prediction] of the first held-out images."""
    dataset = cfg.test_dataloader.dataset
    root, prefix = Path(dataset.data_root), dataset.data_prefix
    rows = []
    for file in sorted(predictions.glob('*.png'))[:SHOWN]:
        image = read_rgb((root / prefix.img_path / file.name)
                         .with_suffix(dataset.img_suffix))
        truth, prediction = (
            cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(int) - 1
            for path in (root / prefix.seg_map_path / file.name, file))
        rows.append([image, truth, prediction])
    return rows


def instance_rows(cfg, predictions: Path) -> list:
    """[image, truth, prediction] of the first held-out images."""
    dataset = cfg.test_dataloader.dataset
    root = Path(dataset.data_root)
    coco = COCO(root / dataset.ann_file)
    rows = []
    for result in pickle.loads(predictions.read_bytes())[:SHOWN]:
        truth = []
        for annotation in coco.loadAnns(
                coco.getAnnIds(imgIds=result['img_id'])):
            x, y, width, height = annotation['bbox']
            truth.append(dict(
                mask=coco.annToMask(annotation).astype(bool),
                box=(x, y, x + width, y + height),
                label=annotation['category_id'] - 1))
        found = result['pred_instances']
        prediction = [
            dict(mask=coco_mask.decode(mask).astype(bool), box=box.tolist(),
                 label=int(label), score=float(score))
            for mask, box, label, score in zip(
                found['masks'], found['bboxes'], found['labels'],
                found['scores']) if score >= SCORE]
        rows.append([read_rgb(result['img_path']), truth, prediction])
    return rows


def draw(folder: Path, fpn_dir: Path, mask_dir: Path) -> dict:
    """Writes the pictures and metrics.json; returns the metrics."""
    fpn_cfg, mask_cfg = load_config(FPN), load_config(MASK_RCNN)
    segments, boxes = last_metrics(fpn_dir), last_metrics(mask_dir)
    metrics = dict(
        mIoU=segments['mIoU'] / 100,
        bbox_AP50=boxes['coco/bbox_mAP_50'],
        segm_AP50=boxes['coco/segm_mAP_50'])
    (folder / 'metrics.json').write_text(json.dumps(metrics, indent=2) + '\n')
    info = fpn_cfg.metainfo
    pictures.draw_pairs(
        folder / 'semantic_fpn.png',
        f'Semantic FPN, iFormer-S: mIoU {metrics["mIoU"]:.3f} on held-out '
        'shapes', segment_rows(fpn_cfg, fpn_dir / 'predictions'),
        partial(pictures.draw_segments, palette=info.palette),
        info.classes[1:], info.palette[1:])
    info = mask_cfg.metainfo
    pictures.draw_pairs(
        folder / 'mask_rcnn.png',
        f'Mask R-CNN, iFormer-S: box AP50 {metrics["bbox_AP50"]:.3f}, mask '
        f'AP50 {metrics["segm_AP50"]:.3f} on held-out shapes',
        instance_rows(mask_cfg, mask_dir / 'predictions.pkl'),
        partial(pictures.draw_instances, palette=info.palette),
        info.classes, info.palette)
    pictures.draw_curves(folder / 'curves.png', {
        'Semantic FPN': (fpn_dir, {'mIoU': 'mIoU'}),
        'Mask R-CNN': (mask_dir, {'coco/bbox_mAP_50': 'box AP50',
                                  'coco/segm_mAP_50': 'mask AP50'})})
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', nargs='?', type=Path,
                        default=Path('work_dirs/demo'))
    folder = parser.parse_args().folder
    start = time.time()
    fpn_dir, mask_dir = folder / 'semantic_fpn', folder / 'mask_rcnn'

    say('1/5 training Semantic FPN from random weights, about 5 minutes on 2 '
        'cores')
    tool('train.py', FPN, '--work-dir', fpn_dir, '--resume')
    say('2/5 testing it on held-out images, some seconds')
    tool('test.py', FPN, last_checkpoint(fpn_dir), '--work-dir', fpn_dir,
         '--out', fpn_dir / 'predictions')
    say('3/5 training Mask R-CNN from that backbone, about 3 minutes')
    tool('train.py', MASK_RCNN, '--work-dir', mask_dir, '--resume',
         '--cfg-options', 'model.backbone.init_cfg.checkpoint='
         f'{last_checkpoint(fpn_dir)}')
    say('4/5 testing it on held-out images, some seconds')
    tool('test.py', MASK_RCNN, last_checkpoint(mask_dir), '--work-dir',
         mask_dir, '--out', mask_dir / 'predictions.pkl')

    say('5/5 drawing')
    metrics = draw(folder, fpn_dir, mask_dir)
    minutes, seconds = divmod(int(time.time() - start), 60)
    say(f'done in {minutes}:{seconds:02d} minutes: ' +
        ', '.join(f'{name} {value:.3f}' for name, value in metrics.items()))
    for name in ('semantic_fpn.png', 'mask_rcnn.png', 'curves.png',
                 'metrics.json'):
        print(f'  {folder / name}')


if __name__ == '__main__':
    main()
