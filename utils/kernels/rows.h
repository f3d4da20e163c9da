// Loops over the pixels of channels-last memory, `rows` pixels of `channels` floats each, on several threads.
//
// The pixels are gone through in spans of equal length. A channel's values are added up in float over a span and from
// there on in double, so that a sum over a million pixels is as exact as its values. The loops over channels are written
// for the compiler to vectorise; `omp simd` spares it a test at each pixel of whether what is read and written overlap.
#pragma once
#include <algorithm>
#include <cstring>
#include <vector>

constexpr long SPAN = 64;  // where nothing else asks for another length
constexpr int LANES = 8;   // floats that are computed at a time where it is said so
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float))));

inline Lanes load(const float *place) {
    Lanes values;
    std::memcpy(&values, place, sizeof values);  // at any address
    return values;
}

inline void store(float *place, Lanes values) { std::memcpy(place, &values, sizeof values); }

// Sums over all rows of two values a channel: `add(first, end, a, b, scratch)` adds those of the rows from `first` to
// before `end` to a[channels] and b[channels]; it may write to scratch[span · channels].
template <class Add>
std::vector<double> sum_rows(long rows, long span, long channels, int threads, Add add) {
    std::vector<double> sums(2 * channels * threads);
    const long spans = (rows + span - 1) / span;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        std::vector<float> some(2 * channels), scratch(span * channels);
        double *total = sums.data() + 2 * channels * part;
        for (long number = spans * part / threads; number < spans * (part + 1) / threads; number++) {
            std::fill(some.begin(), some.end(), 0.0f);
            add(number * span, std::min(rows, (number + 1) * span), some.data(), some.data() + channels,
                scratch.data());
            for (long c = 0; c < 2 * channels; c++) total[c] += some[c];
        }
    }
    for (int part = 1; part < threads; part++)
        for (long c = 0; c < 2 * channels; c++) sums[c] += sums[2 * channels * part + c];
    return sums;
}

// Calls `work(first, end, scratch)` for all spans of rows, as `sum_rows` does.
template <class Work>
void each_span(long rows, long span, long channels, int threads, Work work) {
    const long spans = (rows + span - 1) / span;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < threads; part++) {
        std::vector<float> scratch(span * channels);
        for (long number = spans * part / threads; number < spans * (part + 1) / threads; number++)
            work(number * span, std::min(rows, (number + 1) * span), scratch.data());
    }
}

// Calls `work(row)` for all rows.
template <class Work>
void each_row(long rows, int threads, Work work) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long row = 0; row < rows; row++) work(row);
}
