"""What the doctor can find, a code each: how bad it is, why it matters, and what `--fix` does about it.

Hundreds: 0 files, 1 ids and names, 2 boxes, 3 masks, 4 images, 5 the dataset as a whole, 6 what a model doubts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of finding.

    Args:
        severity: an error keeps `finetune` from starting; a warning is probably wrong; a note is odd.
        title: what is found.
        why: why it matters.
        fix: what `--fix` does; empty where a human has to.
    """

    severity: Severity
    title: str
    why: str
    fix: str = ""


_IDS_WHY = "whoever refers to it means nobody, or anybody"
_MASK_OR_GONE = "takes the box of the mask; without a mask the annotation is removed"

CODES: dict[str, Code] = {
    "VK001": Code(
        "error",
        "annotation file that cannot be read",
        "nothing in it is known",
        "of a file for one image: removes the image",
    ),
    "VK002": Code("error", "a list is missing or empty", "nothing can be learnt without images and categories"),
    "VK003": Code("error", "an item that is no object", "it says nothing", "removes it"),
    "VK004": Code("error", "an item that cannot be used", "training and evaluation refuse it"),
    "VK005": Code("error", "image without its annotation file", "nobody knows what is on it", "removes the image"),
    "VK006": Code("note", "image that no annotation file is of", "it is read as empty, or not at all: was one lost?"),
    "VK007": Code("warning", "annotation file of no image", "its objects are not learnt", "leaves it out"),
    "VK101": Code("error", "id missing", _IDS_WHY, "gives annotations a new one"),
    "VK102": Code(
        "error", "id twice", "evaluators keep one of them at random", "gives annotations a new one, removes twins"
    ),
    "VK103": Code("error", "id that is text", "tools compare ids as numbers and find nothing", "writes it as number"),
    "VK104": Code(
        "error",
        "annotation of an image that is not listed",
        "no picture belongs to it, and evaluators stop",
        "removes it",
    ),
    "VK105": Code("error", "annotation of a category that is not listed", "it is dropped in silence", "removes it"),
    "VK106": Code("error", "category name missing, taken or unprintable", "classes are told apart by name"),
    "VK107": Code("error", "categories differ between splits", "a class learnt as one is judged as another"),
    "VK108": Code("note", "category without objects", "it cannot be learnt, and counts in no mean"),
    "VK109": Code("warning", "two images of one file", "what one has is missing in the other: each denies half"),
    "VK110": Code("warning", "names that differ by case or blanks alone", "one class is learnt as two"),
    "VK201": Code("error", "box missing, or not four numbers", "there is no object without a place", _MASK_OR_GONE),
    "VK202": Code("error", "box not finite", "the loss becomes NaN", _MASK_OR_GONE),
    "VK203": Code("error", "box with negative sides", "no detection can overlap it", "swaps its corners"),
    "VK204": Code("error", "box without an area", "no detection can overlap it", _MASK_OR_GONE),
    "VK205": Code("error", "box outside of its image", "there is nothing to learn from", _MASK_OR_GONE),
    "VK206": Code("warning", "box reaches over the edge", "evaluation asks for what no detector can say", "clips it"),
    "VK207": Code(
        "error", "box in shares of the image", "read as pixels it is a speck in a corner", "turns it to pixels"
    ),
    "VK208": Code(
        "error", "corners in place of width and height", "the box reaches far beyond the object", "turns it to x y w h"
    ),
    "VK209": Code("warning", "box and mask disagree", "one of them is of something else", "takes the box of the mask"),
    "VK210": Code(
        "warning", "wrong area", "evaluation sorts objects by it into small, medium and large", "counts anew"
    ),
    "VK211": Code("note", "area missing", "pycocotools stops", "counts it"),
    "VK212": Code("note", "iscrowd missing", "pycocotools stops", "writes 0"),
    "VK213": Code(
        "warning", "object annotated twice", "one of them is always missed", "removes one of two that are equal"
    ),
    "VK214": Code("error", "area that is no number", "evaluators stop", "counts it"),
    "VK215": Code("error", "iscrowd, or difficult, neither 0 nor 1", "evaluators take it for a crowd", "writes 0 or 1"),
    "VK216": Code(
        "error",
        "pixels in place of shares of the image",
        "read as shares it lies far outside",
        "turns it to shares, where all boxes tell how it was written",
    ),
    "VK217": Code("error", "share of the image below 0 or above 1", "no part of an object lies there", "clips it"),
    "VK218": Code(
        "error",
        "line of a wrong number of values",
        "nobody knows which of them are the box",
        "drops a score behind a box, or behind polygons where all have one; removes any other",
    ),
    "VK219": Code("note", "VOC boxes that begin at pixel 0", "VOC counts from 1: all boxes may be a pixel off"),
    "VK220": Code("warning", "VOC box of one pixel's width or height", "by most tools' counting it is empty"),
    "VK221": Code(
        "error",
        "width and height in place of corners",
        "the box ends before it begins, or too soon",
        "turns it to corners",
    ),
    "VK301": Code("warning", "polygon of fewer than three points", "it encloses nothing", "removes the polygon"),
    "VK302": Code("warning", "polygon reaches over the edge", "no mask can", "clips it"),
    "VK303": Code(
        "error",
        "polygon that is no list of x, y pairs",
        "mask code crashes on it",
        "removes the polygon, nests a bare one",
    ),
    "VK304": Code("note", "polygon crosses itself", "its area is counted wrong"),
    "VK305": Code("error", "mask of another size than its image", "masks cannot be compared", "removes an RLE"),
    "VK306": Code(
        "error",
        "mask that cannot be read",
        "mask code crashes on it",
        "removes an RLE; with a mask file its image too",
    ),
    "VK307": Code("warning", "crowd with polygons", "crowds are regions, objects have outlines: is it one object?"),
    "VK308": Code("note", "empty polygon", "tools stumble on it", "removes it"),
    "VK309": Code(
        "error",
        "value in a mask that no class has",
        "there is nothing to learn there",
        "ignores it, where the mask has a value for that",
    ),
    "VK310": Code(
        "error",
        "mask with smooth edges",
        "between two classes lie values of none, and of a third",
        "ignores those of none, where the mask has a value for that",
    ),
    "VK311": Code("error", "mask in a format that changes values", "no pixel is sure to have the class it was given"),
    "VK312": Code("warning", "mask in which all is ignored", "nothing is learnt from it"),
    "VK313": Code(
        "error",
        "mask of another kind of pixels than its classes",
        "a mask has numbers of 8 bits, or the colours that classes.json names",
        "writes the numbers, where colours or 16 bits say them",
    ),
    "VK401": Code("error", "file_name missing", "there is no picture", "removes the image and its annotations"),
    "VK402": Code("error", "image file not there", "there is no picture", "removes the image and its annotations"),
    "VK403": Code(
        "error",
        "file_name leads out of the folder",
        "a dataset must not read other files",
        "removes the image likewise",
    ),
    "VK404": Code("error", "image cannot be read", "there is no picture", "removes the image and its annotations"),
    "VK405": Code(
        "error",
        "size is not the file's",
        "boxes are made for another picture",
        "writes the file's where all boxes fit it",
    ),
    "VK406": Code(
        "error",
        "made for the picture as stored, not upright",
        "EXIF turns the picture, not the boxes",
        "turns the boxes, or the mask",
    ),
    "VK407": Code("note", "size missing", "tools need it", "writes the file's"),
    "VK408": Code("error", "size that is no number of pixels", "tools need it", "writes the file's"),
    "VK409": Code("warning", "file twice in a split", "it counts double"),
    "VK410": Code("error", "file in two splits", "the score is of pictures that were learnt by heart"),
    "VK411": Code("note", "nearly the same picture in a split", "it counts double"),
    "VK412": Code("warning", "nearly the same picture in two splits", "the score is of pictures that were half known"),
    "VK501": Code("warning", "class with few objects", "it will hardly be learnt, and its score means little"),
    "VK502": Code("warning", "class without objects in a split", "it is not learnt, or not judged"),
    "VK503": Code("note", "unbalanced classes", "the rare ones come out worse"),
    "VK504": Code("note", "many objects are tiny", "below 8 px a detector sees little: larger --imgsz, or tiles"),
    "VK601": Code("warning", "a confident detection without a label", "a missing label teaches that there is nothing"),
    "VK602": Code("warning", "a label that the model sees nothing of", "a label too many teaches noise"),
    "VK603": Code("warning", "a label that the model calls otherwise", "a wrong class teaches two classes wrong"),
    "VK604": Code(
        "warning", "a label that the model places elsewhere", "a box beside its object teaches the wrong place"
    ),
}
