// Internal interface of the library: the exported model, and the stages of Detector::detect up to the network.

#pragma once

#include <net.h>

#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include "detector.h"

namespace yolo_fastest {

// How an image is converted to the network input.
struct InputFormat {
    std::string blob;           // name of the input in the .param file
    int width, height;          // pixels
    float scale;                // value = (pixel - mean) * scale
    std::array<float, 3> mean;  // of blue, green and red, 0 to 255
};

struct Anchor {
    float width, height;  // input pixels
};

// One output of the network.
struct Scale {
    std::string blob;  // name of the output in the .param file
    int stride = 0;    // input pixels per cell
    std::vector<Anchor> anchors;
    int rows = 0, columns = 0;  // cells
    int values = 0;             // per cell
};

// The content of NAME.json.
struct ModelFile {
    std::filesystem::path path;  // of the .json file itself
    std::filesystem::path param, bin;
    std::vector<std::string> class_names;
    InputFormat input;
    std::vector<Scale> scales;
    Thresholds thresholds;
};

// Reads and checks NAME.json. `path` may also be NAME.ncnn.param in the same folder.
// Throws InputError: the file or a key is missing, or a value is invalid.
ModelFile read_model_file(const std::filesystem::path& path);

// Weights of one convolution in the .bin file.
struct LayerWeights {
    std::string layer;  // name
    int count;          // values of all kernels
    int outputs;        // channels
    bool has_bias, is_int8, has_output_scale;
};

// Checks a .param file, given as text, for the input size and outputs of the .json file. Returns the weights that the
// .bin file must contain, in this order. Throws InputError.
std::vector<LayerWeights> check_param(const ModelFile& model, const std::string& param);

// Loads and checks the .param and .bin files.
// Throws InputError: a file is missing, truncated or does not match the .json file.
void load_network(ncnn::Net& net, const ModelFile& model);

// Returns one output per scale, with one channel per row of cells and one row per cell. The values of a cell are 4 * A
// box values (all four of an anchor are adjacent), A objectness values and the class probabilities, all from 0 to 1.
// Throws RunError: NCNN fails.
std::vector<ncnn::Mat> run_network(const ncnn::Net& net, const ModelFile& model, const ncnn::Mat& input);

// Resizes an image without keeping its aspect ratio, and normalizes it. Returns 3 channels, blue first.
ncnn::Mat preprocess(const PixelView& image, const InputFormat& format);

}  // namespace yolo_fastest
