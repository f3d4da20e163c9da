#include "network.h"

#include <datareader.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <sstream>

#include "files.h"

namespace yolo_fastest {

namespace fs = std::filesystem;

namespace {

constexpr int kParamMagic = 7767517;  // the first line of every .param file
constexpr int kMostLayers = 100000;

[[noreturn]] void fail(const fs::path& path, const std::string& problem) {
    throw InputError(path.string() + ": " + problem);
}

// The blobs' names of a .param file, after checking that the file is whole.
//
// NCNN itself leaks on a file that is cut short, and writes beyond its memory when a file names more blobs
// than it counts.
std::set<std::string> check_param(const fs::path& path, const std::string& text) {
    std::istringstream lines(text);
    int magic = 0, layers = 0, blobs = 0;
    if (!(lines >> magic) || magic != kParamMagic) {
        fail(path, "expected an NCNN .param file, beginning with " + std::to_string(kParamMagic));
    }
    if (!(lines >> layers >> blobs) || layers < 1 || blobs < 1 || layers > kMostLayers || blobs > kMostLayers) {
        fail(path, "line 2: expected the number of layers and of blobs");
    }
    std::set<std::string> names;
    std::string line;
    std::getline(lines, line);
    for (int i = 0; i < layers; ++i) {
        const std::string where = "line " + std::to_string(i + 3) + ": ";
        if (!std::getline(lines, line) || line.empty()) {
            fail(path, "expected " + std::to_string(layers) + " layers, got " + std::to_string(i) +
                           "; is the file cut short?");
        }
        std::istringstream words(line);
        std::string type, name, blob;
        int bottoms = 0, tops = 0;
        if (!(words >> type >> name >> bottoms >> tops) || bottoms < 0 || tops < 0) {
            fail(path, where + "expected a layer: type, name, number of inputs and of outputs");
        }
        for (int j = 0; j < bottoms; ++j) {
            if (!(words >> blob) || names.count(blob) == 0) {
                fail(path, where + "expected " + std::to_string(bottoms) + " outputs of earlier layers as inputs");
            }
        }
        for (int j = 0; j < tops; ++j) {
            if (!(words >> blob) || !names.insert(blob).second) {
                fail(path, where + "expected " + std::to_string(tops) + " outputs that no earlier layer has");
            }
        }
        for (std::string parameter; words >> parameter;) {
            if (parameter.find('=') == std::string::npos || parameter.back() == '=') {
                fail(path, where + "expected number=value, got '" + parameter + "'");
            }
        }
    }
    if (names.size() > static_cast<std::size_t>(blobs)) {
        fail(path,
             "line 2: expected at least " + std::to_string(names.size()) + " blobs, got " + std::to_string(blobs));
    }
    return names;
}

// The bytes of a .bin file for NCNN. Beyond the end they are zeros, and `wanted` tells of it: NCNN would print
// lines of its own if reading failed.
class WeightReader : public ncnn::DataReader {
  public:
    explicit WeightReader(const std::string& content) : content_(content) {}

    std::size_t read(void* target, std::size_t size) const override {
        const std::size_t there = std::min(size, content_.size() - std::min(wanted_, content_.size()));
        if (there > 0) {
            std::memcpy(target, content_.data() + wanted_, there);
        }
        std::memset(static_cast<char*>(target) + there, 0, size - there);
        wanted_ += size;
        return size;
    }

    std::size_t wanted() const { return wanted_; }

  private:
    const std::string& content_;
    mutable std::size_t wanted_ = 0;  // bytes; mutable because NCNN reads through a const reference
};

void load(ncnn::Net& net, const ModelFile& model) {
    const std::string param = read_file(model.param);
    const std::string bin = read_file(model.bin);
    const std::set<std::string> blobs = check_param(model.param, param);
    if (blobs.count(model.input.blob) == 0) {
        fail(model.param, "expected the input " + model.input.blob + ", as " + model.path.string() + " calls it");
    }
    for (const Scale& scale : model.scales) {
        if (blobs.count(scale.blob) == 0) {
            fail(model.param, "expected the output " + scale.blob + ", as " + model.path.string() + " calls it");
        }
    }
    if (net.load_param_mem(param.c_str()) != 0) {
        fail(model.param, "NCNN cannot load this file");
    }
    const WeightReader reader(bin);
    const int status = net.load_model(reader);
    if (reader.wanted() > bin.size()) {
        fail(model.bin, "is cut short: the network needs more than its " + std::to_string(bin.size()) + " bytes");
    }
    if (status != 0) {
        fail(model.bin, "NCNN cannot load this file");
    }
    if (reader.wanted() < bin.size()) {
        fail(model.bin, "expected " + std::to_string(reader.wanted()) + " bytes, as " + model.param.string() +
                            " says, got " + std::to_string(bin.size()));
    }
}

std::string shape(int rows, int columns, int values) {
    return std::to_string(rows) + "x" + std::to_string(columns) + "x" + std::to_string(values);
}

void check_output(const ncnn::Mat& output, const Scale& scale, const ModelFile& model) {
    const int rows = model.input.height / scale.stride, columns = model.input.width / scale.stride;
    const int anchors = static_cast<int>(scale.anchors.size()), names = static_cast<int>(model.names.size());
    const int classes = output.w - 5 * anchors;
    const bool fits = output.dims == 3 && output.elemsize == sizeof(float) && output.c == rows && output.h == columns;
    if (fits && classes > 0 && classes != names) {
        fail(model.path, "names: expected " + std::to_string(classes) + " names, one for each class of the network" +
                             " with " + std::to_string(anchors) + " anchors a scale, got " + std::to_string(names));
    }
    if (!fits || classes != names) {
        fail(model.param, "output " + scale.blob + ": expected " + shape(rows, columns, 5 * anchors + names) +
                              " values (rows, columns, 5 an anchor and the classes), as " + model.path.string() +
                              " says, got " + shape(output.c, output.h, output.w));
    }
}

}  // namespace

Network::Network(const ModelFile& model, int threads) : input_(model.input.blob) {
    if (threads < 1) {
        throw InputError("threads: expected 1 or more, got " + std::to_string(threads));
    }
    net_.opt.num_threads = threads;
    // Weights may be stored in 16 bits, but half-precision arithmetic would move the scores.
    net_.opt.use_fp16_packed = false;
    net_.opt.use_fp16_storage = false;
    net_.opt.use_fp16_arithmetic = false;
    net_.opt.use_bf16_storage = false;
    load(net_, model);

    for (const Scale& scale : model.scales) {
        outputs_.push_back(scale.blob);
    }
    ncnn::Mat black(model.input.width, model.input.height, 3);
    black.fill(0.f);
    const std::vector<ncnn::Mat> outputs = run(black);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        check_output(outputs[i], model.scales[i], model);
    }
}

std::vector<ncnn::Mat> Network::run(const ncnn::Mat& input) const {
    ncnn::Extractor extractor = net_.create_extractor();
    extractor.input(input_.c_str(), input);
    std::vector<ncnn::Mat> outputs(outputs_.size());
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        if (extractor.extract(outputs_[i].c_str(), outputs[i]) != 0) {
            throw RunError("NCNN cannot compute the output " + outputs_[i]);
        }
    }
    return outputs;
}

}  // namespace yolo_fastest
