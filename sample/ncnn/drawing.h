// Detections drawn on a picture.

#pragma once

#include <string>
#include <vector>

#include "detector.h"
#include "image_io.h"

namespace yolo_fastest {

// A box and a label for each detection, the better ones on top. A label is left out where the picture has no room.
//
// names: of the classes. The fonts have ASCII only: other names are drawn as "class N".
void draw_detections(Image& image, const std::vector<Detection>& found, const std::vector<std::string>& names);

}  // namespace yolo_fastest
