#include <datareader.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "files.h"
#include "model.h"

namespace yolo_fastest {

namespace {

constexpr std::uint32_t kFloat32 = 0, kFloat16 = 0x01306B47, kInt8 = 0x000D4B38;  // the tag before each kernel

template <typename Number>
Number value(const char* bytes) {
    Number number;
    std::memcpy(&number, bytes, sizeof(number));
    return number;
}

// size: bytes per value, 4 (float32) or 2 (float16).
bool are_finite(const char* values, std::size_t count, std::size_t size) {
    for (std::size_t i = 0; i < count; ++i) {
        const char* bytes = values + size * i;
        if (!std::isfinite(size == 4 ? value<float>(bytes) : ncnn::float16_to_float32(value<std::uint16_t>(bytes)))) {
            return false;
        }
    }
    return true;
}

// Passes the bytes of a .bin file to NCNN.
class WeightReader : public ncnn::DataReader {
  public:
    WeightReader(const ModelFile& model, const std::string& bytes) : model_(model), bytes_(bytes) {}

    // Checks the lengths of all weights, and that they are finite.
    void check(const std::vector<LayerWeights>& layers) {
        for (const LayerWeights& layer : layers) {
            check(layer);
        }
        require(offset_ == bytes_.size(), model_.bin.string(),
                std::to_string(offset_) + " bytes for " + model_.param.string(), std::to_string(bytes_.size()));
        offset_ = 0;
    }

    std::size_t read(void* target, std::size_t size) const override {
        size = std::min(size, bytes_.size() - offset_);
        std::memcpy(target, bytes_.data() + offset_, size);
        offset_ += size;
        return size;
    }

  private:
    void check(const LayerWeights& layer) const {
        const auto tag = value<std::uint32_t>(take(layer, sizeof(std::uint32_t)));
        const std::size_t size = tag == kFloat32 ? 4 : tag == kFloat16 ? 2 : tag == kInt8 ? 1 : 0;
        require(size != 0 && (size == 1) == layer.is_int8, where(layer),
                layer.is_int8 ? "int8 weights" : "float32 or float16 weights", "tag " + std::to_string(tag));
        const std::size_t count = layer.count, outputs = layer.outputs;
        const char* kernels = take(layer, (size * count + 3) / 4 * 4);
        // The biases, one scale per output channel, the scale of the input, and the scale of the output.
        const std::size_t float_count =
            layer.has_bias * outputs + (layer.is_int8 ? outputs + 1 : 0) + (layer.has_output_scale ? 1 : 0);
        const bool finite = are_finite(take(layer, sizeof(float) * float_count), float_count, sizeof(float)) &&
                            (layer.is_int8 || are_finite(kernels, count, size));
        require(finite, where(layer), "finite weights, biases and scales", "infinity or NaN");
    }

    // Returns the next bytes of the file.
    const char* take(const LayerWeights& layer, std::size_t size) const {
        require(size <= bytes_.size() - offset_, where(layer), "at least " + std::to_string(offset_ + size) + " bytes",
                std::to_string(bytes_.size()));
        offset_ += size;
        return bytes_.data() + offset_ - size;
    }

    std::string where(const LayerWeights& layer) const { return model_.bin.string() + ": layer " + layer.layer; }

    const ModelFile& model_;
    const std::string& bytes_;
    mutable std::size_t offset_ = 0;  // mutable because NCNN reads through a const reference
};

}  // namespace

void load_network(ncnn::Net& net, const ModelFile& model) {
    const std::string param = read_file(model.param);
    const std::string bin = read_file(model.bin);
    WeightReader reader(model, bin);
    reader.check(check_param(model, param));
    if (net.load_param_mem(param.c_str()) != 0 || net.load_model(reader) != 0) {
        throw InputError(model.param.string() + ": NCNN cannot load this file");
    }
}

std::vector<ncnn::Mat> run_network(const ncnn::Net& net, const ModelFile& model, const ncnn::Mat& input) {
    ncnn::Extractor extractor = net.create_extractor();
    extractor.input(model.input.blob.c_str(), input);
    std::vector<ncnn::Mat> outputs;
    for (const Scale& scale : model.scales) {
        ncnn::Mat& output = outputs.emplace_back();
        if (extractor.extract(scale.blob.c_str(), output) != 0 || output.dims != 3 ||
            output.elemsize != sizeof(float) || output.c != scale.rows || output.h != scale.columns ||
            output.w != scale.values) {
            throw RunError("NCNN cannot compute the output " + scale.blob);
        }
    }
    return outputs;
}

}  // namespace yolo_fastest
