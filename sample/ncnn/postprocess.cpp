#include "postprocess.h"

#include <algorithm>

namespace yolo_fastest {

namespace {

void decode_cell(const float* values, int classes, int row, int column, const Scale& scale, float conf,
                 std::vector<Detection>& found) {
    const int anchors = static_cast<int>(scale.anchors.size());
    const float* objectness = values + 4 * anchors;
    // A probability is at most 1, so the score of most cells is too low without a look at their classes.
    if (!(*std::max_element(objectness, objectness + anchors) > conf)) {
        return;
    }
    const float* probabilities = objectness + anchors;
    const float* likeliest = std::max_element(probabilities, probabilities + classes);
    for (int i = 0; i < anchors; ++i) {
        const float score = objectness[i] * *likeliest;
        if (!(score > conf)) {
            continue;
        }
        const float* box = values + 4 * i;
        const float x = (box[0] * 2 - 0.5f + column) * scale.stride;
        const float y = (box[1] * 2 - 0.5f + row) * scale.stride;
        const float half_width = (box[2] * 2) * (box[2] * 2) * scale.anchors[i].width / 2;
        const float half_height = (box[3] * 2) * (box[3] * 2) * scale.anchors[i].height / 2;
        found.push_back({x - half_width, y - half_height, x + half_width, y + half_height, score,
                         static_cast<int>(likeliest - probabilities)});
    }
}

float area(const Detection& box) { return (box.x2 - box.x1) * (box.y2 - box.y1); }

float intersection_over_union(const Detection& a, const Detection& b) {
    const float width = std::max(0.f, std::min(a.x2, b.x2) - std::max(a.x1, b.x1));
    const float height = std::max(0.f, std::min(a.y2, b.y2) - std::max(a.y1, b.y1));
    const float intersection = width * height;
    return intersection / (area(a) + area(b) - intersection);
}

}  // namespace

std::vector<Detection> decode(const std::vector<ncnn::Mat>& outputs, const std::vector<Scale>& scales, double conf) {
    std::vector<Detection> found;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        const ncnn::Mat& output = outputs[i];
        const int classes = output.w - 5 * static_cast<int>(scales[i].anchors.size());
        for (int row = 0; row < output.c; ++row) {
            const ncnn::Mat cells = output.channel(row);
            for (int column = 0; column < output.h; ++column) {
                decode_cell(cells.row(column), classes, row, column, scales[i], static_cast<float>(conf), found);
            }
        }
    }
    return found;
}

std::vector<Detection> suppress(std::vector<Detection> found, double iou, int max_det) {
    std::stable_sort(found.begin(), found.end(),
                     [](const Detection& a, const Detection& b) { return a.score > b.score; });
    std::vector<Detection> kept;
    for (const Detection& box : found) {
        const bool covered = std::any_of(kept.begin(), kept.end(), [&](const Detection& better) {
            return better.label == box.label && intersection_over_union(better, box) > iou;
        });
        if (covered) {
            continue;
        }
        kept.push_back(box);
        if (kept.size() == static_cast<std::size_t>(max_det)) {
            break;
        }
    }
    return kept;
}

std::vector<Detection> frame_to_image(const std::vector<Detection>& found, int frame_width, int frame_height,
                                      int image_width, int image_height) {
    // The image was resized without keeping its aspect, so each axis has its own factor.
    const float x_factor = static_cast<float>(image_width) / frame_width;
    const float y_factor = static_cast<float>(image_height) / frame_height;
    const auto right = static_cast<float>(image_width), bottom = static_cast<float>(image_height);
    std::vector<Detection> result;
    for (Detection box : found) {
        box.x1 = std::clamp(box.x1 * x_factor, 0.f, right);
        box.y1 = std::clamp(box.y1 * y_factor, 0.f, bottom);
        box.x2 = std::clamp(box.x2 * x_factor, 0.f, right);
        box.y2 = std::clamp(box.y2 * y_factor, 0.f, bottom);
        if (box.x2 > box.x1 && box.y2 > box.y1) {
            result.push_back(box);
        }
    }
    return result;
}

}  // namespace yolo_fastest
