// What a library of pictures does for image_io.cpp: one of image_opencv.cpp and image_simpleocv.cpp is built.

#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "image_io.h"

namespace yolo_fastest::codec {

// Endings of the formats that it reads and writes, in lower case.
const std::vector<std::string>& suffixes();

// Pixels of a file's bytes; nothing if it cannot decode them.
std::optional<Image> decode(const std::vector<unsigned char>& bytes);

// Writes in the format of the path's ending, which is one of `suffixes`. Throws RunError.
void encode(const std::filesystem::path& path, const Image& image);

}  // namespace yolo_fastest::codec
