"""The network as it is exported: activated, one output a scale or one for the detections."""

import torch
from torch import nn
from torchvision.ops import box_convert, nms

from utils.postprocess import MAX_DETECTIONS, activate, decode


class ActivatedDetector(nn.Module):
    """Images to a map a scale, ready to be decoded: sigmoid and softmax are inside.

    Args:
        detector: Detector.
    """

    def __init__(self, detector):
        super().__init__()
        self.detector = detector.eval()

    def forward(self, images):
        """
        Args:
            images: [N, 3, H, W], BGR, 0…1.
        Returns:
            [N, H/16, W/16, 4·A + A + C] and [N, H/32, W/32, 4·A + A + C].
        """
        return tuple(torch.cat(scale, 1).permute(0, 2, 3, 1) for scale in activate(self.detector(images)))


class EndToEndDetector(nn.Module):
    """One image to its detections: decoding and suppression are inside, as `utils.postprocess.detect` does them.

    Args:
        detector: Detector.
        anchors: [2][A][2], width and height in input pixels.
        size: (width, height) of the input.
        conf, iou, max_det: as in `detect`.
    """

    def __init__(self, detector, anchors, size, conf, iou, max_det=MAX_DETECTIONS):
        super().__init__()
        self.detector = detector.eval()
        self.conf, self.iou, self.max_det = conf, iou, max_det
        self.register_buffer("anchors", torch.tensor(anchors))
        # Boxes of different classes are moved further apart than any two boxes can be, so that one pass suppresses
        # within each class. Of a fixed distance the largest side counts: four times an anchor's.
        self.class_distance = float(max(size) + 2 * 4 * self.anchors.max() + 1)

    def forward(self, image):
        """
        Args:
            image: [1, 3, H, W], BGR, 0…1.
        Returns:
            [n, 6], (x1, y1, x2, y2, score, class) in input pixels, best first.
        """
        predictions = decode(activate(self.detector(image)), (self.anchors[0], self.anchors[1]))
        boxes, _, scores, labels = (values[0] for values in predictions)
        kept = (scores > self.conf).nonzero().squeeze(1)
        boxes, scores, labels = box_convert(boxes[kept], "cxcywh", "xyxy"), scores[kept], labels[kept].to(boxes.dtype)
        moved = boxes + labels.unsqueeze(1) * self.class_distance
        best = nms(moved, scores, self.iou)[: self.max_det]
        return torch.cat((boxes[best], scores[best].unsqueeze(1), labels[best].unsqueeze(1)), 1)
