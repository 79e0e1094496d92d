"""What mmdet makes of a box and of a mask of COCO's format."""
import math
from typing import Optional

from . import kinds

SLACK = 1.  # pixels over the edge that rounding explains
MAX_COORDINATE = 1e6  # pycocotools walks along the outline pixel by pixel
GRAVEST_FIRST = (
    kinds.MASK_MALFORMED, kinds.MASK_NOT_FINITE, kinds.POLYGON_UNTESTABLE,
    kinds.POLYGON_SHORT, kinds.POLYGON_EMPTY, kinds.POLYGON_OUTSIDE,
    kinds.POLYGON_OVER_EDGE)


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_finite(value) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an int that no float holds
        return False


def find_box_fault(bbox: list, area: float, width: float, height: float
                   ) -> Optional[kinds.Kind]:
    """The kind of fault of a box (x, y, w, h) in an image, if any; w, h below
    1, no area and no overlap are what mmdet's ``parse_data_info`` skips."""
    if not all(map(is_finite, (*bbox, area))):
        return kinds.BOX_NOT_FINITE
    x, y, w, h = bbox
    if w < 1 or h < 1 or area <= 0:
        return kinds.BOX_EMPTY
    if min(x + w, width) <= max(x, 0) or min(y + h, height) <= max(y, 0):
        return kinds.BOX_OUTSIDE
    if min(x, y, width - x - w, height - y - h) < -SLACK:
        return kinds.BOX_OVER_EDGE
    return None


def find_mask_fault(mask: object, width: float, height: float,
                    tested: bool = False) -> Optional[kinds.Kind]:
    """The gravest fault of a ``segmentation``, if it has any.

    Args:
        mask: Polygons or RLE, or anything else.
        width: Of the image.
        height: Of the image.
        tested: Whether COCOeval reads it too, which drops nothing.
    """
    if mask is None or mask == [] or mask == {}:
        return kinds.MASK_NONE
    if isinstance(mask, dict):
        return _find_rle_fault(mask, width, height)
    if not isinstance(mask, list):
        return kinds.MASK_MALFORMED
    found = {_find_polygon_fault(polygon, width, height, tested)
             for polygon in mask}
    return next((kind for kind in GRAVEST_FIRST if kind in found), None)


def _find_polygon_fault(polygon: object, width: float, height: float,
                        tested: bool) -> Optional[kinds.Kind]:
    if not isinstance(polygon, list) or not all(map(is_number, polygon)):
        return kinds.MASK_MALFORMED
    if not all(is_finite(v) and abs(v) <= MAX_COORDINATE for v in polygon):
        return kinds.MASK_NOT_FINITE
    if tested and len(polygon) < 5:
        return kinds.POLYGON_UNTESTABLE
    if len(polygon) < 6 or len(polygon) % 2:
        return kinds.POLYGON_SHORT
    xs, ys = polygon[::2], polygon[1::2]
    twice_area = sum(x * v - u * y for x, y, u, v in zip(
        xs, ys, xs[1:] + xs[:1], ys[1:] + ys[:1]))
    if abs(twice_area) < 1e-6:  # rounding of points on a line
        return kinds.POLYGON_EMPTY
    if (max(xs) <= 0 or max(ys) <= 0 or min(xs) >= width or
            min(ys) >= height):
        return kinds.POLYGON_OUTSIDE
    if min(min(xs), min(ys), width - max(xs), height - max(ys)) < -SLACK:
        return kinds.POLYGON_OVER_EDGE
    return None


def _find_rle_fault(rle: dict, width: float, height: float
                    ) -> Optional[kinds.Kind]:
    counts, size = rle.get('counts'), rle.get('size')
    if size != [height, width]:
        return kinds.MASK_MALFORMED
    if isinstance(counts, str):
        return None if counts else kinds.POLYGON_EMPTY
    if not isinstance(counts, list) or not all(
            isinstance(n, int) and 0 <= n <= width * height for n in counts):
        return kinds.MASK_MALFORMED
    if sum(counts) != width * height:
        return kinds.MASK_MALFORMED
    return None if sum(counts[1::2]) else kinds.POLYGON_EMPTY
