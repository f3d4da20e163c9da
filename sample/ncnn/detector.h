// The detector on NCNN. This header and the library `detector` are all that a program of your own needs:
//
//     yolo_fastest::Detector detector("model.json", /*threads=*/1);
//     for (const auto& found : detector.detect({bgr, width, height, row_bytes})) {
//         std::cout << detector.class_name(found.label) << ' ' << found.score << '\n';
//     }

#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "errors.h"

namespace yolo_fastest {

// One object: corners in pixels of the image and inside it, score 0…1, number of the class.
struct Detection {
    float x1, y1, x2, y2;
    float score;
    int label;
};

struct Thresholds {
    double conf;  // a detection must score above this, 0…1
    double iou;   // a box overlapping a better one of its class by more than this is dropped, 0…1
    int max_det;  // the best so many of an image are kept
};

// Pixels that somebody else owns: 8 bit, blue, green, red.
struct PixelView {
    const unsigned char* bgr;
    int width, height;      // pixels, at least 1
    std::size_t row_bytes;  // from the start of a row to that of the next, at least 3 · width
};

// Milliseconds that each step of one call took.
struct Timing {
    double preprocessing, network, postprocessing;
};

class Detector {
  public:
    // Loads an exported model.
    //
    // path: NAME.json as the exporter writes it, with NAME.ncnn.param and NAME.ncnn.bin beside it; or that .param.
    // threads: that the network runs on, at least 1.
    // Throws InputError naming the file and what was expected: a file is missing, cut short or does not fit the others.
    explicit Detector(const std::string& path, int threads = 1);
    ~Detector();
    Detector(Detector&&) noexcept;
    Detector& operator=(Detector&&) noexcept;

    // Objects of one image, best first. Several threads may call this on one Detector.
    //
    // timing: if given, is set to what this call took.
    // Throws InputError: the image has no pixels. RunError: NCNN fails.
    std::vector<Detection> detect(const PixelView& image, const Thresholds& thresholds, Timing* timing = nullptr) const;
    // The same with the thresholds of the model's file.
    std::vector<Detection> detect(const PixelView& image) const;

    const Thresholds& thresholds() const;
    const std::vector<std::string>& class_names() const;
    const std::string& class_name(int label) const;

  private:
    struct Model;
    std::unique_ptr<const Model> model_;
};

}  // namespace yolo_fastest
