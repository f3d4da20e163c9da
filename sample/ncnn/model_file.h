// NAME.json: what the exporter says of a network beside its weights.

#pragma once

#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include "detector.h"

namespace yolo_fastest {

// How an image becomes the network's input.
struct InputFormat {
    std::string blob;           // the input's name in the .param file
    int width, height;          // pixels
    float scale;                // value = (pixel − mean) · scale
    std::array<float, 3> mean;  // of blue, green, red, in grey levels
};

struct Anchor {
    float width, height;  // pixels of the input
};

// One of the network's outputs.
struct Scale {
    std::string blob;  // the output's name in the .param file
    int stride;        // pixels of the input a cell
    std::vector<Anchor> anchors;
};

struct ModelFile {
    std::filesystem::path path;  // of the .json file itself
    std::filesystem::path param, bin;
    std::vector<std::string> names;  // of the classes
    InputFormat input;
    std::vector<Scale> scales;
    Thresholds thresholds;
};

// Reads and checks the file.
//
// path: of the .json file, or of NAME.ncnn.param beside it.
// Throws InputError: it is missing, or something in it is missing or not what it has to be.
ModelFile read_model_file(const std::filesystem::path& path);

}  // namespace yolo_fastest
