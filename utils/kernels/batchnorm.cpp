// BatchNorm with or without ReLU on channels-last memory: `rows` pixels of `channels` floats each.
#include "batchnorm.h"

namespace {

template <bool RELU>
void forward(const float *x, float *y, long rows, long channels, const float *weight, const float *bias,
             float *running_mean, float *running_variance, float *mean, float *inverse, float momentum, float epsilon,
             int threads) {
    std::vector<float> factors(channels);
    float *scale = factors.data();
    compute_statistics(x, rows, channels, weight, running_mean, running_variance, mean, inverse, scale, momentum,
                       epsilon, threads);
    for_each_row(rows, threads, [=](long row) {
        const float *__restrict in = x + row * channels;
        float *__restrict out = y + row * channels;
#pragma omp simd
        for (long c = 0; c < channels; c++) {
            const float value = normalize(in[c], mean[c], scale[c], bias[c]);
            out[c] = RELU && value < 0 ? 0 : value;  // keeps NaN
        }
    });
}

template <bool RELU>
void backward(const float *gradient, const float *x, long rows, long channels, const float *weight, const float *bias,
              const float *mean, const float *inverse, float *x_gradient, float *weight_gradient, float *bias_gradient,
              int threads) {
    std::vector<float> factors(channels);
    float *scale = factors.data();
    for (long c = 0; c < channels; c++) scale[c] = weight[c] * inverse[c];
    const auto output_gradients = [=](long, long, float *) {
        return [=](long row) {
            const float *__restrict in = x + row * channels, *__restrict g = gradient + row * channels;
            return [=](long c) {
                const float value = normalize(in[c], mean[c], scale[c], bias[c]), arriving = g[c];
                return RELU && value <= 0 ? 0 : arriving;
            };
        };
    };
    compute_gradients(output_gradients, x, rows, SPAN, channels, weight, mean, inverse, x_gradient, weight_gradient,
                      bias_gradient, threads);
}

}  // namespace

// y = weight · (x − mean) / √(variance + epsilon) + bias; updates the running statistics; stores mean and inverse = 1/σ
// for the backward pass.
extern "C" void batchnorm_forward(const float *x, float *y, long rows, long channels, const float *weight,
                                  const float *bias, float *running_mean, float *running_variance, float *mean,
                                  float *inverse, float momentum, float epsilon, int relu, int threads) {
    (relu ? forward<true> : forward<false>)(x, y, rows, channels, weight, bias, running_mean, running_variance, mean,
                                            inverse, momentum, epsilon, threads);
}

// Gradients of x, weight and bias from those of y. The output before ReLU is computed again, so y need not be saved.
extern "C" void batchnorm_backward(const float *gradient, const float *x, long rows, long channels,
                                   const float *weight, const float *bias, const float *mean, const float *inverse,
                                   float *x_gradient, float *weight_gradient, float *bias_gradient, int relu,
                                   int threads) {
    (relu ? backward<true> : backward<false>)(gradient, x, rows, channels, weight, bias, mean, inverse, x_gradient,
                                              weight_gradient, bias_gradient, threads);
}
