#include "preprocess.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

// The same grey levels as cv2.resize with INTER_LINEAR, bit by bit: training saw its rounding, and a level more or less
// moves scores by some hundredths. ncnn::Mat::from_pixels_resize is close to it, but reads outside the image when a
// side is a single pixel.

namespace yolo_fastest {

namespace {

constexpr int kChannels = 3;
constexpr int kWeightOne = 1 << 11;  // weights are whole numbers, in parts of this

// Where a pixel of the resized axis lies between two of the image's.
struct Sample {
    int first, second;  // may be the same
    int first_weight, second_weight;
};

// Pixels are areas, so it is their centres that are mapped.
std::vector<Sample> samples(int image_size, int size) {
    std::vector<Sample> result(size);
    const double factor = static_cast<double>(image_size) / size;
    for (int i = 0; i < size; ++i) {
        const auto position = static_cast<float>((i + 0.5) * factor - 0.5);
        const int first = static_cast<int>(std::floor(position));
        const float weight = position - static_cast<float>(first);
        result[i] = {std::clamp(first, 0, image_size - 1), std::clamp(first + 1, 0, image_size - 1),
                     static_cast<int>(std::lrint((1 - weight) * kWeightOne)),
                     static_cast<int>(std::lrint(weight * kWeightOne))};
    }
    return result;
}

// One row of the image, resized along x.
struct Row {
    int source = -1;                   // its number in the image
    std::vector<std::int32_t> values;  // width · 3, interleaved; grey levels · kWeightOne
};

void resize_row(const PixelView& image, int source, const std::vector<Sample>& columns, Row& row) {
    const unsigned char* pixels = image.bgr + source * image.row_bytes;
    std::int32_t* target = row.values.data();
    for (const Sample& column : columns) {
        const unsigned char* first = pixels + kChannels * static_cast<std::size_t>(column.first);
        const unsigned char* second = pixels + kChannels * static_cast<std::size_t>(column.second);
        for (int channel = 0; channel < kChannels; ++channel) {
            *target++ = first[channel] * column.first_weight + second[channel] * column.second_weight;
        }
    }
    row.source = source;
}

// Between two values of resized rows, as a grey level; shifted step by step as OpenCV does.
std::int32_t between(std::int32_t above, std::int32_t below, const Sample& sample) {
    const std::int32_t sum =
        (((above >> 4) * sample.first_weight) >> 16) + (((below >> 4) * sample.second_weight) >> 16);
    return (sum + 2) >> 2;
}

}  // namespace

ncnn::Mat to_input(const PixelView& image, const InputFormat& format) {
    ncnn::Mat input(format.width, format.height, kChannels);
    if (input.empty()) {
        throw RunError("out of memory");
    }
    const std::vector<Sample> columns = samples(image.width, format.width);
    const std::vector<Sample> rows = samples(image.height, format.height);
    const std::size_t length = static_cast<std::size_t>(kChannels) * format.width;
    Row upper, lower;
    upper.values.resize(length);
    lower.values.resize(length);
    for (int y = 0; y < format.height; ++y) {
        const Sample& sample = rows[y];
        // An enlarged image needs each of its rows several times.
        if (upper.source != sample.first && lower.source == sample.first) {
            std::swap(upper, lower);
        }
        if (upper.source != sample.first) {
            resize_row(image, sample.first, columns, upper);
        }
        if (lower.source != sample.second) {
            resize_row(image, sample.second, columns, lower);
        }
        for (int channel = 0; channel < kChannels; ++channel) {
            float* target = input.channel(channel).row(y);
            const std::int32_t* above = upper.values.data() + channel;
            const std::int32_t* below = lower.values.data() + channel;
            for (int x = 0; x < format.width; ++x) {
                const auto level = static_cast<float>(between(above[kChannels * x], below[kChannels * x], sample));
                target[x] = (level - format.mean[channel]) * format.scale;
            }
        }
    }
    return input;
}

}  // namespace yolo_fastest
