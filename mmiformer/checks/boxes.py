"""What mmdet makes of a box and of a mask of COCO's format."""
import math
from typing import Optional

from .report import Kind

BOX_NOT_FINITE = Kind(
    'boxes that are not finite', 'in training mmdet skips a box with NaN and '
    'stretches an infinite one to the border; in testing any detection is a '
    'hit on a NaN', True)
BOX_EMPTY = Kind(
    'boxes that are empty', 'less than 1 pixel wide or high, or of no area: '
    'mmdet skips them in training, COCOeval still expects them', False)
BOX_OUTSIDE = Kind(
    'boxes outside of their image', 'mmdet skips them in training, COCOeval '
    'still expects them', False)
BOX_OVER_EDGE = Kind(
    'boxes that reach out of their image', 'mmdet keeps them and clips them '
    'where it resizes', False)
MASK_NONE = Kind(
    'objects without a mask', 'mmdet stops with a KeyError', True)
MASK_MALFORMED = Kind(
    'masks that are neither polygons nor RLE of their image',
    'pycocotools stops', True)
MASK_NOT_FINITE = Kind(
    'polygons that are not finite', 'pycocotools may crash the process '
    'or ask for all memory', True)
POLYGON_SHORT = Kind(
    'polygons of less than 3 points, or of half a point', 'mmdet drops them; '
    'an object that has no other is ignored', False)
POLYGON_UNTESTABLE = Kind(
    'polygons of less than 5 numbers', 'pycocotools stops in testing: "input '
    'type is not supported"', True)
POLYGON_EMPTY = Kind(
    'polygons and masks that are empty', 'mmdet keeps the object with an '
    'empty mask and trains the mask head on it', False)
POLYGON_OUTSIDE = Kind(
    'polygons outside of their image', 'mmdet keeps the object with an empty '
    'mask and trains the mask head on it', False)
POLYGON_OVER_EDGE = Kind(
    'polygons that reach out of their image', 'what is outside is cut off',
    False)

SLACK = 1.  # pixels over the edge that rounding explains
LARGEST = 1e6  # pycocotools walks along the outline pixel by pixel


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_finite(value) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int that no float holds
        return False


def find_box_fault(bbox: list, area: float, width: float, height: float
                   ) -> Optional[Kind]:
    """The kind of fault of a box (x, y, w, h) in an image, if any; w, h below
    1, no area and no overlap are what mmdet's ``parse_data_info`` skips."""
    if not all(map(is_finite, (*bbox, area))):
        return BOX_NOT_FINITE
    x, y, w, h = bbox
    if w < 1 or h < 1 or area <= 0:
        return BOX_EMPTY
    if min(x + w, width) <= max(x, 0) or min(y + h, height) <= max(y, 0):
        return BOX_OUTSIDE
    if min(x, y, width - x - w, height - y - h) < -SLACK:
        return BOX_OVER_EDGE
    return None


def find_mask_fault(mask: object, width: float, height: float,
                    tested: bool = False) -> Optional[Kind]:
    """The gravest fault of a ``segmentation``, if it has any.

    Args:
        mask: Polygons or RLE, or anything else.
        width: Of the image.
        height: Of the image.
        tested: Whether COCOeval reads it too, which drops nothing.
    """
    if mask is None or mask == [] or mask == {}:
        return MASK_NONE
    if isinstance(mask, dict):
        return _find_rle_fault(mask, width, height)
    if not isinstance(mask, list):
        return MASK_MALFORMED
    kinds = {_find_polygon_fault(part, width, height) for part in mask}
    if tested and POLYGON_SHORT in kinds and any(
            isinstance(p, list) and len(p) < 5 for p in mask):
        kinds = kinds - {POLYGON_SHORT} | {POLYGON_UNTESTABLE}
    return next((kind for kind in (
        MASK_MALFORMED, MASK_NOT_FINITE, POLYGON_UNTESTABLE, POLYGON_SHORT,
        POLYGON_EMPTY, POLYGON_OUTSIDE, POLYGON_OVER_EDGE)
        if kind in kinds), None)


def _find_polygon_fault(polygon: object, width: float, height: float
                        ) -> Optional[Kind]:
    if not isinstance(polygon, list) or not all(map(is_number, polygon)):
        return MASK_MALFORMED
    if not all(is_finite(v) and abs(v) <= LARGEST for v in polygon):
        return MASK_NOT_FINITE
    if len(polygon) < 6 or len(polygon) % 2:
        return POLYGON_SHORT
    xs, ys = polygon[::2], polygon[1::2]
    if _twice_area(xs, ys) < 1e-6:  # rounding of points on a line
        return POLYGON_EMPTY
    if (max(xs) <= 0 or max(ys) <= 0 or min(xs) >= width or
            min(ys) >= height):
        return POLYGON_OUTSIDE
    if min(min(xs), min(ys), width - max(xs), height - max(ys)) < -SLACK:
        return POLYGON_OVER_EDGE
    return None


def _twice_area(xs: list, ys: list) -> float:
    return abs(sum(x * v - u * y for x, y, u, v in zip(
        xs, ys, xs[1:] + xs[:1], ys[1:] + ys[:1])))


def _find_rle_fault(rle: dict, width: float, height: float) -> Optional[Kind]:
    counts, size = rle.get('counts'), rle.get('size')
    if size != [height, width]:
        return MASK_MALFORMED
    if isinstance(counts, str):
        return None if counts else POLYGON_EMPTY
    if not isinstance(counts, list) or not all(
            isinstance(n, int) and 0 <= n <= width * height for n in counts):
        return MASK_MALFORMED
    if sum(counts) != width * height:
        return MASK_MALFORMED
    return None if sum(counts[1::2]) else POLYGON_EMPTY
