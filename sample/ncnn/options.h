// The demo's command line.

#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace yolo_fastest {

struct Options {
    bool help = false;  // nothing else is set then
    std::string model;  // NAME.json or NAME.ncnn.param
    std::string what;   // a picture, a folder or the number of a camera
    std::filesystem::path output = "result";
    std::optional<double> conf, iou;  // the model's own if not given
    int threads = 1;
    int bench = 0;  // runs; 0: none
};

// Throws InputError: an option is unknown, has no value or a wrong one, or too few or many things are named.
Options parse_options(int count, const char* const* words);

// What --help prints.
std::string help_text();

}  // namespace yolo_fastest
