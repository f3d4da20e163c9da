// Pictures: read, written, written on. OpenCV does it, or NCNN's simpleocv where there is no OpenCV.

#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "errors.h"

namespace yolo_fastest {

struct Image {
    int width = 0, height = 0;       // pixels
    std::vector<unsigned char> bgr;  // height · width · 3, without gaps between rows
};

struct Colour {
    unsigned char blue, green, red;
};

struct TextSize {
    int width, height;  // pixels
};

// Whether a file's ending, in any case, is one of those that pictures have here.
bool is_image_name(const std::filesystem::path& path);

// Those endings, to be shown to the user.
std::string image_suffixes();

// Throws InputError: the file is missing, no picture, or cut short.
Image read_image(const std::filesystem::path& path);

// Writes in the format of the path's ending, as PNG with this ending added where it is another one. The file appears
// when it is whole; its folder is made.
//
// Returns the path that was written.
// Throws RunError: it cannot be written.
std::filesystem::path write_image(const std::filesystem::path& path, const Image& image);

// Size of a line of ASCII text. `height`: of the line, pixels.
TextSize text_size(const std::string& text, int height);

// Writes a line of ASCII text whose upper left corner is (x, y). What lies outside the image is left out.
void draw_text(Image& image, const std::string& text, int x, int y, int height, Colour colour);

class Camera {
  public:
    // Throws InputError: there is no such camera, or the demo was built without OpenCV.
    explicit Camera(int number);
    ~Camera();

    // The next picture; false when there are no more.
    bool read(Image& image);

  private:
    struct Capture;
    std::unique_ptr<Capture> capture_;
};

}  // namespace yolo_fastest
