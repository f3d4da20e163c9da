// From the network's outputs to detections: decoding, non-maximum suppression, scaling to the image.

#pragma once

#include <mat.h>

#include <vector>

#include "model_file.h"

namespace yolo_fastest {

// Predictions that score above `conf`, one an anchor of a cell, in pixels of the network's input, in the order of
// scale, row, column and anchor.
//
// x = (2t₀ − 0.5 + column) · stride, w = (2t₂)² · anchor width, y and h alike;
// score = objectness · probability of the likeliest class.
//
// outputs: of each scale, as from Network::run.
std::vector<Detection> decode(const std::vector<ncnn::Mat>& outputs, const std::vector<Scale>& scales, double conf);

// The best boxes of each class that do not overlap a better one of it by more than `iou`; at most `max_det`, best
// first.
std::vector<Detection> suppress(std::vector<Detection> found, double iou, int max_det);

// Boxes in pixels of the network's input to pixels of the image, clipped to it; what has no area left is dropped.
std::vector<Detection> frame_to_image(const std::vector<Detection>& found, int frame_width, int frame_height,
                                      int image_width, int image_height);

}  // namespace yolo_fastest
