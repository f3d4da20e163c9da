// Pictures and cameras through OpenCV.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <opencv2/core.hpp>
#include <opencv2/core/utils/logger.hpp>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <opencv2/videoio.hpp>

#include "image_codec.h"

namespace yolo_fastest {

namespace {

constexpr int kFont = cv::FONT_HERSHEY_SIMPLEX;
constexpr double kAscent = 24, kLineHeight = 32;  // of the font at scale 1, pixels

int line_width(int height) { return std::max(1, static_cast<int>(std::lround(height / 18.0))); }

// What is wrong with a file is reported once, and not by OpenCV in its own form as well.
void silence_log() { cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT); }

Image copy(const cv::Mat& pixels) {
    Image image{pixels.cols, pixels.rows, {}};
    const std::size_t row = 3 * static_cast<std::size_t>(image.width);
    image.bgr.resize(row * image.height);
    for (int y = 0; y < image.height; ++y) {
        std::memcpy(image.bgr.data() + y * row, pixels.ptr(y), row);
    }
    return image;
}

}  // namespace

const std::vector<std::string>& codec::suffixes() {
    static const std::vector<std::string> all = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"};
    return all;
}

std::optional<Image> codec::decode(const std::vector<unsigned char>& bytes) {
    silence_log();
    try {
        const cv::Mat pixels = cv::imdecode(bytes, cv::IMREAD_COLOR);
        return pixels.empty() ? std::nullopt : std::optional(copy(pixels));
    } catch (const cv::Exception&) {
        return std::nullopt;
    }
}

void codec::encode(const std::filesystem::path& path, const Image& image) {
    const cv::Mat pixels(image.height, image.width, CV_8UC3, const_cast<unsigned char*>(image.bgr.data()));
    std::vector<unsigned char> bytes;
    try {
        if (!cv::imencode(path.extension().string(), pixels, bytes)) {
            throw RunError("OpenCV cannot encode this picture");
        }
    } catch (const cv::Exception& error) {
        throw RunError("OpenCV cannot encode this picture: " + error.err);
    }
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    if (!file.flush()) {
        throw RunError("no permission, or the disk is full");
    }
}

TextSize text_size(const std::string& text, int height) {
    int baseline = 0;
    return {cv::getTextSize(text, kFont, height / kLineHeight, line_width(height), &baseline).width, height};
}

void draw_text(Image& image, const std::string& text, int x, int y, int height, Colour colour) {
    const double scale = height / kLineHeight;
    const cv::Point origin(x, y + static_cast<int>(std::lround(scale * kAscent)));
    cv::Mat pixels(image.height, image.width, CV_8UC3, image.bgr.data());
    cv::putText(pixels, text, origin, kFont, scale, cv::Scalar(colour.blue, colour.green, colour.red),
                line_width(height), cv::LINE_AA);
}

struct Camera::Capture {
    cv::VideoCapture device;
};

Camera::Camera(int number) : capture_(std::make_unique<Capture>()) {
    silence_log();
    if (!capture_->device.open(number)) {
        throw InputError("camera " + std::to_string(number) + ": cannot be opened; is it connected, and free?");
    }
}

Camera::~Camera() = default;

bool Camera::read(Image& image) {
    cv::Mat pixels;
    if (!capture_->device.read(pixels) || pixels.empty()) {
        return false;
    }
    if (pixels.channels() == 1) {  // as some drivers give them
        cv::cvtColor(pixels, pixels, cv::COLOR_GRAY2BGR);
    }
    image = copy(pixels);
    return true;
}

}  // namespace yolo_fastest
