// BatchNorm over `rows` pixels of `channels` floats each: shared by the kernels with and without pooling.
#pragma once
#include <cmath>

#include "rows.h"

constexpr long SAMPLE = 64;  // pixels for the first estimate of the mean

// Normalizes a value. The backward pass computes it again and must get exactly the same result.
inline float normalize(float value, float mean, float scale, float bias) { return (value - mean) * scale + bias; }

// Computes mean, inverse = 1/σ and scale = weight/σ of each channel of x, and updates the running statistics.
//
// The sums are over x minus the mean of SAMPLE pixels, which keeps the variance exact if the mean is large.
inline void compute_statistics(const float *x, long rows, long channels, const float *weight, float *running_mean,
                    float *running_variance, float *mean, float *inverse, float *scale, float momentum, float epsilon,
                    int threads) {
    std::vector<float> sample_mean(channels);
    const long sample = rows < SAMPLE ? rows : SAMPLE;
    for (long index = 0; index < sample; index++)
        for (long c = 0; c < channels; c++) sample_mean[c] += x[(rows * index / sample) * channels + c] / sample;
    const float *origin = sample_mean.data();
    const auto add = [=](long first, long end, float *a, float *b, float *) {
        float *__restrict sum = a, *__restrict square = b;
        for (long row = first; row < end; row++) {
            const float *__restrict in = x + row * channels;
#pragma omp simd
            for (long c = 0; c < channels; c++) {
                const float value = in[c] - origin[c];
                sum[c] += value;
                square[c] += value * value;
            }
        }
    };
    const std::vector<double> sums = sum_rows(rows, SPAN, channels, threads, add);
    for (long c = 0; c < channels; c++) {
        const double offset = sums[c] / rows;
        // With the arguments in this order, std::max returns NaN if the variance is NaN.
        const double variance = std::max(sums[channels + c] / rows - offset * offset, 0.0);
        mean[c] = offset + origin[c];
        inverse[c] = 1 / std::sqrt(variance + epsilon);
        running_mean[c] += momentum * (mean[c] - running_mean[c]);
        running_variance[c] += momentum * (variance * rows / (rows > 1 ? rows - 1 : 1) - running_variance[c]);
        scale[c] = weight[c] * inverse[c];
    }
}

// Computes the gradients of x, weight and bias. `output_gradients(first, end, scratch)(row)`, with first ≤ row < end,
// returns the gradient of BatchNorm's output as a function of the channel.
template <class OutputGradients>
void compute_gradients(OutputGradients output_gradients, const float *x, long rows, long span, long channels,
                       const float *weight, const float *mean, const float *inverse, float *x_gradient,
                       float *weight_gradient, float *bias_gradient, int threads) {
    const auto add = [=](long first, long end, float *a, float *b, float *scratch) {
        const auto gradients = output_gradients(first, end, scratch);
        float *__restrict sum = a, *__restrict product = b;
        for (long row = first; row < end; row++) {
            const auto gradient = gradients(row);
            const float *__restrict in = x + row * channels;
#pragma omp simd
            for (long c = 0; c < channels; c++) {
                const float value = gradient(c);
                sum[c] += value;
                product[c] += value * (in[c] - mean[c]);
            }
        }
    };
    const std::vector<double> sums = sum_rows(rows, span, channels, threads, add);
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
    for_each_span(rows, span, channels, threads, [=](long first, long end, float *scratch) {
        const auto gradients = output_gradients(first, end, scratch);
        for (long row = first; row < end; row++) {
            const auto gradient = gradients(row);
            const float *__restrict in = x + row * channels;
            float *__restrict result = x_gradient + row * channels;
#pragma omp simd
            for (long c = 0; c < channels; c++)
                result[c] = gradient(c) * scale[c] + (in[c] - mean[c]) * slope[c] + shift[c];
        }
    });
}
