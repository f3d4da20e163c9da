#include "drawing.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace yolo_fastest {

namespace {

// Of the root of the picture's area, which suits long pictures as well as square ones.
constexpr double kLineWidth = 0.004, kTextHeight = 0.034;
constexpr int kSmallestLine = 2, kSmallestText = 14;  // pixels

// Far from the colours of the classes before it: steps of the golden ratio never come close to an earlier hue.
Colour class_colour(int label) {
    const double hue = std::fmod(label * 0.618034, 1.0) * 6;
    const auto channel = [hue](double peak) {
        const double distance = std::min(std::abs(hue - peak), 6 - std::abs(hue - peak));
        return static_cast<unsigned char>(std::lround(255 * std::clamp(2 - distance, 0.0, 1.0)));
    };
    return {channel(4), channel(2), channel(0)};
}

Colour contrast_colour(Colour colour) {
    const double brightness = 0.114 * colour.blue + 0.587 * colour.green + 0.299 * colour.red;
    return brightness > 127 ? Colour{0, 0, 0} : Colour{255, 255, 255};
}

// Fills x1 ≤ x < x2, y1 ≤ y < y2, as far as it lies in the picture.
void fill(Image& image, int x1, int y1, int x2, int y2, Colour colour) {
    for (int y = std::max(y1, 0); y < std::min(y2, image.height); ++y) {
        for (int x = std::max(x1, 0); x < std::min(x2, image.width); ++x) {
            unsigned char* pixel = image.bgr.data() + 3 * (static_cast<std::size_t>(y) * image.width + x);
            pixel[0] = colour.blue;
            pixel[1] = colour.green;
            pixel[2] = colour.red;
        }
    }
}

// The outline, from the box's edge inwards.
void draw_box(Image& image, const Detection& box, int line) {
    const Colour colour = class_colour(box.label);
    const int x1 = static_cast<int>(std::floor(box.x1)), y1 = static_cast<int>(std::floor(box.y1));
    const int x2 = static_cast<int>(std::ceil(box.x2)), y2 = static_cast<int>(std::ceil(box.y2));
    // A wide line would fill a small box.
    line = std::max(1, std::min(line, std::min(x2 - x1, y2 - y1) / 5));
    fill(image, x1, y1, x2, y1 + line, colour);
    fill(image, x1, y2 - line, x2, y2, colour);
    fill(image, x1, y1, x1 + line, y2, colour);
    fill(image, x2 - line, y1, x2, y2, colour);
}

std::string label_text(const Detection& box, const std::vector<std::string>& names) {
    const std::string& name = names[box.label];
    const bool ascii = std::all_of(name.begin(), name.end(), [](char c) { return c >= ' ' && c <= '~'; });
    char score[16];
    std::snprintf(score, sizeof(score), " %.2f", box.score);
    return (ascii ? name : "class " + std::to_string(box.label)) + score;
}

// Above the box, or inside it where the picture ends.
void draw_label(Image& image, const Detection& box, const std::string& text, int height) {
    const TextSize size = text_size(text, height);
    const int padding = std::max(1, height / 8);
    const int width = size.width + 2 * padding;
    if (width > image.width || size.height > image.height) {
        return;
    }
    const int x = std::min(static_cast<int>(box.x1), image.width - width);
    int y = static_cast<int>(box.y1) - size.height;
    if (y < 0) {
        y = std::min(static_cast<int>(box.y1), image.height - size.height);
    }
    const Colour colour = class_colour(box.label);
    fill(image, x, y, x + width, y + size.height, colour);
    draw_text(image, text, x + padding, y, height, contrast_colour(colour));
}

}  // namespace

void draw_detections(Image& image, const std::vector<Detection>& found, const std::vector<std::string>& names) {
    const double scale = std::sqrt(static_cast<double>(image.width) * image.height);
    const int line = std::max(kSmallestLine, static_cast<int>(std::lround(kLineWidth * scale)));
    const int height = std::max(kSmallestText, static_cast<int>(std::lround(kTextHeight * scale)));
    for (auto box = found.rbegin(); box != found.rend(); ++box) {
        draw_box(image, *box, line);
    }
    for (auto box = found.rbegin(); box != found.rend(); ++box) {
        draw_label(image, *box, label_text(*box, names), height);
    }
}

}  // namespace yolo_fastest
