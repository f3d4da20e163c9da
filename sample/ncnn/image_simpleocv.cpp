// Pictures through NCNN's simpleocv, which has no cameras and leaves a photograph's EXIF orientation alone.

#include <simpleocv.h>

#include "image_codec.h"

namespace yolo_fastest {

namespace {

// NCNN's font: letters are half as wide as a line is high.
int letter_width(int height) { return height / 2; }

}  // namespace

const std::vector<std::string>& codec::suffixes() {
    static const std::vector<std::string> all = {".bmp", ".jpeg", ".jpg", ".png"};
    return all;
}

std::optional<Image> codec::decode(const std::vector<unsigned char>& bytes) {
    const cv::Mat pixels = cv::imdecode(bytes, cv::IMREAD_COLOR);
    if (pixels.empty()) {
        return std::nullopt;
    }
    const std::size_t size = 3 * static_cast<std::size_t>(pixels.cols) * pixels.rows;
    return Image{pixels.cols, pixels.rows, {pixels.data, pixels.data + size}};
}

void codec::encode(const std::filesystem::path& path, const Image& image) {
    const cv::Mat pixels(image.height, image.width, CV_8UC3, const_cast<unsigned char*>(image.bgr.data()));
    if (!cv::imwrite(path.string(), pixels)) {
        throw RunError("no permission, or the disk is full");
    }
}

TextSize text_size(const std::string& text, int height) {
    return {static_cast<int>(text.size()) * letter_width(height), 2 * letter_width(height)};
}

void draw_text(Image& image, const std::string& text, int x, int y, int height, Colour colour) {
    const int letter = letter_width(height);
    const double scale = (letter + 0.5) / 20;  // which simpleocv multiplies by 20 and cuts off
    cv::Mat pixels(image.height, image.width, CV_8UC3, image.bgr.data());
    cv::putText(pixels, text, cv::Point(x, y + 2 * letter), cv::FONT_HERSHEY_SIMPLEX, scale,
                cv::Scalar(colour.blue, colour.green, colour.red));
}

struct Camera::Capture {};

Camera::Camera(int number) {
    throw InputError("camera " + std::to_string(number) + ": this demo was built without OpenCV, which reads cameras");
}

Camera::~Camera() = default;

bool Camera::read(Image&) { return false; }

}  // namespace yolo_fastest
