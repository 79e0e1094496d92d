"""The demo: trains and tests both heads on synthetic shapes, then draws.

    demo/run.py [work_dirs/demo]

It calls tools/train.py and tools/test.py as a person would. A second call
finds the finished runs and only tests and draws.
"""
import json
import pickle
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import cv2
import drawing
import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from shapes import CLASSES, PALETTE, make_shapes

from mmiformer.paper.logs import last_metrics

ROOT = Path(__file__).parents[1]
FPN = ROOT / 'configs' / 'fpn_ade20k' / 'iformer_s_shapes.py'
MASK_RCNN = ROOT / 'configs' / 'mask_rcnn' / 'iformer_s_shapes.py'
DATA = Path('data', 'shapes')  # where both configs have it
SHOWN = 8  # pictures in a grid
MIN_SCORE = 0.5  # of a drawn instance
PROGRESS = re.compile(r'((Iter|Epoch)\((train|val|test)\)|\w+: loaded) .*')


def say(text: str) -> None:
    print(f'\n[demo] {text}', flush=True)


def run_tool(name: str, *arguments) -> None:
    """Runs a tool; of its output only the progress is shown."""
    command = ['tools/' + name, *map(str, arguments)]
    print('  ' + ' '.join(command), flush=True)
    lines = []
    with subprocess.Popen(
            [sys.executable, str(ROOT / command[0]), *command[1:]], text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        for line in process.stdout:
            lines.append(line)
            if progress := PROGRESS.search(line):
                print('  ' + progress[0].rstrip()[:170], flush=True)
    if process.returncode:
        print(*lines[-30:], sep='')
        sys.exit(f'[demo] tools/{name} failed, see above; run the same '
                 'command again to resume')


def find_checkpoint(work_dir: Path) -> Path:
    return Path((work_dir / 'last_checkpoint').read_text().strip())


def read_rgb(path: Path) -> np.ndarray:
    return cv2.imread(str(path))[:, :, ::-1]


def segment_rows(predictions: Path) -> list:
    """[image, truth, prediction] of the first held-out images."""
    rows = []
    for file in sorted(predictions.glob('*.png'))[:SHOWN]:
        image = DATA / 'images' / 'validation' / f'{file.stem}.jpg'
        labels = DATA / 'annotations' / 'validation' / file.name
        rows.append([read_rgb(image)] + [
            cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(int) - 1
            for path in (labels, file)])
    return rows


def instance_rows(predictions: Path) -> list:
    """[image, truth, prediction] of the first held-out images."""
    coco = COCO(DATA / 'annotations' / 'instances_validation.json')
    rows = []
    for result in pickle.loads(predictions.read_bytes())[:SHOWN]:
        truth = []
        for annotation in coco.imgToAnns[result['img_id']]:
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
                found['scores']) if score >= MIN_SCORE]
        rows.append([read_rgb(result['img_path']), truth, prediction])
    return rows


def draw(folder: Path, fpn_dir: Path, mask_dir: Path) -> dict:
    """Writes the pictures and metrics.json; returns the metrics."""
    segments, boxes = last_metrics(fpn_dir), last_metrics(mask_dir)
    metrics = dict(
        mIoU=segments['mIoU'] / 100,
        bbox_AP50=boxes['coco/bbox_mAP_50'],
        segm_AP50=boxes['coco/segm_mAP_50'])
    (folder / 'metrics.json').write_text(json.dumps(metrics, indent=2) + '\n')
    drawing.draw_pairs(
        folder / 'semantic_fpn.png',
        f'Semantic FPN, iFormer-S: mIoU {metrics["mIoU"]:.3f} on held-out '
        'shapes', segment_rows(fpn_dir / 'predictions'),
        # 0 is the background, which is not painted.
        partial(drawing.draw_segments, palette=((0, 0, 0), *PALETTE)),
        CLASSES, PALETTE)
    drawing.draw_pairs(
        folder / 'mask_rcnn.png',
        f'Mask R-CNN, iFormer-S: box AP50 {metrics["bbox_AP50"]:.3f}, mask '
        f'AP50 {metrics["segm_AP50"]:.3f} on held-out shapes',
        instance_rows(mask_dir / 'predictions.pkl'),
        partial(drawing.draw_instances, palette=PALETTE), CLASSES, PALETTE)
    drawing.draw_curves(folder / 'curves.png', {
        'Semantic FPN': (fpn_dir, {'mIoU': 'mIoU'}),
        'Mask R-CNN': (mask_dir, {'coco/bbox_mAP_50': 'box AP50',
                                  'coco/segm_mAP_50': 'mask AP50'})})
    return metrics


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else 'work_dirs/demo')
    start = time.time()
    fpn_dir, mask_dir = folder / 'semantic_fpn', folder / 'mask_rcnn'
    make_shapes(DATA)

    say('1/5 training Semantic FPN from random weights, about 5 minutes on 2 '
        'cores')
    run_tool('train.py', FPN, '--work-dir', fpn_dir, '--resume')
    say('2/5 testing it on held-out images, some seconds')
    run_tool('test.py', FPN, find_checkpoint(fpn_dir), '--work-dir', fpn_dir,
             '--out', fpn_dir / 'predictions')
    say('3/5 training Mask R-CNN from that backbone, about 3 minutes')
    run_tool('train.py', MASK_RCNN, '--work-dir', mask_dir, '--resume',
             '--cfg-options', 'model.backbone.init_cfg.checkpoint='
             f'{find_checkpoint(fpn_dir)}')
    say('4/5 testing it on held-out images, some seconds')
    run_tool('test.py', MASK_RCNN, find_checkpoint(mask_dir), '--work-dir',
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
