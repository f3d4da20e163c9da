// BatchNorm, ReLU and max pooling (3×3, stride 2, padding 1) in one, on channels-last memory.
//
// What lies between the three, four times as large as the result, is never written: only which of the nine pixels of
// a window was the largest.
#include <cstdint>
#include <limits>

#include "batchnorm.h"

namespace {

constexpr int KERNEL = 3, STRIDE = 2, PADDING = 1;
constexpr uint8_t NONE = 255;  // no pixel of a window that ReLU has made 0 gets a gradient

long pooled(long size) { return (size + 2 * PADDING - KERNEL) / STRIDE + 1; }

typedef int Marks __attribute__((vector_size(LANES * sizeof(int))));

// Marks of LANES channels.
Marks load_marks(const uint8_t *place) {
    typedef uint8_t Bytes __attribute__((vector_size(LANES)));
    Bytes values;
    std::memcpy(&values, place, sizeof values);
    return __builtin_convertvector(values, Marks);
}

}  // namespace

// y [images, ⌈height/2⌉, ⌈width/2⌉, channels] from x [images, height, width, channels]; `largest` is for backward.
extern "C" void batchnorm_pool_forward(const float *x, float *y, uint8_t *largest, long images, long height,
                                       long width, long channels, const float *weight, const float *bias,
                                       float *running_mean, float *running_variance, float *mean, float *inverse,
                                       float momentum, float epsilon, int threads) {
    std::vector<float> factors(channels);
    float *scale = factors.data();
    measure(x, images * height * width, channels, weight, running_mean, running_variance, mean, inverse, scale,
            momentum, epsilon, threads);
    const long rows = pooled(height), columns = pooled(width);
    each_row(images * rows, threads, [=](long line) {
        const long image = line / rows, row = line % rows;
        std::vector<int> numbers(channels);
        int *__restrict best = numbers.data();
        for (long column = 0; column < columns; column++) {
            float *__restrict out = y + (line * columns + column) * channels;
            for (long c = 0; c < channels; c++) out[c] = -std::numeric_limits<float>::infinity(), best[c] = NONE;
            for (int tap = 0; tap < KERNEL * KERNEL; tap++) {
                const long r = row * STRIDE - PADDING + tap / KERNEL, col = column * STRIDE - PADDING + tap % KERNEL;
                if (r < 0 || r >= height || col < 0 || col >= width) continue;
                const float *__restrict in = x + ((image * height + r) * width + col) * channels;
#pragma omp simd
                for (long c = 0; c < channels; c++) {
                    const float value = normalise(in[c], mean[c], scale[c], bias[c]);
                    const bool larger = value > out[c] || value != value;  // what is not a number stays so
                    out[c] = larger ? value : out[c];
                    best[c] = larger ? tap : best[c];
                }
            }
            uint8_t *__restrict marks = largest + (line * columns + column) * channels;
            for (long c = 0; c < channels; c++) {
                const bool cut = out[c] <= 0;
                out[c] = cut ? 0 : out[c];
                marks[c] = cut ? NONE : best[c];
            }
        }
    });
}

// Gradients of x, weight and bias from y's; channels are a multiple of LANES.
extern "C" void batchnorm_pool_backward(const float *gradient, const float *x, const uint8_t *largest, long images,
                                        long height, long width, long channels, const float *weight,
                                        const float *mean, const float *inverse, float *x_gradient,
                                        float *weight_gradient, float *bias_gradient, int threads) {
    const long rows = pooled(height), columns = pooled(width);
    const auto arriving = [=](long first, long, float *scratch) {
        const long image = first / width / height, row = first / width % height;
        std::fill(scratch, scratch + width * channels, 0.0f);
        // An even row is the middle one of a window; an odd one is the last of a window and the first of the next.
        for (long r = row / STRIDE; r <= (row + 1) / STRIDE && r < rows; r++) {
            const int number = (row - r * STRIDE + PADDING) * KERNEL;  // of the row's first pixel in the window
            for (long column = 0; column < columns; column++)
                for (long c = 0; c < channels; c += LANES) {
                    const long place = ((image * rows + r) * columns + column) * channels + c;
                    const Lanes arrived = load(gradient + place);
                    const Marks marks = load_marks(largest + place);
                    for (int tap = 0; tap < KERNEL; tap++) {
                        const long col = column * STRIDE - PADDING + tap;
                        if (col < 0 || col >= width) continue;
                        float *sum = scratch + col * channels + c;
                        store(sum, load(sum) + (marks == number + tap ? arrived : Lanes{}));
                    }
                }
        }
        return [=](long pixel) {
            const float *__restrict g = scratch + (pixel - first) * channels;
            return [=](long c) { return g[c]; };
        };
    };
    propagate(arriving, x, images * height * width, width, channels, weight, mean, inverse, x_gradient,
              weight_gradient, bias_gradient, threads);
}
