#include "detector.h"

#include <chrono>

#include "model_file.h"
#include "network.h"
#include "postprocess.h"
#include "preprocess.h"

namespace yolo_fastest {

namespace {

using Clock = std::chrono::steady_clock;

double milliseconds(Clock::time_point start, Clock::time_point end) {
    return std::chrono::duration<double, std::milli>(end - start).count();
}

void check(const PixelView& image) {
    const bool usable = image.bgr != nullptr && image.width > 0 && image.height > 0 &&
                        image.row_bytes >= 3 * static_cast<std::size_t>(image.width);
    if (!usable) {
        throw InputError("expected an image of at least 1x1 pixels, got " + std::to_string(image.width) + "x" +
                         std::to_string(image.height) + ", " + std::to_string(image.row_bytes) + " bytes a row");
    }
}

}  // namespace

struct Detector::Model {
    ModelFile file;
    Network network;

    Model(const std::string& path, int threads) : file(read_model_file(path)), network(file, threads) {}
};

Detector::Detector(const std::string& path, int threads) : model_(std::make_unique<const Model>(path, threads)) {}
Detector::~Detector() = default;
Detector::Detector(Detector&&) noexcept = default;
Detector& Detector::operator=(Detector&&) noexcept = default;

std::vector<Detection> Detector::detect(const PixelView& image, const Thresholds& thresholds, Timing* timing) const {
    check(image);
    const ModelFile& file = model_->file;

    const auto start = Clock::now();
    const ncnn::Mat input = to_input(image, file.input);
    const auto prepared = Clock::now();
    const std::vector<ncnn::Mat> outputs = model_->network.run(input);
    const auto computed = Clock::now();
    std::vector<Detection> found = decode(outputs, file.scales, thresholds.conf);
    found = suppress(std::move(found), thresholds.iou, thresholds.max_det);
    found = frame_to_image(found, file.input.width, file.input.height, image.width, image.height);
    const auto done = Clock::now();

    if (timing != nullptr) {
        *timing = {milliseconds(start, prepared), milliseconds(prepared, computed), milliseconds(computed, done)};
    }
    return found;
}

std::vector<Detection> Detector::detect(const PixelView& image) const { return detect(image, thresholds()); }

const Thresholds& Detector::thresholds() const { return model_->file.thresholds; }

const std::vector<std::string>& Detector::class_names() const { return model_->file.names; }

const std::string& Detector::class_name(int label) const { return model_->file.names.at(label); }

}  // namespace yolo_fastest
