// BatchNorm, with ReLU behind it or not, on channels-last memory: `rows` pixels of `channels` floats each.
//
// A channel's values are added up in float over BLOCK pixels and from there on in double, so that a sum over a million
// pixels is as exact as its values. Mean and variance are taken of x minus the mean of SAMPLE pixels, which keeps the
// variance exact where the mean is large. The loops over channels are written for the compiler to vectorise.
#include <cmath>
#include <vector>

namespace {

constexpr long BLOCK = 64;
constexpr long SAMPLE = 64;

// Sums over all rows of two values a channel: `add(row, a, b)` adds a row's to a[channels] and b[channels].
template <class Add>
std::vector<double> sum_rows(long rows, long channels, int threads, Add add) {
    std::vector<double> sums(2 * channels * threads);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        std::vector<float> block(2 * channels);
        double *total = sums.data() + 2 * channels * part;
        const long end = rows * (part + 1) / threads;
        for (long first = rows * part / threads; first < end; first += BLOCK) {
            std::fill(block.begin(), block.end(), 0.0f);
            for (long row = first; row < first + BLOCK && row < end; row++)
                add(row, block.data(), block.data() + channels);
            for (long c = 0; c < 2 * channels; c++) total[c] += block[c];
        }
    }
    for (int part = 1; part < threads; part++)
        for (long c = 0; c < 2 * channels; c++) sums[c] += sums[2 * channels * part + c];
    return sums;
}

// Calls `work(row)` for all rows.
template <class Work>
void each_row(long rows, int threads, Work work) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long row = 0; row < rows; row++) work(row);
}

template <bool RELU>
void forward(const float *x, float *y, long rows, long channels, const float *weight, const float *bias,
             float *running_mean, float *running_variance, float *mean, float *inverse, float momentum, float epsilon,
             int threads) {
    std::vector<float> near(channels);
    const long sample = rows < SAMPLE ? rows : SAMPLE;
    for (long number = 0; number < sample; number++)
        for (long c = 0; c < channels; c++) near[c] += x[(rows * number / sample) * channels + c] / sample;
    const float *origin = near.data();
    const std::vector<double> sums = sum_rows(rows, channels, threads, [=](long row, float *a, float *b) {
        const float *__restrict in = x + row * channels;
        float *__restrict sum = a, *__restrict square = b;
        for (long c = 0; c < channels; c++) {
            const float value = in[c] - origin[c];
            sum[c] += value;
            square[c] += value * value;
        }
    });
    std::vector<float> factors(channels);
    float *scale = factors.data();
    for (long c = 0; c < channels; c++) {
        const double offset = sums[c] / rows;
        const double variance = std::fmax(0.0, sums[channels + c] / rows - offset * offset);
        mean[c] = offset + origin[c];
        inverse[c] = 1 / std::sqrt(variance + epsilon);
        running_mean[c] += momentum * (mean[c] - running_mean[c]);
        running_variance[c] += momentum * (variance * rows / (rows > 1 ? rows - 1 : 1) - running_variance[c]);
        scale[c] = weight[c] * inverse[c];
    }
    each_row(rows, threads, [=](long row) {
        const float *__restrict in = x + row * channels;
        float *__restrict out = y + row * channels;
        for (long c = 0; c < channels; c++) {
            const float value = (in[c] - mean[c]) * scale[c] + bias[c];
            out[c] = RELU && value < 0 ? 0 : value;  // so that what is not a number stays so
        }
    });
}

template <bool RELU>
void backward(const float *gradient, const float *x, const float *y, long rows, long channels, const float *weight,
              const float *mean, const float *inverse, float *x_gradient, float *weight_gradient, float *bias_gradient,
              int threads) {
    const std::vector<double> sums = sum_rows(rows, channels, threads, [=](long row, float *a, float *b) {
        const float *__restrict in = x + row * channels, *__restrict out = y + row * channels;
        const float *__restrict g = gradient + row * channels;
        float *__restrict sum = a, *__restrict product = b;
        for (long c = 0; c < channels; c++) {
            const float value = RELU && out[c] == 0 ? 0 : g[c];
            sum[c] += value;
            product[c] += value * (in[c] - mean[c]);
        }
    });
    // dx = weight/σ · (g − mean(g) − (x − mean)/σ² · mean(g · (x − mean))) = scale · g + slope · (x − mean) + shift
    std::vector<float> factors(3 * channels);
    float *scale = factors.data(), *slope = scale + channels, *shift = slope + channels;
    for (long c = 0; c < channels; c++) {
        const double factor = double(weight[c]) * inverse[c];
        const double along = sums[channels + c] / rows * inverse[c] * inverse[c];
        weight_gradient[c] = sums[channels + c] * inverse[c];
        bias_gradient[c] = sums[c];
        scale[c] = factor;
        slope[c] = -factor * along;
        shift[c] = -factor * (sums[c] / rows);
    }
    each_row(rows, threads, [=](long row) {
        const float *__restrict in = x + row * channels, *__restrict out = y + row * channels;
        const float *__restrict g = gradient + row * channels;
        float *__restrict result = x_gradient + row * channels;
        for (long c = 0; c < channels; c++) {
            const float value = RELU && out[c] == 0 ? 0 : g[c];
            result[c] = value * scale[c] + (in[c] - mean[c]) * slope[c] + shift[c];
        }
    });
}

}  // namespace

// y = weight · (x − mean) / √(variance + epsilon) + bias; moves the running statistics; mean and 1/σ are for backward.
extern "C" void batchnorm_forward(const float *x, float *y, long rows, long channels, const float *weight,
                                  const float *bias, float *running_mean, float *running_variance, float *mean,
                                  float *inverse, float momentum, float epsilon, int relu, int threads) {
    (relu ? forward<true> : forward<false>)(x, y, rows, channels, weight, bias, running_mean, running_variance, mean,
                                            inverse, momentum, epsilon, threads);
}

// Gradients of x, weight and bias from y's; with ReLU, y shows where the gradient ends.
extern "C" void batchnorm_backward(const float *gradient, const float *x, const float *y, long rows, long channels,
                                   const float *weight, const float *mean, const float *inverse, float *x_gradient,
                                   float *weight_gradient, float *bias_gradient, int relu, int threads) {
    (relu ? backward<true> : backward<false>)(gradient, x, y, rows, channels, weight, mean, inverse, x_gradient,
                                              weight_gradient, bias_gradient, threads);
}
