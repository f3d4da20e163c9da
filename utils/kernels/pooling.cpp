// BatchNorm, ReLU and max pooling (3×3, stride 2, padding 1) in one step on channels-last memory.
//
// The intermediate results, four times as large as the output, are not written to memory. Only the index of the largest
// of the nine pixels of each window is stored.
#include <cstdint>
#include <limits>

#include "batchnorm.h"

namespace {

constexpr int KERNEL = 3, STRIDE = 2, PADDING = 1;
constexpr uint8_t NONE = 255;  // the window's maximum is not positive: ReLU stops its gradient

long pooled_size(long size) { return (size + 2 * PADDING - KERNEL) / STRIDE + 1; }

typedef int Indices __attribute__((vector_size(LANES * sizeof(int))));

// Loads the indices of LANES channels.
Indices load_indices(const uint8_t *address) {
    typedef uint8_t Bytes __attribute__((vector_size(LANES)));
    Bytes values;
    std::memcpy(&values, address, sizeof values);
    return __builtin_convertvector(values, Indices);
}

}  // namespace

// y [images, ⌈height/2⌉, ⌈width/2⌉, channels] from x [images, height, width, channels]; `argmax` is for backward.
extern "C" void batchnorm_pool_forward(const float *x, float *y, uint8_t *argmax, long images, long height,
                                       long width, long channels, const float *weight, const float *bias,
                                       float *running_mean, float *running_variance, float *mean, float *inverse,
                                       float momentum, float epsilon, int threads) {
    std::vector<float> factors(channels);
    float *scale = factors.data();
    compute_statistics(x, images * height * width, channels, weight, running_mean, running_variance, mean, inverse,
                       scale, momentum, epsilon, threads);
    const long rows = pooled_size(height), columns = pooled_size(width);
    for_each_row(images * rows, threads, [=](long line) {
        const long image = line / rows, row = line % rows;
        std::vector<int> indices(channels);
        int *__restrict best = indices.data();
        for (long column = 0; column < columns; column++) {
            float *__restrict out = y + (line * columns + column) * channels;
            for (long c = 0; c < channels; c++) out[c] = -std::numeric_limits<float>::infinity(), best[c] = NONE;
            for (int tap = 0; tap < KERNEL * KERNEL; tap++) {
                const long r = row * STRIDE - PADDING + tap / KERNEL, col = column * STRIDE - PADDING + tap % KERNEL;
                if (r < 0 || r >= height || col < 0 || col >= width) continue;
                const float *__restrict in = x + ((image * height + r) * width + col) * channels;
#pragma omp simd
                for (long c = 0; c < channels; c++) {
                    const float value = normalize(in[c], mean[c], scale[c], bias[c]);
                    const bool larger = value > out[c] || value != value;  // keeps NaN
                    out[c] = larger ? value : out[c];
                    best[c] = larger ? tap : best[c];
                }
            }
            uint8_t *__restrict stored = argmax + (line * columns + column) * channels;
            for (long c = 0; c < channels; c++) {
                const bool cut = out[c] <= 0;
                out[c] = cut ? 0 : out[c];
                stored[c] = cut ? NONE : best[c];
            }
        }
    });
}

// Gradients of x, weight and bias from those of y; channels must be a multiple of LANES.
extern "C" void batchnorm_pool_backward(const float *gradient, const float *x, const uint8_t *argmax, long images,
                                        long height, long width, long channels, const float *weight,
                                        const float *mean, const float *inverse, float *x_gradient,
                                        float *weight_gradient, float *bias_gradient, int threads) {
    const long rows = pooled_size(height), columns = pooled_size(width);
    const auto output_gradients = [=](long first, long, float *scratch) {
        const long image = first / width / height, row = first / width % height;
        std::fill(scratch, scratch + width * channels, 0.0f);
        // An even row is the middle row of one window, an odd row the last of one window and the first of the next.
        for (long r = row / STRIDE; r <= (row + 1) / STRIDE && r < rows; r++) {
            const int row_index = (row - r * STRIDE + PADDING) * KERNEL;  // of the row's first pixel in the window
            for (long column = 0; column < columns; column++)
                for (long c = 0; c < channels; c += LANES) {
                    const long offset = ((image * rows + r) * columns + column) * channels + c;
                    const Lanes arriving = load(gradient + offset);
                    const Indices largest = load_indices(argmax + offset);
                    for (int tap = 0; tap < KERNEL; tap++) {
                        const long col = column * STRIDE - PADDING + tap;
                        if (col < 0 || col >= width) continue;
                        float *sum = scratch + col * channels + c;
                        store(sum, load(sum) + (largest == row_index + tap ? arriving : Lanes{}));
                    }
                }
        }
        return [=](long pixel) {
            const float *__restrict g = scratch + (pixel - first) * channels;
            return [=](long c) { return g[c]; };
        };
    };
    compute_gradients(output_gradients, x, images * height * width, width, channels, weight, mean, inverse, x_gradient,
                      weight_gradient, bias_gradient, threads);
}
