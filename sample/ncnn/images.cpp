#include "images.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <random>

#include "files.h"

#if WITH_OPENCV
#include <fstream>
#include <opencv2/imgcodecs.hpp>
#endif

namespace yolo_fastest {

namespace fs = std::filesystem;

namespace {

#if WITH_OPENCV

const std::string kImageSuffixes = ".bmp .jpeg .jpg .png .tif .tiff .webp";

// Writes the format of the path's suffix. Throws RunError. cv::imwrite does not support Unicode paths on Windows.
void encode(const fs::path& path, const cv::Mat& image) {
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

// Needs LINE_AA for smooth text; simpleocv has no such argument.
// left_bottom: start of the baseline; in simpleocv, of the lower edge.
void draw_text(cv::Mat& image, const std::string& text, cv::Point left_bottom, double scale, const cv::Scalar& color,
               int thickness) {
    cv::putText(image, text, left_bottom, cv::FONT_HERSHEY_SIMPLEX, scale, color, thickness, cv::LINE_AA);
}

#else

const std::string kImageSuffixes = ".bmp .jpeg .jpg .png";

void encode(const fs::path& path, const cv::Mat& image) {
    if (!cv::imwrite(path.string(), image)) {
        throw RunError("no permission, or the disk is full");
    }
}

void draw_text(cv::Mat& image, const std::string& text, cv::Point left_bottom, double scale, const cv::Scalar& color,
               int thickness) {
    cv::putText(image, text, left_bottom, cv::FONT_HERSHEY_SIMPLEX, scale, color, thickness);
}

#endif

// Relative to the square root of the image area.
constexpr double kLineWidth = 0.004, kTextScale = 0.001;
constexpr int kMinLineWidth = 2;  // pixels
constexpr double kMinTextScale = 0.44;

std::string lower_suffix(const fs::path& path) {
    std::string suffix = path.extension().string();
    std::transform(suffix.begin(), suffix.end(), suffix.begin(), [](unsigned char c) { return std::tolower(c); });
    return suffix;
}

bool has_image_suffix(const fs::path& path) {
    const std::string suffix = lower_suffix(path);
    return !suffix.empty() && (kImageSuffixes + " ").find(suffix + " ") != std::string::npos;
}

// Returns whether the end of a JPEG file is missing. Decoders fill the missing part with gray instead of failing.
bool is_truncated_jpeg(const std::string& bytes) {
    if (bytes.compare(0, 2, "\xff\xd8") != 0) {
        return false;
    }
    // A thumbnail in the header has its own end marker, so the end marker must follow the start of the last scan.
    const std::size_t scan = bytes.rfind("\xff\xda"), end = bytes.rfind("\xff\xd9");
    return end == std::string::npos || (scan != std::string::npos && end < scan);
}

// Hues in steps of the golden ratio are far from each other.
cv::Scalar class_color(int class_id) {
    const double hue = std::fmod(class_id * 0.618034, 1.0) * 6;
    const auto channel = [hue](double peak) {
        const double distance = std::min(std::abs(hue - peak), 6 - std::abs(hue - peak));
        return static_cast<unsigned char>(std::lround(255 * std::clamp(2 - distance, 0.0, 1.0)));
    };
    return cv::Scalar(channel(4), channel(2), channel(0));
}

void fill(cv::Mat& image, int x1, int y1, int x2, int y2, const cv::Scalar& color) {
    cv::rectangle(image, cv::Rect(x1, y1, x2 - x1, y2 - y1), color, cv::FILLED);
}

// Draws the outline inside the box.
void draw_box(cv::Mat& image, const Detection& box, int line) {
    const cv::Scalar color = class_color(box.class_id);
    const int x1 = static_cast<int>(std::floor(box.x1)), y1 = static_cast<int>(std::floor(box.y1));
    const int x2 = static_cast<int>(std::ceil(box.x2)), y2 = static_cast<int>(std::ceil(box.y2));
    line = std::max(1, std::min({line, (x2 - x1) / 5, (y2 - y1) / 5}));  // a wide line would fill a small box
    fill(image, x1, y1, x2, y1 + line, color);
    fill(image, x1, y2 - line, x2, y2, color);
    fill(image, x1, y1, x1 + line, y2, color);
    fill(image, x2 - line, y1, x2, y2, color);
}

std::string label_text(const Detection& box, const std::string& class_name) {
    const bool ascii = std::all_of(class_name.begin(), class_name.end(), [](char c) { return c >= ' ' && c <= '~'; });
    char score[16];
    std::snprintf(score, sizeof(score), " %.2f", box.score);
    return (ascii ? class_name : "class " + std::to_string(box.class_id)) + score;
}

// Draws the label above the box, or inside the box at the top of the image.
void draw_label(cv::Mat& image, const Detection& box, const std::string& text, double scale) {
    const int thickness = std::max(1, static_cast<int>(std::lround(1.8 * scale)));
    int below_baseline = 0;
    const cv::Size size = cv::getTextSize(text, cv::FONT_HERSHEY_SIMPLEX, scale, thickness, &below_baseline);
    const int padding = 2 * thickness, width = size.width + 2 * padding, height = size.height + below_baseline;
    if (width > image.cols || height > image.rows) {
        return;
    }
    const int x = std::min(static_cast<int>(box.x1), image.cols - width);
    int y = static_cast<int>(box.y1) - height;
    if (y < 0) {
        y = std::min(static_cast<int>(box.y1), image.rows - height);
    }
    const cv::Scalar color = class_color(box.class_id);
    const double brightness = 0.114 * color[0] + 0.587 * color[1] + 0.299 * color[2];
    fill(image, x, y, x + width, y + height, color);
    draw_text(image, text, cv::Point(x + padding, y + size.height), scale,
              brightness > 127 ? cv::Scalar(0, 0, 0) : cv::Scalar(255, 255, 255), thickness);
}

}  // namespace

std::vector<fs::path> list_images(const fs::path& source, const fs::path& output) {
    if (!fs::exists(source)) {
        throw InputError(source.string() + ": expected an image, a folder or a camera index, got a missing path");
    }
    if (!fs::is_directory(source)) {
        return {source};
    }
    std::vector<fs::path> images;
    try {
        for (auto entry = fs::recursive_directory_iterator(source); entry != fs::recursive_directory_iterator();
             ++entry) {
            const fs::path& path = entry->path();
            std::error_code ignored;  // broken links cause errors
            if (path.filename().string()[0] == '.' || fs::equivalent(path, output, ignored)) {
                entry.disable_recursion_pending();
            } else if (has_image_suffix(path) && !entry->is_directory(ignored)) {
                images.push_back(path);
            }
        }
    } catch (const fs::filesystem_error& error) {
        throw InputError(source.string() + ": cannot read: " + error.code().message());
    }
    if (images.empty()) {
        throw InputError(source.string() + ": expected images (" + kImageSuffixes + ") in this folder, got none");
    }
    std::sort(images.begin(), images.end());
    return images;
}

cv::Mat read_image(const fs::path& path) {
    const std::string bytes = read_file(path);
    const std::string expected = "an image (" + kImageSuffixes + ")";
    require(!bytes.empty(), path.string(), expected, "an empty file");
    require(!is_truncated_jpeg(bytes), path.string(), expected, "a truncated JPEG file");
    cv::Mat image;
    try {
        image = cv::imdecode(std::vector<unsigned char>(bytes.begin(), bytes.end()), cv::IMREAD_COLOR);
    } catch (const std::exception&) {  // OpenCV throws on sizes beyond its limits
    }
    require(!image.empty(), path.string(), expected, "a file that cannot be decoded");
    return image;
}

fs::path write_image(const fs::path& path, const cv::Mat& image) {
    fs::path target = path;
    if (!has_image_suffix(path)) {
        target += ".png";
    }
    const std::string random_name = "." + std::to_string(std::random_device{}()) + lower_suffix(target);
    const fs::path temporary = target.parent_path() / random_name;
    try {
        fs::create_directories(target.parent_path());
        encode(temporary, image);
        fs::rename(temporary, target);
    } catch (const std::exception& error) {
        std::error_code ignored;  // the temporary file may not exist
        fs::remove(temporary, ignored);
        throw RunError(target.string() + ": cannot write: " + error.what());
    }
    return target;
}

void draw_detections(cv::Mat& image, const std::vector<Detection>& detections,
                     const std::vector<std::string>& class_names) {
    const double side = std::sqrt(static_cast<double>(image.cols) * image.rows);
    const int line = std::max(kMinLineWidth, static_cast<int>(std::lround(kLineWidth * side)));
    const double scale = std::max(kMinTextScale, kTextScale * side);
    for (auto box = detections.rbegin(); box != detections.rend(); ++box) {
        draw_box(image, *box, line);
    }
    for (auto box = detections.rbegin(); box != detections.rend(); ++box) {
        draw_label(image, *box, label_text(*box, class_names[box->class_id]), scale);
    }
}

}  // namespace yolo_fastest
