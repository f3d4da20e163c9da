// From an image of any size to the network's input.

#pragma once

#include <mat.h>

#include "model_file.h"

namespace yolo_fastest {

// Resizes without keeping the aspect and scales the grey levels.
//
// Returns 3 channels, blue first, of the format's width × height.
ncnn::Mat to_input(const PixelView& image, const InputFormat& format);

}  // namespace yolo_fastest
