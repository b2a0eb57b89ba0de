"""The annotations of a COCO file, row by row: what is wrong with them, and what a repair makes of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from visionkit.diagnosis.coco_images import ImageFacts, Listed, as_whole_number
from visionkit.diagnosis.geometry import (
    Box,
    Segmentation,
    clipped,
    corners_read,
    crosses_itself,
    inside,
    mask_box,
    overlap,
    shares_read,
    upright_box,
    upright_points,
)
from visionkit.diagnosis.notebook import Notebook, Row
from visionkit.errors import DataError
from visionkit.formats.boxes import OVERHANG, SHORTEST_SIDE
from visionkit.formats.coco import as_box, is_number
from visionkit.formats.coco_segmentation import checked_segmentation, segmentation_area
from visionkit.formats.findings import shown

# Two ways to know where an object is differ by less: tools round boxes and simplify outlines.
AGREE_PIXELS, AGREE_SHARE = 3.0, 0.1
# A reading of four numbers is taken for the one that was meant where the mask overlaps it by so much.
MEANT = 0.8
# Areas are counted in pixels or along the outline, of the mask or of the box; these come as near.
AREA_SHARE, AREA_PIXELS = 0.2, 32.0
# An area that was taken from the box is as near, and in such a file so large a share of them is.
AREA_EXACT, SHARE_EXACT = 0.01, 0.8
# The share of its box that an object fills, as a rule: a cat, a car; not a pair of scissors.
USUAL_FILL = 0.35
# Where it takes all boxes to tell (no mask says what was meant), so many at least have to be there ...
FEWEST_BOXES = 8
# ... and so large a share of them must be out of their images as x y w h and inside them as corners.
SHARE_OUTSIDE, SHARE_INSIDE = 0.3, 0.98
# Two boxes of one class with a higher IoU are one object.
TWICE = 0.95


@dataclass(frozen=True, slots=True)
class FileHabit:
    """How a whole file writes its objects.

    Args:
        corners: boxes as x1 y1 x2 y2; `shares`: as shares of the image, `centred` those of the centre, width, height.
        box_areas: areas are those of the boxes. Those of COCO are of masks, also where the masks are not in the file.
    """

    corners: bool = False
    shares: bool = False
    centred: bool = False
    box_areas: bool = False


def habit_of(boxes: Iterable[tuple[Box, int, int]], areas: Iterable[tuple[float, Box]] = ()) -> FileHabit:
    """What all objects of a file together say about how they are written.

    Args:
        boxes: each with width and height of its image in pixels.
        areas: as written, each with its box.
    """
    equal = [abs(area - box[2] * box[3]) <= max(1.0, AREA_EXACT * area) for area, box in areas]
    box_areas = len(equal) >= FEWEST_BOXES and float(np.mean(equal)) >= SHARE_EXACT
    return replace(_box_habit(boxes), box_areas=box_areas)


def _box_habit(boxes: Iterable[tuple[Box, int, int]]) -> FileHabit:
    known = [(np.array(box), width, height) for box, width, height in boxes if width and height]
    if len(known) < FEWEST_BOXES:
        return FileHabit()
    values = np.array([box for box, _, _ in known])
    if ((values >= 0) & (values <= 1)).mean() > SHARE_INSIDE and values[:, 2:].max() <= 1:
        # Of x y w h no box may reach over 1; of a centre none may reach below 0.
        over = ((values[:, :2] + values[:, 2:]) > 1 + 1e-6).any(axis=1).mean()
        below = ((values[:, :2] - values[:, 2:] / 2) < -1e-6).any(axis=1).mean()
        return FileHabit(shares=True, centred=bool(over > below))
    readings = [(tuple(box.tolist()), width, height) for box, width, height in known]
    outside = np.mean([not inside(box, width, height) for box, width, height in readings])
    as_corners = np.mean([inside(corners_read(box), width, height) for box, width, height in readings])
    return FileHabit(corners=bool(outside >= SHARE_OUTSIDE and as_corners >= SHARE_INSIDE))


class AnnotationExaminer:
    """Looks at the annotations of one file, in its order."""

    def __init__(
        self, images: Listed, facts: dict[int, ImageFacts], categories: Listed, habit: FileHabit, book: Notebook
    ) -> None:
        self.images, self.facts, self.categories = images, facts, categories
        self.habit, self.book = habit, book

    def examine(self, rows: list[Row]) -> None:
        """Every row; those that a repair removes are marked."""
        self._examine_ids(rows)
        for row in rows:
            if not row.removed and self._examine_references(row):
                self._examine_shape(row)
        self._examine_twins(rows)

    # --- ids ---------------------------------------------------------------------------------------------------------

    def _examine_ids(self, rows: list[Row]) -> None:
        known = [as_whole_number(row.content.get("id")) for row in rows]
        fresh = max((number for number in known if number is not None), default=0) + 1
        first: dict[int, Row] = {}
        for row, number in zip(rows, known, strict=True):
            if row.removed:
                continue
            value = row.content.get("id")
            where = row.content.get("image_id")
            name = f"annotation {shown(value)}" if "id" in row.content else f"annotations[{row.index}]"
            row.call(name + ("" if where is None else f" of image {shown(where)}"))
            if number is None:
                fact = f"has annotation id {shown(value)}" if "id" in row.content else "has no id"
                self.book.find("VK101", row, fact, {"id": fresh})
                fresh += 1
                continue
            if type(value) is not int:
                self.book.find("VK103", row, f"has annotation id {shown(value)}", {"id": number})
            if number not in first:
                first[number] = row
            elif first[number].before == row.before:
                self.book.find("VK102", row, f"says the same as annotations[{first[number].index}]", remove=True)
            else:
                self.book.find("VK102", row, f"has annotation id {number} again", {"id": fresh})
                fresh += 1

    def _examine_references(self, row: Row) -> bool:
        """Whether the annotation is of an image and a category that are listed and stay."""
        for key, listed, code in (("image_id", self.images, "VK104"), ("category_id", self.categories, "VK105")):
            value = row.content.get(key)
            meant = as_whole_number(value)
            if meant is None or meant not in listed.rows:
                fact = f"has the unlisted {key} {shown(value)}" if key in row.content else f"has no {key}"
                self.book.find(code, row, fact, remove=True)
                return False
            if meant != value or type(value) is not int:
                self.book.find("VK103", row, f"has {key} {shown(value)}", {key: meant})
            if meant in listed.gone:
                # No finding of its own: the image's says that it goes with its annotations.
                self.book.follow(row, listed.rows[meant])
                return False
        return True

    # --- shape -------------------------------------------------------------------------------------------------------

    def _examine_shape(self, row: Row) -> None:
        fact = self.facts[row.content["image_id"]]
        segmentation = self._examine_mask(row, fact)
        box = self._examine_box(row, segmentation, fact)
        if box is not None and row.origin is None:  # other formats have neither, or not as COCO means it
            self._examine_area(row, box, segmentation)
            self._examine_crowd(row, segmentation)

    def _examine_mask(self, row: Row, fact: ImageFacts) -> Segmentation | None:
        """The sound part of the segmentation, as the repaired row has it."""
        value = row.content.get("segmentation")
        if value is None or value in ([], {}):
            return None
        if isinstance(value, dict):
            return self._examine_rle(row, value, fact)
        if isinstance(value, list) and len(value) >= 6 and len(value) % 2 == 0 and all(map(is_number, value)):
            self.book.find("VK303", row, "has a bare list of numbers for polygons", {"segmentation": [value]})
            value = [value]
        if not isinstance(value, list):
            self.book.find("VK303", row, f"has segmentation {shown(value)}", {"segmentation": []})
            return None
        polygons = []
        for polygon in value:
            kept = self._examine_polygon(row, polygon, fact)
            if kept is not None:
                polygons.append(kept)
        if polygons != value:
            row.content["segmentation"] = polygons
        if any(crosses_itself(polygon) for polygon in polygons):
            self.book.find("VK304", row, "has a polygon that crosses itself")
        return polygons or None

    def _examine_polygon(self, row: Row, polygon: Any, fact: ImageFacts) -> list[float] | None:
        """The polygon as it stays; None where it goes."""
        mended = {"segmentation": row.content["segmentation"]}  # written anew, with all polygons that stay
        try:
            checked_segmentation([polygon], fact.width, fact.height)
        except DataError:
            self.book.find("VK303", row, f"has the polygon {shown(polygon)}", mended)
            return None
        if not polygon:
            self.book.find("VK308", row, "has an empty polygon", mended)
            return None
        if len(polygon) < 6:
            self.book.find("VK301", row, f"has the polygon {shown(polygon)}", mended)
            return None
        if fact.turn is not None:
            points = upright_points(np.asarray(polygon, np.float64).reshape(-1, 2), *fact.turn)
            polygon = points.ravel().tolist()
            self.book.quietly(row, "VK406", mended)
        if not fact.width:
            return list(polygon)
        points = np.asarray(polygon, np.float64).reshape(-1, 2)
        limit = np.array([fact.width, fact.height])
        beyond = float(np.maximum(-points, points - limit).max())
        if beyond <= OVERHANG:
            return list(polygon)
        self.book.find("VK302", row, f"has a polygon that lies {beyond:.0f} px beyond the edge", mended)
        kept = np.clip(points, 0, limit)
        return kept.ravel().tolist() if (np.ptp(kept, axis=0) > 0).all() else None

    def _examine_rle(self, row: Row, value: dict[str, Any], fact: ImageFacts) -> Segmentation | None:
        size = [fact.height, fact.width]
        try:
            checked_segmentation(value, 0, 0)
        except DataError:
            self.book.find("VK306", row, f"has the RLE {shown(value)}", {"segmentation": []})
            return None
        if fact.width and value["size"] != size:
            self.book.find("VK305", row, f"has an RLE of {value['size']}, its image is {size}", {"segmentation": []})
            return None
        return value

    def _examine_box(self, row: Row, segmentation: Segmentation | None, fact: ImageFacts) -> Box | None:
        """The box as the repaired row has it; None where the row goes."""
        of_mask = mask_box(segmentation, fact.width, fact.height)
        value = row.content.get("bbox")
        box = as_box(value)
        said = f"has bbox {shown(value)}" if "bbox" in row.content else "has no bbox"
        if row.origin is not None:
            said = row.origin.said
        if box is None:
            finite = not (
                isinstance(value, list) and len(value) == 4 and all(isinstance(v, float | int) for v in value)
            )
            return self._from_mask_or_gone("VK201" if finite else "VK202", row, said, of_mask)
        if fact.turn is not None:
            box = upright_box(box, *fact.turn)
            self.book.quietly(row, "VK406", {"bbox": list(box)})
        if row.origin is None:  # the readers of other formats know what is meant
            meant = self._as_meant(row, box, said, of_mask, fact)
            if meant is None:
                return None
            box = meant
        if min(box[2:]) < SHORTEST_SIDE:
            return self._from_mask_or_gone("VK204", row, said, of_mask)
        if not fact.width:
            return box
        in_image = clipped(box, fact.width, fact.height)
        words = f"{said} in an image of {fact.width}x{fact.height}"
        if min(in_image[2:]) < SHORTEST_SIDE:
            return self._from_mask_or_gone("VK205", row, words, of_mask)
        if not inside(box, fact.width, fact.height, OVERHANG):
            self.book.find("VK206", row, words, {"bbox": list(in_image)})
            box = in_image
        if of_mask is not None and not row.content.get("iscrowd") and not _agree(in_image, of_mask):
            self.book.find("VK209", row, f"{said}, its mask lies in {_rounded(of_mask)}", {"bbox": list(of_mask)})
            box = of_mask
        return box

    def _as_meant(self, row: Row, box: Box, said: str, of_mask: Box | None, fact: ImageFacts) -> Box | None:
        """The box as x y w h in pixels, whatever it was written as."""
        if box[2] < 0 or box[3] < 0:
            as_corners = corners_read(box)
            if of_mask is not None and min(as_corners[2:]) > 0 and overlap(as_corners, of_mask) >= MEANT:
                self.book.find("VK208", row, said, {"bbox": list(as_corners)})
                return as_corners
            swapped = (min(box[0], box[0] + box[2]), min(box[1], box[1] + box[3]), abs(box[2]), abs(box[3]))
            self.book.find("VK203", row, said, {"bbox": list(swapped)})
            return swapped
        if fact.width and max(box) <= 1 and min(box) >= 0 and min(box[2:]) > 0:
            plain, centred = shares_read(box, fact.width, fact.height)
            if of_mask is not None:
                meant = max(plain, centred, key=lambda reading: overlap(reading, of_mask))
                if overlap(meant, of_mask) < MEANT:
                    meant = of_mask
            else:
                fits = inside(plain, fact.width, fact.height)
                meant = centred if self.habit.centred or not fits else plain
            self.book.find("VK207", row, f"{said} in an image of {fact.width}x{fact.height}", {"bbox": list(meant)})
            return meant
        as_corners = corners_read(box)
        if min(as_corners[2:]) > 0 and self._meant_as_corners(row, box, as_corners, of_mask, fact):
            self.book.find("VK208", row, said, {"bbox": list(as_corners)})
            return as_corners
        return box

    def _meant_as_corners(self, row: Row, box: Box, as_corners: Box, of_mask: Box | None, fact: ImageFacts) -> bool:
        if of_mask is not None:
            return overlap(as_corners, of_mask) >= MEANT > overlap(box, of_mask)
        if self.habit.corners:
            return True
        # Without a mask the area tells, which was written before the box was broken.
        area = row.content.get("area")
        if not is_number(area) or area <= 0:
            return False
        as_said, as_read = box[2] * box[3], as_corners[2] * as_corners[3]
        if self.habit.box_areas:
            return abs(as_read - area) <= AREA_EXACT * area and abs(as_said - area) > AREA_SHARE * area
        # Of a mask: it fills a usual share of the corners' box, and too little of one that leaves the image besides.
        beyond = (
            bool(fact.width)
            and not inside(box, fact.width, fact.height)
            and inside(as_corners, fact.width, fact.height)
        )
        return beyond and USUAL_FILL <= area / as_read <= 1 + AREA_EXACT and area / as_said < USUAL_FILL

    def _from_mask_or_gone(self, code: str, row: Row, said: str, of_mask: Box | None) -> Box | None:
        if of_mask is None:
            self.book.find(code, row, said, remove=True)
        else:
            self.book.find(code, row, said, {"bbox": list(of_mask)})
        return of_mask

    # --- the rest ----------------------------------------------------------------------------------------------------

    def _examine_area(self, row: Row, box: Box, segmentation: Segmentation | None) -> None:
        area = row.content.get("area")
        of_box = box[2] * box[3]
        real = segmentation_area(segmentation) if segmentation else of_box
        if area is None:
            self.book.find("VK211", row, "has no area", {"area": real})
        elif not is_number(area) or area < 0:
            self.book.find("VK214", row, f"has area {shown(area)}", {"area": real})
        elif "VK304" not in row.told and not self._may_be_area(float(area), real, of_box, segmentation is None):
            kind = "mask" if segmentation else "box"
            self.book.find("VK210", row, f"has area {area:g}, its {kind} has {real:.0f} px", {"area": real})

    def _may_be_area(self, area: float, real: float, of_box: float, of_unknown_mask: bool) -> bool:
        if any(abs(area - known) <= max(AREA_PIXELS, AREA_SHARE * known) for known in (real, of_box)):
            return True
        # Of a mask that is not in the file: anything that fits into the box.
        return of_unknown_mask and not self.habit.box_areas and 0 < area < of_box

    def _examine_crowd(self, row: Row, segmentation: Segmentation | None) -> None:
        crowd = row.content.get("iscrowd")
        if crowd is None:
            self.book.find("VK212", row, "has no iscrowd", {"iscrowd": 0})
        elif crowd not in (0, 1) or isinstance(crowd, bool):
            self.book.find("VK215", row, f"has iscrowd {shown(crowd)}", {"iscrowd": int(crowd is True)})
        elif crowd and isinstance(segmentation, list):
            self.book.find("VK307", row, "is a crowd with polygons")

    def _examine_twins(self, rows: list[Row]) -> None:
        """Objects of one class that lie on one another."""
        of_group: dict[tuple[int, int], list[Row]] = {}
        for row in rows:
            if row.removed or as_box(row.content.get("bbox")) is None or row.content.get("iscrowd"):
                continue
            group = of_group.setdefault((row.content["image_id"], row.content["category_id"]), [])
            box = as_box(row.content["bbox"])
            assert box is not None
            for other in group:
                known = as_box(other.content["bbox"])
                if known is not None and overlap(box, known) >= TWICE:
                    same = known == box and row.content.get("segmentation") == other.content.get("segmentation")
                    self.book.find("VK213", row, f"lies on {other.name}", remove=same)
                    break
            else:
                group.append(row)


def _agree(a: Box, b: Box) -> bool:
    """Whether all four edges lie near each other."""
    near_x, near_y = (max(AGREE_PIXELS, AGREE_SHARE * max(a[i], b[i])) for i in (2, 3))
    edges = zip((a[0], a[0] + a[2], a[1], a[1] + a[3]), (b[0], b[0] + b[2], b[1], b[1] + b[3]), strict=True)
    return all(abs(p - q) <= near for (p, q), near in zip(edges, (near_x, near_x, near_y, near_y), strict=True))


def _rounded(box: Box) -> list[float]:
    return [round(value, 1) for value in box]
