"""The least that finds objects in a picture: cv2 reads it, onnxruntime runs the graph, the boxes are printed as JSON.

    python tools/bench/bare_detect.py GRAPH.onnx PICTURE [THREADS]

It checks nothing, knows no class and draws nothing: what `visionkit detect --json` takes longer than this is its own.
"""

import json
import sys

import cv2
import numpy as np
import onnxruntime

graph, picture, *threads = sys.argv[1:]
options = onnxruntime.SessionOptions()
if threads:
    options.intra_op_num_threads = int(threads[0])
session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
side = session.get_inputs()[0].shape[1]
if not isinstance(side, int):
    side = json.loads(session.get_modelmeta().custom_metadata_map["visionkit"])["imgsz"]
image = cv2.cvtColor(cv2.imread(picture), cv2.COLOR_BGR2RGB)
height, width = image.shape[:2]
scale = side / max(height, width)
small = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
top, left = (side - small.shape[0]) // 2, (side - small.shape[1]) // 2
square = np.full((1, side, side, 3), 114, np.uint8)
square[0, top : top + small.shape[0], left : left + small.shape[1]] = small
thresholds = {"score": np.float32([0.25]), "iou": np.float32([0.7]), "max_det": np.int64([300])}
boxes, scores, labels = session.run(["boxes", "scores", "labels"], {"images": square, **thresholds})
boxes = (boxes - np.float32([left, top, left, top])) / np.float32(scale)
print(json.dumps({"boxes": boxes.tolist(), "scores": scores.tolist(), "labels": labels.tolist()}))
