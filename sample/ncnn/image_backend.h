// OpenCV, or NCNN's simpleocv, a small part of OpenCV with the same names. This header hides the differences.

#pragma once

#include <filesystem>
#include <string>

#include "detector.h"

#if WITH_OPENCV
#include <algorithm>
#include <cmath>
#include <fstream>
#include <opencv2/core/utils/logger.hpp>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <opencv2/videoio.hpp>
#else
#include <simpleocv.h>
#if !NCNN_SIMPLEOCV
#error "The demo needs OpenCV, or an NCNN that was built with -DNCNN_SIMPLEOCV=ON"
#endif
#endif

namespace yolo_fastest {

#if WITH_OPENCV

class Camera : public cv::VideoCapture {
  public:
    // Reads the next frame. Returns false after the last one.
    bool read_bgr(cv::Mat& image) {
        if (!read(image) || image.empty()) {
            return false;
        }
        if (image.channels() == 1) {  // from some drivers
            cv::cvtColor(image, image, cv::COLOR_GRAY2BGR);
        }
        return true;
    }
};

inline const std::string kImageSuffixes = ".bmp .jpeg .jpg .png .tif .tiff .webp";

inline void silence_log() { cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT); }

// Writes the format of the path's suffix. Throws RunError. cv::imwrite does not support Unicode paths on Windows.
inline void encode(const std::filesystem::path& path, const cv::Mat& image) {
    std::vector<unsigned char> bytes;
    bool encoded = false;
    try {
        encoded = cv::imencode(path.extension().string(), image, bytes);
    } catch (const cv::Exception&) {  // its message has several lines
    }
    if (!encoded) {
        throw RunError("OpenCV cannot encode this image");
    }
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (!file.flush()) {
        throw RunError("no permission, or the disk is full");
    }
}

// Text of a given line height in pixels. The font is 32 pixels high at scale 1, 24 of them above the baseline.
inline int line_width(int height) { return std::max(1, static_cast<int>(std::lround(height / 18.0))); }

inline cv::Size text_size(const std::string& text, int height) {
    int baseline = 0;
    const double scale = height / 32.0;
    return {cv::getTextSize(text, cv::FONT_HERSHEY_SIMPLEX, scale, line_width(height), &baseline).width, height};
}

inline void draw_text(cv::Mat& image, const std::string& text, int x, int y, int height, const cv::Scalar& color) {
    const double scale = height / 32.0;
    cv::putText(image, text, {x, y + static_cast<int>(std::lround(scale * 24))}, cv::FONT_HERSHEY_SIMPLEX, scale, color,
                line_width(height), cv::LINE_AA);
}

#else

struct Camera {
    bool open(int index) {
        throw InputError("camera " + std::to_string(index) +
                         ": this demo was built without OpenCV, which reads cameras");
    }
    bool read_bgr(cv::Mat&) { return false; }
};

inline const std::string kImageSuffixes = ".bmp .jpeg .jpg .png";

inline void silence_log() {}

inline void encode(const std::filesystem::path& path, const cv::Mat& image) {
    if (!cv::imwrite(path.string(), image)) {
        throw RunError("no permission, or the disk is full");
    }
}

// A letter is half as wide as high. simpleocv multiplies the scale by 20 and rounds down to get the width.
inline cv::Size text_size(const std::string& text, int height) {
    return {static_cast<int>(text.size()) * (height / 2), height / 2 * 2};
}

inline void draw_text(cv::Mat& image, const std::string& text, int x, int y, int height, const cv::Scalar& color) {
    const double scale = (height / 2 + 0.5) / 20;
    cv::putText(image, text, {x, y + height / 2 * 2}, cv::FONT_HERSHEY_SIMPLEX, scale, color);
}

#endif

}  // namespace yolo_fastest
