// The two kinds of failure.

#pragma once

#include <stdexcept>

namespace yolo_fastest {

// What was given cannot be used: a file, an option. The message names it and what was expected.
struct InputError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The input was fine but the run failed: disk full, out of memory.
struct RunError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

}  // namespace yolo_fastest
