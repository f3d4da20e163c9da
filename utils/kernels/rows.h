// Multithreaded loops over channels-last memory: `rows` pixels of `channels` floats each.
//
// The loops process spans of equal length. Values of a channel are added up in float within a span and in double over
// the spans, so that a sum over a million pixels is as exact as its values. The compiler vectorizes the loops over
// channels; because of `omp simd` it does not check at each pixel whether inputs and outputs overlap.
#pragma once
#include <algorithm>
#include <cstring>
#include <vector>

constexpr long SPAN = 64;  // pixels per span, unless a kernel needs another length
constexpr int LANES = 8;   // floats in a vector
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float))));

inline Lanes load(const float *address) {
    Lanes values;
    std::memcpy(&values, address, sizeof values);  // the address may be unaligned
    return values;
}

inline void store(float *address, Lanes values) { std::memcpy(address, &values, sizeof values); }

// Returns the sums over all rows of two values per channel. `add(first, end, a, b, scratch)` adds the values of the
// rows first ≤ row < end to a[channels] and b[channels]; it may write to scratch[span · channels].
template <class Add>
std::vector<double> sum_rows(long rows, long span, long channels, int threads, Add add) {
    std::vector<double> sums(2 * channels * threads);
    const long spans = (rows + span - 1) / span;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        std::vector<float> partial(2 * channels), scratch(span * channels);
        double *total = sums.data() + 2 * channels * part;
        for (long index = spans * part / threads; index < spans * (part + 1) / threads; index++) {
            std::fill(partial.begin(), partial.end(), 0.0f);
            add(index * span, std::min(rows, (index + 1) * span), partial.data(), partial.data() + channels,
                scratch.data());
            for (long c = 0; c < 2 * channels; c++) total[c] += partial[c];
        }
    }
    for (int part = 1; part < threads; part++)
        for (long c = 0; c < 2 * channels; c++) sums[c] += sums[2 * channels * part + c];
    return sums;
}

// Calls `work(first, end, scratch)` for all spans of rows; the arguments are as in `sum_rows`.
template <class Work>
void for_each_span(long rows, long span, long channels, int threads, Work work) {
    const long spans = (rows + span - 1) / span;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        std::vector<float> scratch(span * channels);
        for (long index = spans * part / threads; index < spans * (part + 1) / threads; index++)
            work(index * span, std::min(rows, (index + 1) * span), scratch.data());
    }
}

// Calls `work(row)` for all rows.
template <class Work>
void for_each_row(long rows, int threads, Work work) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long row = 0; row < rows; row++) work(row);
}
