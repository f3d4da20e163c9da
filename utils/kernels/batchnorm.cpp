// BatchNorm, with ReLU behind it or not, on channels-last memory: `rows` pixels of `channels` floats each.
#include "batchnorm.h"

namespace {

template <bool RELU>
void forward(const float *x, float *y, long rows, long channels, const float *weight, const float *bias,
             float *running_mean, float *running_variance, float *mean, float *inverse, float momentum, float epsilon,
             int threads) {
    std::vector<float> factors(channels);
    float *scale = factors.data();
    measure(x, rows, channels, weight, running_mean, running_variance, mean, inverse, scale, momentum, epsilon,
            threads);
    each_row(rows, threads, [=](long row) {
        const float *__restrict in = x + row * channels;
        float *__restrict out = y + row * channels;
#pragma omp simd
        for (long c = 0; c < channels; c++) {
            const float value = normalise(in[c], mean[c], scale[c], bias[c]);
            out[c] = RELU && value < 0 ? 0 : value;  // so that what is not a number stays so
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
    const auto arriving = [=](long, long, float *) {
        return [=](long row) {
            const float *__restrict in = x + row * channels, *__restrict g = gradient + row * channels;
            return [=](long c) {
                const float value = normalise(in[c], mean[c], scale[c], bias[c]), arrived = g[c];
                return RELU && value <= 0 ? 0 : arrived;
            };
        };
    };
    propagate(arriving, x, rows, SPAN, channels, weight, mean, inverse, x_gradient, weight_gradient, bias_gradient,
              threads);
}

}  // namespace

// y = weight · (x − mean) / √(variance + epsilon) + bias; moves the running statistics; mean and 1/σ are for backward.
extern "C" void batchnorm_forward(const float *x, float *y, long rows, long channels, const float *weight,
                                  const float *bias, float *running_mean, float *running_variance, float *mean,
                                  float *inverse, float momentum, float epsilon, int relu, int threads) {
    (relu ? forward<true> : forward<false>)(x, y, rows, channels, weight, bias, running_mean, running_variance, mean,
                                            inverse, momentum, epsilon, threads);
}

// Gradients of x, weight and bias from y's. Where ReLU has cut it off is computed again: y need not be kept for that.
extern "C" void batchnorm_backward(const float *gradient, const float *x, long rows, long channels,
                                   const float *weight, const float *bias, const float *mean, const float *inverse,
                                   float *x_gradient, float *weight_gradient, float *bias_gradient, int relu,
                                   int threads) {
    (relu ? backward<true> : backward<false>)(gradient, x, rows, channels, weight, bias, mean, inverse, x_gradient,
                                              weight_gradient, bias_gradient, threads);
}
