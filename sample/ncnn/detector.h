// Object detector on NCNN. An application needs this header and the library `detector`:
//
//     yolo_fastest::Detector detector("model.json", /*threads=*/1);
//     for (const auto& detection : detector.detect({bgr, width, height, row_bytes})) {
//         std::cout << detector.class_names()[detection.class_id] << ' ' << detection.score << '\n';
//     }

#pragma once

#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace yolo_fastest {

// Invalid input: a file, an option or an image. The message names it and says what was expected.
struct InputError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The input is valid but the run failed, for example because the disk is full.
struct RunError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct Detection {
    float x1, y1, x2, y2;  // corners in image pixels, inside the image
    float score;           // 0 to 1
    int class_id;
};

struct Thresholds {
    double conf;  // only scores above this are kept, 0 to 1
    double iou;   // boxes that overlap a better box of the same class by more than this are dropped, 0 to 1
    int max_det;  // maximum number of detections per image
};

// An image in the caller's memory: 8 bits per channel, channels in the order blue, green, red.
struct PixelView {
    const unsigned char* bgr;
    int width, height;      // pixels, at least 1
    std::size_t row_bytes;  // distance between the starts of two rows, at least 3 * width
};

// Duration of each stage of one call, in milliseconds.
struct Timing {
    double preprocessing, network, postprocessing;
};

enum class Arithmetic {
    kFloat32,
    kFloat16,  // if the processor is an ARM with 16-bit arithmetic (ARMv8.2 and newer), otherwise the same as kFloat32
};

class Detector {
  public:
    // Loads an exported model.
    //
    // path: NAME.json or NAME.ncnn.param as pytorch2onnx.py writes it; NAME.ncnn.bin must be in the same folder.
    // threads: number of threads of the network, at least 1.
    // arithmetic: of the network; 16 bits change scores by less than 0.02.
    // Throws InputError: a file is missing, truncated or does not match the others.
    explicit Detector(const std::string& path, int threads = 1, Arithmetic arithmetic = Arithmetic::kFloat16);

    // Returns the detections of one image, best first. Several threads may call this on the same Detector.
    //
    // timing: optional output.
    // Throws InputError: the image has no pixels. Throws RunError: NCNN fails.
    std::vector<Detection> detect(const PixelView& image, const Thresholds& thresholds, Timing* timing = nullptr) const;
    // Uses the thresholds of the model file.
    std::vector<Detection> detect(const PixelView& image) const;

    const Thresholds& thresholds() const;
    const std::vector<std::string>& class_names() const;

  private:
    struct Model;
    std::shared_ptr<const Model> model_;
};

}  // namespace yolo_fastest
