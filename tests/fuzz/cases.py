"""Damaged and hostile files, made from good ones by a seed.

Run as a program in a process of its own, with little memory, it walks through
cases of one kind and prints what became of each:

    python tests/fuzz/cases.py KIND FIRST LAST FOLDER
"""
import io
import json
import resource
import struct
import sys
import time
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np

MEMORY = 1 << 30  # bytes over those that a process has after its imports
SECONDS = 20  # for one case
INTERESTING = (0, 1, 0x7f, 0x80, 0xff)
NUMBERS = (0, -1, 1, .5, 1e5, 1e9, -1e9, 1e308, 2**31, 2**63, 10**30,
           None, '', 'x', [], {}, True, [[]], [[1, 2]], float('nan'),
           float('inf'))


def mutate(data: bytes, rng) -> bytes:
    """A few flipped bits, changed lengths, cuts, splices."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        if not data:
            break
        at = int(rng.integers(len(data)))
        kind = rng.integers(6)
        if kind == 0:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            data[at] = INTERESTING[rng.integers(len(INTERESTING))]
        elif kind == 2:  # a length, of either order
            value = int(rng.choice([0, 2**31 - 1, 2**32 - 1, 2**16, 2**28]))
            data[at:at + 4] = struct.pack(
                '<I' if rng.integers(2) else '>I', value)
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            data[at:at] = data[:int(rng.integers(64))]
        else:
            end = at + int(rng.integers(64))
            data[at:end] = rng.bytes(end - at)
    return bytes(data)


def mutate_json(value, rng):
    """The same tree with one of its values another, or gone."""
    places = []

    def walk(node):
        items = (node.items() if isinstance(node, dict) else
                 enumerate(node) if isinstance(node, list) else ())
        for key, child in items:
            places.append((node, key))
            walk(child)

    walk(value)
    for _ in range(rng.integers(1, 4)):
        node, key = places[rng.integers(len(places))]
        if rng.integers(5) == 0 and isinstance(node, dict):
            node.pop(key, None)
        elif isinstance(node, dict) or key < len(node):
            node[key] = NUMBERS[rng.integers(len(NUMBERS))]
    return value


def resized_png(png: bytes, width: int, height: int) -> bytes:
    """The file with another size in its header, and the checksum for it."""
    header = b'IHDR' + struct.pack('>II', width, height) + png[24:29]
    return png[:12] + header + struct.pack(
        '>I', zlib.crc32(header)) + png[33:]


class Checkpoints:
    """Ours: the same weights, or a clear error."""
    allowed = (ValueError, )
    TINY = dict(embed_dims=(16, 32, 32, 48), depths=(1, 1, 1, 1),
                num_heads=(2, 4, 4, 6), attention_heads=(1, 2, 2, 5))

    def __init__(self, folder: Path):
        import torch

        from mmiformer import IFormer
        self.model = IFormer(self.TINY, pretrain_img_size=32)
        self.path = folder / 'case.pth'
        self.sources = []
        self.state = {key: value.clone() for key, value in
                      self.model.state_dict().items()}
        for zipped in (True, False):
            torch.save(dict(state_dict=self.state, meta=dict(iter=1)),
                       self.path, _use_new_zipfile_serialization=zipped)
            self.sources.append(self.path.read_bytes())

    def write(self, rng) -> None:
        kind = rng.integers(4)
        data = self.sources[kind % 2]
        # The old format has no checksums; whoever makes an archive with other
        # weights and their checksums has made a file of other weights.
        self.vouched = kind == 2
        if kind == 0:
            data = self.rezip(data, rng)
        else:
            # Most of a file is weights; what says how to read them is at
            # its ends.
            head = int(rng.choice([100, 20_000, len(data)]))
            if rng.integers(2):
                data = mutate(data[:head], rng) + data[head:]
            else:
                data = data[:-head] + mutate(data[-head:], rng)
        self.path.write_bytes(data)

    def rezip(self, data: bytes, rng) -> bytes:
        """An archive whose checksums are right, so that the pickle inside is
        what is judged."""
        old, out = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
        with zipfile.ZipFile(out, 'w') as new:
            for name in old.namelist():
                content = old.read(name)
                if name.endswith('data.pkl'):
                    content = mutate(content, rng)
                new.writestr(name, content)
        return out.getvalue()

    def open(self) -> str:
        import torch

        from mmiformer.backbone.hub import load_pretrained
        load_pretrained(self.model, str(self.path))
        same = all(torch.equal(value, self.state[key]) for key, value in
                   self.model.state_dict().items())
        assert same or not self.vouched, 'loaded something else'
        return 'same' if same else 'other values'


class Annotations:
    """mmdet's own loading behind our preflight."""
    allowed = (Exception, )  # mmdet's: it must not end the interpreter

    def __init__(self, folder: Path):
        import cv2
        from mmdet.utils import register_all_modules
        register_all_modules()
        self.folder, self.path = folder, folder / 'case.json'
        cv2.imwrite(str(folder / 'a.png'), np.zeros((32, 32, 3), np.uint8))
        box = dict(image_id=1, category_id=1, iscrowd=0, bbox=[4, 4, 9, 9],
                   area=81)
        self.source = json.dumps(dict(
            images=[dict(id=1, file_name='a.png', height=32, width=32)],
            categories=[dict(id=1, name='circle')], annotations=[
                dict(box, id=1, segmentation=[[4, 4, 13, 4, 13, 13.5]]),
                dict(box, id=2, segmentation=dict(
                    size=[32, 32], counts=[100, 50, 874])),
                dict(box, id=3, segmentation=dict(
                    size=[32, 32], counts='T3b01O10000000a0'))]))

    def write(self, rng) -> None:
        if rng.integers(4):
            text = json.dumps(mutate_json(json.loads(self.source), rng))
            self.path.write_text(text)
        else:
            self.path.write_bytes(mutate(self.source.encode(), rng))

    def open(self) -> str:
        from mmdet.datasets import CocoDataset

        from mmiformer.checks.annotations import find_annotation_faults
        if faults := find_annotation_faults(self.path, self.folder):
            return 'refused: ' + faults[0]
        data = CocoDataset(
            data_root=str(self.folder), ann_file=self.path.name,
            data_prefix=dict(img=''), metainfo=dict(classes=('circle', )),
            filter_cfg=None, pipeline=[
                dict(type='LoadImageFromFile'),
                dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
                dict(type='Resize', scale=(64, 64), keep_ratio=True),
                dict(type='PackDetInputs')])
        return f'{len([data[i] for i in range(len(data))])} images'


class Images:
    """The images of all three frameworks: mmcv's loader over OpenCV."""
    allowed = (Exception, )
    suffixes = ('.png', '.jpg')

    def __init__(self, folder: Path):
        import cv2
        import mmcv.transforms  # noqa: F401
        self.path, rng = folder / 'case', np.random.default_rng(0)
        image = rng.integers(0, 255, (24, 40, 3), np.uint8)
        self.sources = [cv2.imencode(suffix, image)[1].tobytes()
                        for suffix in self.suffixes]

    def write(self, rng) -> None:
        data = self.sources[rng.integers(len(self.sources))]
        if data[:4] == b'\x89PNG' and rng.integers(2):
            data = resized_png(data, *map(int, rng.choice(
                [0, 1, 40, 65535, 60_000, 30_000, 2**31 - 1], 2)))
        else:
            data = mutate(data, rng)
        self.path.write_bytes(data)

    def open(self) -> str:
        from mmcv.transforms import LoadImageFromFile
        return str(LoadImageFromFile()(dict(
            img_path=str(self.path)))['img'].shape)


class LabelMaps(Images):
    """mmseg's label maps, which Pillow opens."""
    suffixes = ('.png', )

    def __init__(self, folder: Path):
        super().__init__(folder)
        import cv2
        labels = np.random.default_rng(0).integers(0, 5, (24, 40), np.uint8)
        self.sources = [cv2.imencode('.png', labels)[1].tobytes()]

    def open(self) -> str:
        from mmseg.datasets.transforms import LoadAnnotations
        results = LoadAnnotations(reduce_zero_label=True)(dict(
            seg_map_path=str(self.path), reduce_zero_label=True,
            seg_fields=[], label_map=None))
        return str(results['gt_seg_map'].shape)


KINDS = {kind.__name__: kind for kind in (
    Checkpoints, Annotations, Images, LabelMaps)}


def used() -> int:
    """Bytes of this process's address space."""
    pages = int(Path('/proc/self/statm').read_text().split()[0])
    return pages * resource.getpagesize()


def main() -> None:
    kind, first, last, folder = sys.argv[1:]
    out, sys.stdout = sys.stdout, sys.stderr  # pycocotools and others talk
    warnings.filterwarnings('ignore')
    import logging
    logging.disable(logging.CRITICAL)
    from mmiformer.engine.guard import guard_files
    guard_files()
    loader = KINDS[kind](Path(folder))
    loader.write(np.random.default_rng(0))
    limit = used() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for seed in range(int(first), int(last)):
        loader.write(np.random.default_rng(seed))
        start = time.monotonic()
        try:
            said = loader.open()
        except loader.allowed as error:
            said = f'{type(error).__name__}: {error}'
        except BaseException as error:
            said = f'UNCLEAR {type(error).__name__}: {error}'
        seconds = time.monotonic() - start
        print(json.dumps([seed, round(seconds, 2), said[:300]]), file=out,
              flush=True)


if __name__ == '__main__':
    main()
