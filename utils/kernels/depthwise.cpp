// Gradients of a depthwise convolution (one filter per channel, "same" padding) on channels-last memory.
//
// LANES channels are computed at a time, so that their sums over the taps of a filter, or over the pixels of a line,
// stay in registers. Sums over a line are in float, sums over lines in double.
#include "rows.h"

namespace {

struct Shape {
    long images, height, width, channels;  // of the input
    long rows, columns;                    // of the output
};

// Computes x's gradient at one pixel of a column with column % STRIDE = PARITY. `lines` are the lines of the output's
// gradient that each row of the filter reaches, or null. WHOLE: all taps lie inside the lines.
template <int KERNEL, int STRIDE, int PARITY, bool WHOLE>
inline __attribute__((always_inline)) void input_gradient_at(const float *const *lines, const float *taps, long column,
                                                    float *result, Shape shape) {
    const long channels = shape.channels;
    for (long first = 0; first < channels; first += LANES) {
        Lanes sum = {};
        for (int kernel_row = 0; kernel_row < KERNEL; kernel_row++) {
            if (!lines[kernel_row]) continue;
            for (int tap = 0; tap < KERNEL; tap++) {
                if ((PARITY + KERNEL / 2 + STRIDE * KERNEL - tap) % STRIDE) continue;
                const long col = (column + KERNEL / 2 - tap) / STRIDE;
                if (!WHOLE && (column + KERNEL / 2 < tap || col >= shape.columns)) continue;
                sum += load(lines[kernel_row] + col * channels + first) *
                       load(taps + (kernel_row * KERNEL + tap) * channels + first);
            }
        }
        store(result + first, sum);
    }
}

// Computes x's gradient: at each pixel, the sum over the outputs that depend on it.
template <int KERNEL, int STRIDE>
void input_gradient(const float *gradient, const float *taps, float *x_gradient, Shape shape, int threads) {
    const long channels = shape.channels;
    for_each_row(shape.images * shape.height, threads, [=](long line) {
        const long image = line / shape.height, row = line % shape.height;
        const float *lines[KERNEL] = {};
        for (int kernel_row = 0; kernel_row < KERNEL; kernel_row++) {
            const long r = row + KERNEL / 2 - kernel_row;
            if (r >= 0 && r % STRIDE == 0 && r / STRIDE < shape.rows)
                lines[kernel_row] = gradient + (image * shape.rows + r / STRIDE) * shape.columns * channels;
        }
        for (long column = 0; column < shape.width; column++) {
            float *result = x_gradient + (line * shape.width + column) * channels;
            const bool whole = column >= KERNEL / 2 && (column + KERNEL / 2) / STRIDE < shape.columns;
            const bool odd = column % STRIDE;
            if (whole && !odd) input_gradient_at<KERNEL, STRIDE, 0, true>(lines, taps, column, result, shape);
            if (whole && odd) input_gradient_at<KERNEL, STRIDE, 1, true>(lines, taps, column, result, shape);
            if (!whole && !odd) input_gradient_at<KERNEL, STRIDE, 0, false>(lines, taps, column, result, shape);
            if (!whole && odd) input_gradient_at<KERNEL, STRIDE, 1, false>(lines, taps, column, result, shape);
        }
    });
}

// Adds one line's part of the taps' gradients to total[tap][channels], for LANES channels.
template <int KERNEL, int STRIDE>
void add_line(const float *gradient, const float *x, long image, long row, long first, double *total, Shape shape) {
    const long channels = shape.channels;
    const float *out = gradient + (image * shape.rows + row) * shape.columns * channels + first;
    for (int kernel_row = 0; kernel_row < KERNEL; kernel_row++) {
        const long r = row * STRIDE - KERNEL / 2 + kernel_row;
        if (r < 0 || r >= shape.height) continue;
        const float *in = x + (image * shape.height + r) * shape.width * channels + first;
        Lanes sums[KERNEL] = {};
        const auto add = [&](long column, bool whole) __attribute__((always_inline)) {
            const Lanes arriving = load(out + column * channels);
            for (int tap = 0; tap < KERNEL; tap++) {
                const long col = column * STRIDE - KERNEL / 2 + tap;
                if (whole || (col >= 0 && col < shape.width)) sums[tap] += arriving * load(in + col * channels);
            }
        };
        // For columns begin ≤ column < end the whole filter lies inside the line.
        const long begin = std::min<long>((KERNEL / 2 + STRIDE - 1) / STRIDE, shape.columns);
        const long end = std::max(begin, std::min(shape.columns, (shape.width - 1 - KERNEL / 2) / STRIDE + 1));
        for (long column = 0; column < begin; column++) add(column, false);
        for (long column = begin; column < end; column++) add(column, true);
        for (long column = end; column < shape.columns; column++) add(column, false);
        for (int tap = 0; tap < KERNEL; tap++)
            for (int c = 0; c < LANES; c++) total[(kernel_row * KERNEL + tap) * channels + first + c] += sums[tap][c];
    }
}

template <int KERNEL, int STRIDE>
void taps_gradient(const float *gradient, const float *x, float *result, Shape shape, int threads) {
    const long size = KERNEL * KERNEL * shape.channels, lines = shape.images * shape.rows;
    std::vector<double> totals(size * threads);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++)
        for (long line = lines * part / threads; line < lines * (part + 1) / threads; line++)
            for (long first = 0; first < shape.channels; first += LANES)
                add_line<KERNEL, STRIDE>(gradient, x, line / shape.rows, line % shape.rows, first,
                                         totals.data() + size * part, shape);
    for (long index = 0; index < size; index++) {
        double sum = 0;
        for (int part = 0; part < threads; part++) sum += totals[size * part + index];
        result[index] = sum;
    }
}

template <int KERNEL, int STRIDE>
void backward(const float *gradient, const float *x, const float *taps, float *x_gradient, float *taps_result,
              Shape shape, int threads) {
    input_gradient<KERNEL, STRIDE>(gradient, taps, x_gradient, shape, threads);
    taps_gradient<KERNEL, STRIDE>(gradient, x, taps_result, shape, threads);
}

}  // namespace

// Gradients of x [images, height, width, channels] and of the filters as taps [kernel · kernel, channels].
//
// kernel: 3 or 5; stride: 1 or 2; channels: a multiple of LANES.
extern "C" void depthwise_backward(const float *gradient, const float *x, const float *taps, float *x_gradient,
                                   float *taps_result, long images, long height, long width, long channels,
                                   int kernel, int stride, int threads) {
    const Shape shape{images, height, width, channels, (height - 1) / stride + 1, (width - 1) / stride + 1};
    const auto chosen = kernel == 3 ? (stride == 1 ? backward<3, 1> : backward<3, 2>)
                                    : (stride == 1 ? backward<5, 1> : backward<5, 2>);
    chosen(gradient, x, taps, x_gradient, taps_result, shape, threads);
}
