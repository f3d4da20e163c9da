#include "detector.h"

#include <cpu.h>

#include <algorithm>
#include <chrono>

#include "files.h"
#include "model.h"

namespace yolo_fastest {

namespace {

// Appends the detections of one cell whose score is above `conf`, in input pixels.
void decode_cell(const float* values, int class_count, int row, int column, const Scale& scale, float conf,
                 std::vector<Detection>& detections) {
    const int anchor_count = static_cast<int>(scale.anchors.size());
    const float* objectness = values + 4 * anchor_count;
    // The class probability is at most 1, so most cells are rejected by their objectness.
    if (!(*std::max_element(objectness, objectness + anchor_count) > conf)) {
        return;
    }
    const float* probabilities = objectness + anchor_count;
    const float* best_class = std::max_element(probabilities, probabilities + class_count);
    for (int i = 0; i < anchor_count; ++i) {
        const float score = objectness[i] * *best_class;
        if (!(score > conf)) {
            continue;
        }
        const float* box = values + 4 * i;
        const float x = (box[0] * 2 - 0.5f + column) * scale.stride;
        const float y = (box[1] * 2 - 0.5f + row) * scale.stride;
        const float half_width = (box[2] * 2) * (box[2] * 2) * scale.anchors[i].width / 2;
        const float half_height = (box[3] * 2) * (box[3] * 2) * scale.anchors[i].height / 2;
        detections.push_back({x - half_width, y - half_height, x + half_width, y + half_height, score,
                              static_cast<int>(best_class - probabilities)});
    }
}

float area(const Detection& box) { return (box.x2 - box.x1) * (box.y2 - box.y1); }

float iou(const Detection& a, const Detection& b) {
    const float width = std::max(0.f, std::min(a.x2, b.x2) - std::max(a.x1, b.x1));
    const float height = std::max(0.f, std::min(a.y2, b.y2) - std::max(a.y1, b.y1));
    const float intersection = width * height;
    return intersection / (area(a) + area(b) - intersection);
}

// Returns the detections after non-maximum suppression per class, best first.
std::vector<Detection> suppress(std::vector<Detection> detections, const Thresholds& thresholds) {
    std::stable_sort(detections.begin(), detections.end(),
                     [](const Detection& a, const Detection& b) { return a.score > b.score; });
    std::vector<Detection> kept;
    for (const Detection& box : detections) {
        const bool overlaps = std::any_of(kept.begin(), kept.end(), [&](const Detection& better) {
            return better.class_id == box.class_id && iou(better, box) > thresholds.iou;
        });
        if (!overlaps) {
            kept.push_back(box);
        }
        if (kept.size() == static_cast<std::size_t>(thresholds.max_det)) {
            break;
        }
    }
    return kept;
}

// Decodes the outputs, applies non-maximum suppression, and converts the boxes to image pixels.
std::vector<Detection> postprocess(const std::vector<ncnn::Mat>& outputs, const ModelFile& model,
                                   const Thresholds& thresholds, int image_width, int image_height) {
    const int class_count = static_cast<int>(model.class_names.size());
    const auto conf = static_cast<float>(thresholds.conf);
    std::vector<Detection> detections;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        for (int row = 0; row < outputs[i].c; ++row) {
            const ncnn::Mat cells = outputs[i].channel(row);
            for (int column = 0; column < cells.h; ++column) {
                decode_cell(cells.row(column), class_count, row, column, model.scales[i], conf, detections);
            }
        }
    }
    detections = suppress(std::move(detections), thresholds);

    const auto width = static_cast<float>(image_width), height = static_cast<float>(image_height);
    const float x_factor = width / model.input.width, y_factor = height / model.input.height;
    for (Detection& box : detections) {
        box.x1 = std::clamp(box.x1 * x_factor, 0.f, width);
        box.y1 = std::clamp(box.y1 * y_factor, 0.f, height);
        box.x2 = std::clamp(box.x2 * x_factor, 0.f, width);
        box.y2 = std::clamp(box.y2 * y_factor, 0.f, height);
    }
    const auto is_outside = [](const Detection& box) { return !(box.x2 > box.x1 && box.y2 > box.y1); };
    detections.erase(std::remove_if(detections.begin(), detections.end(), is_outside), detections.end());
    return detections;
}

}  // namespace

struct Detector::Model {
    ModelFile file;
    ncnn::Net net;
};

Detector::Detector(const std::string& path, int threads, Arithmetic arithmetic) {
    require(threads >= 1, "threads", "1 or more", std::to_string(threads));
    auto model = std::make_shared<Model>();
    model->file = read_model_file(path);
    ncnn::Option& option = model->net.opt;
    option.num_threads = threads;
    const bool half = arithmetic == Arithmetic::kFloat16 && ncnn::cpu_support_arm_asimdhp() != 0;
    option.use_fp16_packed = option.use_fp16_storage = option.use_fp16_arithmetic = half;
    option.use_bf16_storage = false;  // changes the scores more
    load_network(model->net, model->file);
    model_ = model;
}

std::vector<Detection> Detector::detect(const PixelView& image, const Thresholds& thresholds, Timing* timing) const {
    require(image.bgr != nullptr && image.width >= 1 && image.height >= 1 &&
                image.row_bytes >= 3 * static_cast<std::size_t>(image.width),
            "image", "at least 1x1 pixels",
            std::to_string(image.width) + "x" + std::to_string(image.height) + ", " + std::to_string(image.row_bytes) +
                " bytes per row");
    using Clock = std::chrono::steady_clock;
    using Milliseconds = std::chrono::duration<double, std::milli>;
    const auto start = Clock::now();
    const ncnn::Mat input = preprocess(image, model_->file.input);
    const auto prepared = Clock::now();
    const std::vector<ncnn::Mat> outputs = run_network(model_->net, model_->file, input);
    const auto computed = Clock::now();
    std::vector<Detection> detections = postprocess(outputs, model_->file, thresholds, image.width, image.height);
    if (timing != nullptr) {
        *timing = {Milliseconds(prepared - start).count(), Milliseconds(computed - prepared).count(),
                   Milliseconds(Clock::now() - computed).count()};
    }
    return detections;
}

std::vector<Detection> Detector::detect(const PixelView& image) const { return detect(image, thresholds()); }

const Thresholds& Detector::thresholds() const { return model_->file.thresholds; }

const std::vector<std::string>& Detector::class_names() const { return model_->file.class_names; }

}  // namespace yolo_fastest
