#include <algorithm>
#include <cmath>
#include <cstdint>

#include "model.h"

// Images are resized as by cv2.resize with INTER_LINEAR, bit for bit: the model was trained with its rounding, and a
// difference of one gray level changes scores by some hundredths. ncnn::Mat::from_pixels_resize rounds differently, and
// reads outside the image when a side is one pixel long.

namespace yolo_fastest {

namespace {

constexpr int kChannels = 3;
constexpr int kWeightOne = 1 << 11;  // fixed-point weight that stands for 1

// The two image pixels that an output pixel lies between, and their weights.
struct Sample {
    int first, second;
    int first_weight, second_weight;
};

// Returns one sample per output pixel along an axis.
std::vector<Sample> axis_samples(int image_size, int output_size) {
    std::vector<Sample> samples(output_size);
    const double factor = static_cast<double>(image_size) / output_size;
    for (int i = 0; i < output_size; ++i) {
        const auto position = static_cast<float>((i + 0.5) * factor - 0.5);
        const int first = static_cast<int>(std::floor(position));
        const float weight = position - static_cast<float>(first);
        samples[i] = {std::clamp(first, 0, image_size - 1), std::clamp(first + 1, 0, image_size - 1),
                      static_cast<int>(std::lrint((1 - weight) * kWeightOne)),
                      static_cast<int>(std::lrint(weight * kWeightOne))};
    }
    return samples;
}

// A row of the image, resized along x.
struct Row {
    int index = -1;                    // in the image
    std::vector<std::int32_t> values;  // interleaved channels, in units of 1 / kWeightOne gray level
};

void resize_row(const PixelView& image, int index, const std::vector<Sample>& columns, Row& row) {
    const unsigned char* pixels = image.bgr + index * image.row_bytes;
    row.index = index;
    row.values.resize(kChannels * columns.size());
    std::int32_t* target = row.values.data();
    for (const Sample& column : columns) {
        const unsigned char* first = pixels + kChannels * static_cast<std::size_t>(column.first);
        const unsigned char* second = pixels + kChannels * static_cast<std::size_t>(column.second);
        for (int channel = 0; channel < kChannels; ++channel) {
            *target++ = first[channel] * column.first_weight + second[channel] * column.second_weight;
        }
    }
}

// Interpolates between two values of resized rows. Returns a gray level, with the intermediate shifts of OpenCV.
std::int32_t interpolate(std::int32_t above, std::int32_t below, const Sample& row) {
    return ((((above >> 4) * row.first_weight) >> 16) + (((below >> 4) * row.second_weight) >> 16) + 2) >> 2;
}

}  // namespace

ncnn::Mat preprocess(const PixelView& image, const InputFormat& format) {
    ncnn::Mat input(format.width, format.height, kChannels);
    if (input.empty()) {
        throw RunError("out of memory");
    }
    const std::vector<Sample> columns = axis_samples(image.width, format.width);
    const std::vector<Sample> rows = axis_samples(image.height, format.height);
    // Output rows often share image rows. Without this cache, a 640x480 image takes 1.0 ms instead of 0.7 ms at
    // 352x352. Two adjacent rows never have the same place in the cache.
    Row cache[2];
    const auto resized_row = [&](int index) {
        Row& row = cache[index % 2];
        if (row.index != index) {
            resize_row(image, index, columns, row);
        }
        return row.values.data();
    };
    for (int y = 0; y < format.height; ++y) {
        const std::int32_t* above = resized_row(rows[y].first);
        const std::int32_t* below = resized_row(rows[y].second);
        for (int channel = 0; channel < kChannels; ++channel) {
            float* target = input.channel(channel).row(y);
            for (int x = 0, i = channel; x < format.width; ++x, i += kChannels) {
                const auto level = static_cast<float>(interpolate(above[i], below[i], rows[y]));
                target[x] = (level - format.mean[channel]) * format.scale;
            }
        }
    }
    return input;
}

}  // namespace yolo_fastest
