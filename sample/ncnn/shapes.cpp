// Checks a .param file before NCNN loads it. NCNN trusts its files: a pad, kernel, scale or slice that does not fit makes
// it read and write out of bounds. So only the layers and parameters that pytorch2onnx.py writes are accepted, and the
// shapes of all blobs are computed from the input size.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <limits>
#include <map>
#include <sstream>
#include <type_traits>

#include "files.h"
#include "model.h"

namespace yolo_fastest {

namespace {

constexpr const char* kMagic = "7767517";  // the first line of every .param file
constexpr int kMaxLayers = 1000;           // NCNN recurses once per layer
constexpr int kMaxBlobs = 100000;
constexpr int kMaxChannels = 65536, kMaxKernel = 16, kMaxStride = 8, kMaxPad = 15, kMaxMargin = 8;
constexpr int kMaxScale = 4;
constexpr std::int64_t kMaxBytes = std::int64_t{1} << 30;
constexpr std::size_t kMaxWord = 255, kMaxNumber = 12;  // characters; NCNN splits longer ones
constexpr int kEqualPart = -233;                        // in a Slice

struct Blob {
    std::int64_t channels, height, width;
    bool is_int8 = false;
    bool has_reader = false;
};

std::string shape(const Blob& blob) {
    return std::to_string(blob.channels) + "x" + std::to_string(blob.height) + "x" + std::to_string(blob.width);
}

std::int64_t float_bytes(const Blob& blob) { return 4 * blob.channels * blob.height * blob.width; }

std::string range(int min, int max) {
    return min == max ? std::to_string(min) : std::to_string(min) + " to " + std::to_string(max);
}

// Reads an integer as NCNN does. Returns false if the text is anything else.
bool parse(const std::string& text, int& value) {
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    return error == std::errc() && stop == end && text.size() <= kMaxNumber;
}

// NCNN stores a number without a dot or an exponent as an integer, and may read its bits as a float.
bool parse(const std::string& text, float& value) {
    char* end = nullptr;
    value = std::strtof(text.c_str(), &end);
    return *end == '\0' && text.size() <= kMaxNumber && std::isfinite(value) &&
           text.find_first_of(".e") != std::string::npos &&
           text.find_first_not_of("0123456789.e+-") == std::string::npos;
}

std::vector<std::string> split(const std::string& line) {
    std::istringstream words(line);
    return {std::istream_iterator<std::string>(words), {}};
}

// One line of a .param file: type, name, number of inputs, number of outputs, inputs, outputs, key=value pairs.
class Layer {
  public:
    Layer(const std::string& location, const std::vector<std::string>& words) : location_(location) {
        int input_count = 0, output_count = 0;
        for (const std::string& word : words) {
            require(word.size() <= kMaxWord, "words of at most " + std::to_string(kMaxWord) + " characters",
                    std::to_string(word.size()));
        }
        require(words.size() >= 4 && parse(words[2], input_count) && parse(words[3], output_count) &&
                    std::min(input_count, output_count) >= 0 && std::max(input_count, output_count) <= kMaxBlobs &&
                    words.size() >= std::size_t{4} + input_count + output_count,
                "a type, a name and the inputs and outputs of a layer", std::to_string(words.size()) + " words");
        type = words[0];
        weights.layer = words[1];
        location_ += ": layer " + words[1];
        const auto first_output = words.begin() + 4 + input_count, first_param = first_output + output_count;
        inputs.assign(words.begin() + 4, first_output);
        outputs.assign(first_output, first_param);
        for (auto word = first_param; word != words.end(); ++word) {
            const std::size_t equals = word->find('=');
            int key = 0;
            require(equals != std::string::npos && parse(word->substr(0, equals), key) &&
                        params_.emplace(key, word->substr(equals + 1)).second,
                    "KEY=VALUE, each key once", *word);
        }
    }

    void require(bool valid, const std::string& expected, const std::string& got) const {
        yolo_fastest::require(valid, location_, expected, got);
    }

    // Removes a parameter and returns its value, or `fallback` if it is missing.
    template <typename Number>
    Number take(int key, Number fallback, int min, int max) {
        const std::string text = take_text(key);
        Number value = fallback;
        require((text.empty() || parse(text, value)) && value >= min && value <= max,
                std::to_string(key) + "=" + range(min, max) +
                    (std::is_floating_point_v<Number> ? ", with a decimal point" : ""),
                text.empty() ? "nothing" : text);
        return value;
    }

    std::string take_text(int key) {
        const auto param = params_.find(key);
        if (param == params_.end()) {
            return "";
        }
        std::string text = param->second;
        params_.erase(param);
        require(!text.empty(), "a value of parameter " + std::to_string(key), "nothing");
        return text;
    }

    // Throws InputError: some parameters were not taken.
    void require_no_more_params() const {
        if (!params_.empty()) {
            const auto& [key, value] = *params_.begin();
            require(false, "no parameter " + std::to_string(key), std::to_string(key) + "=" + value);
        }
    }

    std::string type;
    std::vector<std::string> inputs, outputs;  // names of blobs
    LayerWeights weights{};

  private:
    std::string location_;  // FILE:LINE: layer NAME
    std::map<int, std::string> params_;
};

// The functions below take the parameters of a layer that are not fixed, and replace the inputs by the outputs.
using Blobs = std::vector<Blob>;

void copy(Layer& layer, Blobs& blobs) { blobs.resize(layer.outputs.size(), blobs[0]); }

void pad(Layer& layer, Blobs& blobs) {
    blobs[0].height += layer.take(0, 0, 0, kMaxMargin) + layer.take(1, 0, 0, kMaxMargin);
    blobs[0].width += layer.take(2, 0, 0, kMaxMargin) + layer.take(3, 0, 0, kMaxMargin);
    layer.take(5, 0.f, -255, 255);  // the constant
}

// One axis of a convolution or pooling.
struct Window {
    int kernel, stride, pad_before, pad_after;
};

// Takes the parameters with these keys, and replaces the input side by the output side. The default of pad_after is
// pad_before.
Window slide(Layer& layer, const Window& keys, const Window& fallback, std::int64_t& side) {
    Window window{};
    window.kernel = layer.take(keys.kernel, fallback.kernel, 1, kMaxKernel);
    window.stride = layer.take(keys.stride, fallback.stride, 1, kMaxStride);
    window.pad_before = layer.take(keys.pad_before, fallback.pad_before, 0, kMaxPad);
    window.pad_after = layer.take(keys.pad_after, window.pad_before, 0, kMaxPad);
    const std::int64_t padded = side + window.pad_before + window.pad_after;
    layer.require(padded >= window.kernel, "a kernel of at most " + std::to_string(padded) + ", the padded input",
                  std::to_string(window.kernel));
    side = (padded - window.kernel) / window.stride + 1;
    return window;
}

constexpr Window kDefaultWindow = {0, 1, 0, 0};

void pool(Layer& layer, Blobs& blobs) {
    const Window across = slide(layer, {1, 2, 3, 14}, kDefaultWindow, blobs[0].width);
    slide(layer, {11, 12, 13, 15}, across, blobs[0].height);
}

// scale_term: value of parameter 8 of an int8 layer; 100 more if its output is int8.
void convolve(Layer& layer, Blob& blob, std::int64_t inputs_per_output, int scale_term) {
    blob.channels = layer.weights.outputs = layer.take(0, 0, 1, kMaxChannels);
    const Window across = slide(layer, {1, 3, 4, 15}, kDefaultWindow, blob.width);
    const Window down = slide(layer, {11, 13, 14, 16}, across, blob.height);
    const std::int64_t window_values = inputs_per_output * across.kernel * down.kernel;
    layer.weights.count = layer.take(6, 0, 1, std::numeric_limits<int>::max());
    layer.require(layer.weights.count == blob.channels * window_values,
                  "6=" + std::to_string(blob.channels * window_values), std::to_string(layer.weights.count));
    // NCNN may copy the window of each output pixel.
    layer.require(window_values * blob.height * blob.width <= kMaxBytes / 4, "at most 1 GiB of windows", "more");
    layer.weights.has_bias = layer.take(5, 0, 0, 1) == 1;
    const int scales = layer.take(8, 0, 0, 100 + scale_term), activation = layer.take(9, 0, 0, 4);
    layer.weights.is_int8 = scales != 0;
    blob.is_int8 = layer.weights.has_output_scale = scales > 100;
    layer.require(scales == 0 || scales % 100 == scale_term,
                  "8=" + std::to_string(scale_term) + " or " + std::to_string(100 + scale_term),
                  std::to_string(scales));
    layer.require(activation < 2 || activation == 4, "9=0, 1 (ReLU) or 4 (sigmoid)", std::to_string(activation));
}

void convolution(Layer& layer, Blobs& blobs) { convolve(layer, blobs[0], blobs[0].channels, 2); }

void depthwise(Layer& layer, Blobs& blobs) {
    const auto channels = static_cast<int>(blobs[0].channels);
    layer.take(7, 1, channels, channels);  // groups
    convolve(layer, blobs[0], 1, 1);
    layer.require(layer.weights.outputs == channels, "0=" + std::to_string(channels),
                  std::to_string(layer.weights.outputs));
}

void concat(Layer& layer, Blobs& blobs) {
    Blob output = blobs[0];
    output.channels = 0;
    for (const Blob& input : blobs) {
        layer.require(input.height == output.height && input.width == output.width,
                      "inputs with the sides of " + shape(blobs[0]), shape(input));
        output.channels += input.channels;
    }
    blobs = {output};
}

void slice(Layer& layer, Blobs& blobs) {
    const std::int64_t channels = blobs[0].channels;
    const int parts = static_cast<int>(layer.outputs.size());
    blobs.resize(parts, blobs[0]);
    const std::string text = layer.take_text(-23300);
    std::istringstream list(text);
    std::int64_t rest = channels;
    for (int i = 0; i <= parts; ++i) {
        std::string word;
        int count = 0;
        bool valid = std::getline(list, word, ',') && parse(word, count);
        if (i == 0) {
            valid = valid && count == parts;
        } else {
            Blob& output = blobs[i - 1];
            output.channels = count == kEqualPart ? rest / (parts + 1 - i) : count;
            rest -= output.channels;
            valid = valid && output.channels >= 1 && rest >= 0;
        }
        layer.require(valid, "-23300=" + std::to_string(parts) + " and the channels of each output", text);
    }
    layer.require(rest == 0 && list.eof(), "-23300=parts of " + std::to_string(channels) + " channels", text);
}

void shuffle(Layer& layer, Blobs& blobs) {
    const int groups = layer.take(0, 1, 1, kMaxChannels);
    layer.require(blobs[0].channels % groups == 0, "0=a divisor of " + std::to_string(blobs[0].channels),
                  std::to_string(groups));
}

void upsample(Layer& layer, Blobs& blobs) {
    // NCNN computes the sides in float.
    blobs[0].height = static_cast<std::int64_t>(blobs[0].height * layer.take(1, 1.f, 1, kMaxScale));
    blobs[0].width = static_cast<std::int64_t>(blobs[0].width * layer.take(2, 1.f, 1, kMaxScale));
}

void add(Layer& layer, Blobs& blobs) {
    layer.require(shape(blobs[0]) == shape(blobs[1]), "two inputs of the same shape",
                  shape(blobs[0]) + " and " + shape(blobs[1]));
    blobs.pop_back();
}

void permute(Layer&, Blobs& blobs) { blobs[0] = {blobs[0].height, blobs[0].width, blobs[0].channels}; }

// A parameter for which pytorch2onnx.py writes only one value.
struct FixedParam {
    int key, fallback, value;  // fallback: of NCNN, if the parameter is missing
};

constexpr int kAny = -1;  // any number of inputs or outputs, at least one

struct LayerType {
    int inputs, outputs;
    void (*compute)(Layer&, Blobs&);
    std::vector<FixedParam> fixed = {};
};

const std::map<std::string, LayerType> kLayerTypes = {
    {"BinaryOp", {2, 1, add, {{0, 0, 0}}}},                                // addition
    {"Concat", {kAny, 1, concat, {{0, 0, 0}}}},                            // along the channels
    {"Convolution", {1, 1, convolution, {{2, 1, 1}, {12, 1, 1}}}},         // dilation
    {"ConvolutionDepthWise", {1, 1, depthwise, {{2, 1, 1}, {12, 1, 1}}}},  // dilation
    {"Input", {0, 1, copy}},
    {"Interp", {1, 1, upsample, {{0, 0, 1}, {6, 0, 0}}}},  // nearest, corners not aligned
    {"Padding", {1, 1, pad, {{4, 0, 0}, {6, 0, 0}}}},      // the same constant for all channels
    {"Permute", {1, 1, permute, {{0, 0, 3}}}},             // height, width, channels
    {"Pooling", {1, 1, pool, {{0, 0, 0}, {5, 0, 1}}}},     // maximum, ignores an incomplete last window
    {"ReLU", {1, 1, copy}},
    {"ShuffleChannel", {1, 1, shuffle, {{1, 0, 0}}}},  // not reversed
    {"Sigmoid", {1, 1, copy}},
    {"Slice", {1, kAny, slice, {{1, 0, 0}}}},           // the channels
    {"Softmax", {1, 1, copy, {{0, 0, 0}, {1, 0, 1}}}},  // over the channels
    {"Split", {1, kAny, copy}},
};

// Computes the shapes of all blobs, one layer after the other.
class ShapeChecker {
  public:
    explicit ShapeChecker(const ModelFile& model) : model_(model) {}

    void add(Layer& layer) {
        const auto found = kLayerTypes.find(layer.type);
        layer.require(found != kLayerTypes.end(), "a layer type that pytorch2onnx.py writes", layer.type);
        const LayerType& type = found->second;
        require_count(layer, "inputs", type.inputs, layer.inputs.size());
        require_count(layer, "outputs", type.outputs, layer.outputs.size());
        Blobs blobs = read_inputs(layer);
        const bool reads_int8 = std::any_of(blobs.begin(), blobs.end(), [](const Blob& blob) { return blob.is_int8; });
        for (const auto& [key, fallback, value] : type.fixed) {
            layer.take(key, fallback, value, value);
        }
        type.compute(layer, blobs);
        layer.require_no_more_params();
        layer.require(!reads_int8 || layer.type == "Split" || layer.weights.is_int8, "a float input", "int8");
        for (std::size_t i = 0; i < blobs.size(); ++i) {
            layer.require(blobs[i].channels <= kMaxChannels, "at most " + std::to_string(kMaxChannels) + " channels",
                          std::to_string(blobs[i].channels));
            bytes_ += float_bytes(blobs[i]);
            layer.require(bytes_ <= kMaxBytes, "at most 1 GiB in all layers", "more");
            layer.require(blobs_.emplace(layer.outputs[i], blobs[i]).second, "a new output", layer.outputs[i]);
        }
    }

    std::size_t blob_count() const { return blobs_.size(); }

    // Compares the outputs of the network with the .json file.
    void check_outputs() const {
        for (const Scale& scale : model_.scales) {
            const auto output = blobs_.find(scale.blob);
            const std::string name = "the output " + scale.blob + " of " + model_.path.string();
            require(output != blobs_.end(), model_.param.string(), name, "none");
            require(!output->second.has_reader, model_.param.string(), name, "a blob that another layer reads");
            const Blob wanted{scale.rows, scale.columns, scale.values};
            require(shape(output->second) == shape(wanted) && !output->second.is_int8,
                    model_.path.string() + ": output " + scale.blob,
                    shape(wanted) + " (rows, columns, 5 values per anchor and 1 per class name)",
                    shape(output->second) + " from " + model_.param.string());
        }
    }

  private:
    static void require_count(const Layer& layer, const std::string& what, int expected, std::size_t got) {
        layer.require(expected == kAny ? got >= 1 : got == static_cast<std::size_t>(expected),
                      (expected == kAny ? "1 or more " : std::to_string(expected) + " ") + what, std::to_string(got));
    }

    // The input of an Input layer is the image. NCNN frees other blobs after their only reader.
    Blobs read_inputs(const Layer& layer) {
        if (layer.type == "Input") {
            layer.require(layer.outputs[0] == model_.input.blob,
                          "the input " + model_.input.blob + " of " + model_.path.string(), layer.outputs[0]);
            return {{3, model_.input.height, model_.input.width}};
        }
        Blobs inputs;
        for (const std::string& name : layer.inputs) {
            const auto blob = blobs_.find(name);
            layer.require(blob != blobs_.end() && !blob->second.has_reader,
                          "an output of an earlier layer that no other layer reads", name);
            inputs.push_back(blob->second);
            blob->second.has_reader = true;
        }
        return inputs;
    }

    const ModelFile& model_;
    std::map<std::string, Blob> blobs_;
    std::int64_t bytes_ = 0;
};

bool is_printable(const std::string& line) {
    return std::all_of(line.begin(), line.end(),
                       [](char c) { return (c >= ' ' && c <= '~') || c == '\t' || c == '\r'; });
}

}  // namespace

std::vector<LayerWeights> check_param(const ModelFile& model, const std::string& param) {
    std::vector<LayerWeights> weights;
    ShapeChecker shapes(model);
    std::istringstream lines(param);
    int layer_count = 0, blob_count = 0, layers = 0, line_number = 0;
    const auto where = [&](int number) { return model.param.string() + ":" + std::to_string(number); };
    for (std::string line; std::getline(lines, line);) {
        ++line_number;
        require(is_printable(line), where(line_number), line_number == 1 ? kMagic : "ASCII text", "other bytes");
        const std::vector<std::string> words = split(line);
        if (line_number == 1) {
            require(words == std::vector<std::string>{kMagic}, where(1), kMagic, "'" + line.substr(0, kMaxWord) + "'");
        } else if (line_number == 2) {
            require(words.size() == 2 && parse(words[0], layer_count) && parse(words[1], blob_count) &&
                        std::min(layer_count, blob_count) >= 1 && layer_count <= kMaxLayers && blob_count <= kMaxBlobs,
                    where(2), "the number of layers, 1 to " + std::to_string(kMaxLayers) + ", and of blobs",
                    "'" + line.substr(0, kMaxWord) + "'");
        } else if (!words.empty()) {
            Layer layer(where(line_number), words);
            shapes.add(layer);
            ++layers;
            if (layer.weights.count > 0) {
                weights.push_back(layer.weights);
            }
        }
    }
    require(line_number >= 2, where(line_number + 1), line_number == 0 ? kMagic : "the number of layers",
            "the end of the file");
    require(layers == layer_count, where(2), std::to_string(layer_count) + " layers", std::to_string(layers));
    require(shapes.blob_count() <= static_cast<std::size_t>(blob_count), where(2),
            std::to_string(shapes.blob_count()) + " blobs", std::to_string(blob_count));
    shapes.check_outputs();
    return weights;
}

}  // namespace yolo_fastest
