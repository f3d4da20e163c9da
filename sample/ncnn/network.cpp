#include <datareader.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <sstream>

#include "files.h"
#include "model.h"

namespace yolo_fastest {

namespace fs = std::filesystem;

namespace {

constexpr int kParamMagic = 7767517;  // the first line of every .param file
constexpr int kMaxLayers = 100000;

void require(bool valid, const fs::path& path, const std::string& problem) {
    if (!valid) {
        throw InputError(path.string() + ": " + problem);
    }
}

// Checks one layer of a .param file, and adds its outputs to `blobs`.
bool add_layer(const std::string& line, std::set<std::string>& blobs) {
    std::istringstream words(line);
    std::string type, name, word;
    int input_count = 0, output_count = 0;
    bool valid = words >> type >> name >> input_count >> output_count && input_count >= 0 && output_count >= 0;
    for (int i = 0; valid && i < input_count; ++i) {
        valid = words >> word && blobs.count(word) == 1;
    }
    for (int i = 0; valid && i < output_count; ++i) {
        valid = words >> word && blobs.insert(word).second;
    }
    while (valid && words >> word) {
        valid = word.find('=') != std::string::npos && word.back() != '=';
    }
    return valid;
}

// Checks that a .param file is complete and consistent, and returns the names of its blobs.
//
// NCNN itself leaks memory on a truncated file, and writes out of bounds when a file has more blobs than its header
// says.
std::set<std::string> check_param(const fs::path& path, const std::string& text) {
    std::istringstream lines(text);
    std::string line;
    int magic = 0, layer_count = 0, blob_count = 0;
    require(lines >> magic && magic == kParamMagic, path,
            "expected an NCNN .param file that starts with " + std::to_string(kParamMagic));
    const auto in_range = [](int count) { return count >= 1 && count <= kMaxLayers; };
    require(lines >> layer_count >> blob_count && in_range(layer_count) && in_range(blob_count), path,
            "line 2: expected the number of layers and the number of blobs");
    std::getline(lines, line);
    std::set<std::string> blobs;
    for (int i = 0; i < layer_count; ++i) {
        require(std::getline(lines, line) && !line.empty(), path,
                "expected " + std::to_string(layer_count) + " layers, got " + std::to_string(i));
        require(add_layer(line, blobs), path,
                "line " + std::to_string(i + 3) + ": expected a layer with inputs of earlier layers and new outputs");
    }
    require(blobs.size() <= static_cast<std::size_t>(blob_count), path,
            "line 2: expected at least " + std::to_string(blobs.size()) + " blobs, got " + std::to_string(blob_count));
    return blobs;
}

// Passes the bytes of a .bin file to NCNN and counts the bytes that NCNN requests. Bytes after the end are zeros,
// because NCNN prints its own messages when a read fails.
class WeightReader : public ncnn::DataReader {
  public:
    explicit WeightReader(const std::string& content) : content_(content) {}

    std::size_t read(void* target, std::size_t size) const override {
        const std::size_t available = std::min(size, content_.size() - std::min(requested_, content_.size()));
        std::memset(target, 0, size);
        std::memcpy(target, content_.data() + (available > 0 ? requested_ : 0), available);
        requested_ += size;
        return size;
    }

    std::size_t requested() const { return requested_; }

  private:
    const std::string& content_;
    mutable std::size_t requested_ = 0;  // bytes; mutable because NCNN reads through a const reference
};

std::string shape(int rows, int columns, int values) {
    return std::to_string(rows) + "x" + std::to_string(columns) + "x" + std::to_string(values);
}

}  // namespace

void load_network(ncnn::Net& net, const ModelFile& model) {
    const std::string param = read_file(model.param);
    const std::string bin = read_file(model.bin);
    const std::set<std::string> blobs = check_param(model.param, param);
    const auto require_blob = [&](const std::string& kind, const std::string& name) {
        require(blobs.count(name) == 1, model.param,
                "expected the " + kind + " " + name + " of " + model.path.string());
    };
    require_blob("input", model.input.blob);
    for (const Scale& scale : model.scales) {
        require_blob("output", scale.blob);
    }
    require(net.load_param_mem(param.c_str()) == 0, model.param, "NCNN cannot load this file");
    const WeightReader reader(bin);
    const int status = net.load_model(reader);
    require(status == 0 || reader.requested() > bin.size(), model.bin, "NCNN cannot load this file");
    require(reader.requested() == bin.size(), model.bin,
            "expected " + std::to_string(reader.requested()) + " bytes for " + model.param.string() + ", got " +
                std::to_string(bin.size()));

    ncnn::Mat black(model.input.width, model.input.height, 3);
    black.fill(0.f);
    const std::vector<ncnn::Mat> outputs = run_network(net, model, black);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        const ncnn::Mat& output = outputs[i];
        const Scale& scale = model.scales[i];
        const int rows = model.input.height / scale.stride, columns = model.input.width / scale.stride;
        const auto values = static_cast<int>(5 * scale.anchors.size() + model.class_names.size());
        require(output.dims == 3 && output.elemsize == sizeof(float) && output.c == rows && output.h == columns &&
                    output.w == values,
                model.path,
                "output " + scale.blob + ": expected " + shape(rows, columns, values) +
                    " (rows, columns, 5 values per anchor and 1 per class name), got " +
                    shape(output.c, output.h, output.w) + " from " + model.param.string());
    }
}

std::vector<ncnn::Mat> run_network(const ncnn::Net& net, const ModelFile& model, const ncnn::Mat& input) {
    ncnn::Extractor extractor = net.create_extractor();
    extractor.input(model.input.blob.c_str(), input);
    std::vector<ncnn::Mat> outputs(model.scales.size());
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        if (extractor.extract(model.scales[i].blob.c_str(), outputs[i]) != 0) {
            throw RunError("NCNN cannot compute the output " + model.scales[i].blob);
        }
    }
    return outputs;
}

}  // namespace yolo_fastest
