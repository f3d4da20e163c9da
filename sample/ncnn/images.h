// Images of the demo: find, read, draw and write. They use OpenCV, or NCNN's simpleocv, a small part of OpenCV with the
// same names.

#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "detector.h"

#if WITH_OPENCV
#include <opencv2/imgproc.hpp>
#else
#include <simpleocv.h>
#if !NCNN_SIMPLEOCV
#error "The demo needs OpenCV, or an NCNN that was built with -DNCNN_SIMPLEOCV=ON"
#endif
#endif

namespace yolo_fastest {

// Returns an image file, or all image files in a folder and its subfolders, sorted. Hidden files and folders, linked
// folders and the folder `output` are skipped.
// Throws InputError: `source` does not exist, or is a folder without images.
std::vector<std::filesystem::path> list_images(const std::filesystem::path& source,
                                               const std::filesystem::path& output);

// Throws InputError: the file is missing, truncated or not an image.
cv::Mat read_image(const std::filesystem::path& path);

// Writes the format of the path's suffix, or PNG with the suffix added if it is not an image suffix. Creates the
// folder. The file is written under a temporary name first, so that it is always complete. Returns the path of the
// file. Throws RunError: the file cannot be written.
std::filesystem::path write_image(const std::filesystem::path& path, const cv::Mat& image);

// Draws boxes, class names and scores, the best detections on top. A label that is larger than the image is not drawn.
// The fonts have ASCII characters only: other class names are drawn as "class N".
void draw_detections(cv::Mat& image, const std::vector<Detection>& detections,
                     const std::vector<std::string>& class_names);

}  // namespace yolo_fastest
