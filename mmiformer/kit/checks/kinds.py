"""Every kind of fault, what it does to a run, and the report of them.

The effects were read in the code of mmdet 3.3, mmseg 1.2, mmpretrain 1.2 and
pycocotools 2.0.
"""
from typing import Dict, List, NamedTuple

MAX_SHOWN = 5  # names of a kind that are printed


class Kind(NamedTuple):
    """A way in which data or settings can be wrong.

    ``effect`` says what the framework does with it, ``error`` whether that
    stops or spoils a training, ``stops`` whether a run fails for certain
    within its first minutes.
    """
    title: str
    effect: str
    error: bool
    stops: bool = False


def _stop(title: str, effect: str) -> Kind:
    return Kind(title, effect, error=True, stops=True)


def _error(title: str, effect: str) -> Kind:
    return Kind(title, effect, error=True)


def _note(title: str, effect: str) -> Kind:
    return Kind(title, effect, error=False)


# What a run opens first.
FILE_MISSING = _stop('missing files and folders',
                     'the run stops where it opens them')
WEIGHTS_MISSING = _stop('weights that cannot be fetched',
                        'the run stops where it loads them')
UNREADABLE = _stop('annotation files that are no JSON', 'mmdet stops')

# Data sets.
UNBUILT = _error('data sets that cannot be built',
                 'the run stops before it starts')
UNCHECKED = _note(
    'data that is not checked', "only mmdet's CocoDataset, mmseg's "
    "BaseSegDataset, mmpretrain's CustomDataset and ImageNet, and subclasses "
    'that read as they do, on local disks')
EMPTY = _error('data sets without an image', 'there is nothing to read')
EMPTY_CLASS = _note('classes without an example', 'they are not learned; '
                    'testing skips them in the mean or counts NaN')
UNUSED = _error(
    'classes or data sets of which nothing is used', 'every example is lost '
    'to the filter that is named; the losses can be exactly 0')
MOSTLY_LOST = _note('data sets of which most is not used',
                    'a filter drops it; the format may be another')

# Images.
IMAGE_MISSING = _error('images that are missing',
                       'the loader stops at the first')
IMAGE_UNREADABLE = _error('files that are no image',
                          'the loader stops at the first')
IMAGE_TRUNCATED = _error(
    'images that are truncated or damaged', 'OpenCV 5 refuses them and the '
    'loader stops; OpenCV 4 fills the rest with grey and says nothing')
IMAGE_SKIPPED = _note('images that the loader skips', 'ignore_empty: training '
                      'takes another image, testing stops')
IMAGE_TURNED = _note(
    'images that EXIF turns, of a size that does not show it', 'the loader '
    'turns or mirrors them; right only if they were annotated as a viewer '
    "shows them, else set color_type='color_ignore_orientation'")

# COCO: the file and its entries.
MALFORMED = _error('entries without what mmdet needs',
                   'mmdet stops with a KeyError or TypeError')
SAME_ID = _error(
    'ids that are given twice', 'mmdet refuses two annotations of an id; of '
    'two images or categories it takes the last for both')
SHIFTED = _error(
    "categories that are not the model's classes", 'mmdet numbers them in '
    'the order of the file: objects silently get the label of another class')
UNTESTABLE = _error('classes that are no category', 'testing stops with an '
                    'IndexError once the model predicts them')
UNTRAINED = _note('classes that are no category',
                  'mmdet trains without an example')
OTHER = _note('categories that are no class of the config',
              'mmdet skips their annotations')
NO_CATEGORY = _note('annotations whose category_id no category has',
                    'mmdet skips them')
NO_IMAGE = _note('annotations whose image_id no image has',
                 'mmdet never reads them')
NO_CROWD = _error('annotations without iscrowd',
                  'COCOeval stops with a KeyError')
WRONG_SIZE = _error('images of another size than annotated',
                    'mmdet lays boxes and masks over them as if they fitted')
FILTERED = _note('images without an annotation',
                 'mmdet skips them in training (filter_empty_gt)')
BACKGROUND = _note('images without an annotation',
                   'mmdet takes them as background')
TOO_SMALL = _note('images below min_size',
                  'mmdet skips them in training (filter_cfg)')

# COCO: boxes and masks.
BOX_NOT_FINITE = _error(
    'boxes that are not finite', 'in training mmdet skips a box with NaN and '
    'stretches an infinite one to the border; in testing any detection is a '
    'hit on a NaN')
BOX_EMPTY = _note(
    'boxes that are empty', 'less than 1 pixel wide or high, or of no area: '
    'mmdet skips them in training, COCOeval still expects them')
BOX_OUTSIDE = _note('boxes outside of their image', 'mmdet skips them in '
                    'training, COCOeval still expects them')
BOX_OVER_EDGE = _note('boxes that reach out of their image',
                      'mmdet keeps them and clips them where it resizes')
MASK_NONE = _error('objects without a mask', 'mmdet stops with a KeyError')
MASK_MALFORMED = _error(
    'masks that are neither polygons nor RLE of their image',
    'pycocotools stops')
MASK_NOT_FINITE = _error('polygons that are not finite', 'pycocotools may '
                         'crash the process or ask for all memory')
POLYGON_UNTESTABLE = _error(
    'polygons of less than 5 numbers', 'pycocotools stops in testing: "input '
    'type is not supported"')
POLYGON_SHORT = _note(
    'polygons of less than 3 points, or of half a point', 'mmdet drops them; '
    'an object that has no other is ignored')
POLYGON_EMPTY = _note(
    'polygons and masks that are empty', 'mmdet keeps the object with an '
    'empty mask and trains the mask head on it')
POLYGON_OUTSIDE = _note(
    'polygons outside of their image', 'mmdet keeps the object with an empty '
    'mask and trains the mask head on it')
POLYGON_OVER_EDGE = _note('polygons that reach out of their image',
                          'what is outside is cut off')

# Label maps.
MAP_MISSING = _error('label maps that are missing',
                     'the loader stops at the first')
MAP_UNREADABLE = _error('label maps that are damaged or no image',
                        'the loader stops at the first')
MAP_CHANNELS = _error('label maps of several channels', 'mmseg takes one '
                      'index a pixel; colours make the loss stop')
MAP_WRAPPED = _error('label maps with values that need more than 8 bits',
                     'mmseg silently keeps the low 8 bits: another label')
MAP_SIZE = _error(
    'label maps of another size than their image', 'mmseg stops where it crops '
    'or packs them, or lays them over the image as if they fitted')
LABEL_BEYOND = _error('labels beyond num_classes', 'the loss stops, on a GPU '
                      'with a device-side assert')
MAP_IGNORED = _note('label maps of ignored pixels alone',
                    'mmseg silently learns nothing from them')
REDUCED_ONCE = _error(
    'reduce_zero_label of the pipeline unlike that of the data set',
    'mmseg stops with an AssertionError in a worker')
MAP_SPARE = _note('label maps without an image', 'mmseg never reads them')
IMAGE_SPARE = _note('images of another suffix than img_suffix',
                    'mmseg never reads them')

# Folders and lists of classification.
LIST_UNREADABLE = _error('lists of images that cannot be read',
                         'mmpretrain stops')
LINE_MALFORMED = _error('lines of a list without a file and a label',
                        'mmpretrain stops with a ValueError')
FOLDER_COUNT = _error("folders that are not the model's classes",
                      'mmpretrain asks for a folder per class and stops')
FOLDER_ORDER = _error(
    "folders in another order than the model's classes", 'mmpretrain labels '
    'folders in alphabetical order: classes get the names of others')
SPARE = _note(
    'files that are no image by their suffix, or lie in no class folder',
    'mmpretrain never reads them')

# Settings that have to agree.
LEFT_OVER = _error(
    'settings that their type does not take', 'the run stops with a '
    'TypeError; left over from a base config? Then write _delete_=True')
NO_WORKERS = _error('settings of workers with num_workers=0',
                    'the data loader stops with a ValueError')
ENDLESS_EPOCH = _error('samplers without an end in a loop of epochs',
                       'the first epoch never ends')
RESTARTED = _note('samplers of epochs in a loop of iterations',
                  'the data loader, and its workers, start again after each '
                  'pass; InfiniteSampler does not')
SCHEDULE_EMPTY = _error('schedules that end before they begin',
                        'mmengine stops with a ValueError')
SCHEDULE_STILL = _error(
    'schedules by epoch in a loop of iterations', 'mmengine takes all '
    'iterations for one epoch: the value never changes')
SCHEDULE_SHORT = _note('schedules that end before the training',
                       'the rest is trained at the last learning rate')
SCHEDULE_LONG = _note('schedules that end after the training', 'the learning '
                      'rate does not get to its end')
SCHEDULE_STEPS = _error('schedules of fewer steps than the training has',
                        'mmengine stops with a ValueError at the next step')
COSINE = _note('T_max unlike the length of its cosine', 'the learning rate '
               'turns around before the end, or does not get there')
UNBATCHABLE = _error(
    'images of several shapes in a batch that is not padded', 'the first '
    'such batch stops; resize or crop to one size, or batch_size=1')
PADDED_TO = _error(
    'a SegDataPreProcessor with neither or both of size and size_divisor',
    'mmseg stops in the first iteration with an AssertionError')
OTHER_ANNOTATIONS = _error(
    "annotation files of the evaluator that are not the data set's",
    'the score compares images with the objects of others')
ONE_CLASS = _error(
    'one class under a softmax', 'its probability is always 1: loss and '
    'gradient are exactly 0; use_sigmoid=True, or a class of background')
MIXED = _error('num_classes of mixed labels unlike that of the head',
               'the loss stops, as their shapes differ')
TOP_K = _error('topk beyond the number of classes',
               'testing stops: "selected index k out of range"')
TOO_FEW = _error('num_classes below the number of classes',
                 'labels beyond it stop the loss')
ONE_OUTPUT = _note('num_classes=1 with several classes', 'right if the head '
                   'is class-agnostic; else labels beyond it stop the loss')
SPARE_OUTPUTS = _note(
    'num_classes above the number of classes', 'the outputs that are too many '
    'are never trained; mmdet stops in testing if it predicts one')
UNLIKE = _error('splits that number their classes differently', 'the labels '
                'of training silently mean other classes in testing')
OVERLAP = _note('files of training that are also in testing',
                'nothing stops; the score is measured on what was trained on')


class Report:
    """Every fault by its kind, and what has been read."""

    def __init__(self) -> None:
        self.faults: Dict[Kind, List[str]] = {}
        self.read: List[str] = []

    def count(self, error: bool) -> int:
        """How many faults are errors, or notes."""
        return sum(len(names) for kind, names in self.faults.items()
                   if kind.error == error)

    @property
    def errors(self) -> int:
        return self.count(error=True)

    def as_dict(self) -> dict:
        """All of it in plain values, with every name."""
        return dict(
            errors=self.errors, notes=self.count(error=False), read=self.read,
            faults=[dict(kind._asdict(), count=len(names),
                         names=list(map(_printable, names)))
                    for kind, names in self._sorted()])

    def __str__(self) -> str:
        lines = []
        for kind, names in self._sorted():
            lines.append(f'{"error" if kind.error else "note"}: {kind.title}: '
                         f'{len(names)} ({kind.effect})')
            lines += [f'    {_printable(name)}' for name in names[:MAX_SHOWN]]
            if len(names) > MAX_SHOWN:
                lines.append(f'    ... and {len(names) - MAX_SHOWN} more')
        lines += [f'read: {line}' for line in self.read]
        lines.append(f'{self.errors} errors, {self.count(error=False)} notes')
        return '\n'.join(lines)

    def _sorted(self) -> list:
        return sorted(self.faults.items(),
                      key=lambda item: (not item[0].stops, not item[0].error))


def _printable(text: str) -> str:
    """Names out of a damaged file must neither steer a terminal nor fail to
    be written to one."""
    return ''.join(c if c.isprintable() else
                   c.encode('unicode_escape').decode() for c in text)
