#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "files.h"
#include "model.h"

namespace yolo_fastest {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr int kFormat = 1;
constexpr int kMaxSide = 8192;  // pixels; a typo in the file must not allocate all memory

// A JSON value and its location for error messages, for example "model.json: anchors[1]".
class Field {
  public:
    Field(const json& value, std::string location) : value_(value), location_(std::move(location)) {}

    Field operator[](const char* key) const {
        require(value_.is_object(), "an object");
        const auto found = value_.find(key);
        if (found == value_.end()) {
            throw InputError(location_ + ": " + key + ": missing");
        }
        return {*found, location_ + ": " + key};
    }

    // Returns the elements of a list: `count` elements, or at least one if `count` is 0.
    std::vector<Field> list(const std::string& of, std::size_t count = 0) const {
        require(value_.is_array() && !value_.empty() && (count == 0 || value_.size() == count),
                "a list of " + (count == 0 ? of : std::to_string(count) + " " + of));
        std::vector<Field> elements;
        for (std::size_t i = 0; i < value_.size(); ++i) {
            elements.emplace_back(value_[i], location_ + "[" + std::to_string(i) + "]");
        }
        return elements;
    }

    std::string text() const {
        require(value_.is_string() && !value_.get_ref<const std::string&>().empty(), "text");
        return value_.get<std::string>();
    }

    double number(int max) const {
        const double value = to_double();
        require(value >= 0 && value <= max, "a number from 0 to " + std::to_string(max));
        return value;
    }

    float positive() const {
        const auto value = static_cast<float>(to_double());
        require(value > 0 && std::isfinite(value), "a number above 0");
        return value;
    }

    int integer(int max) const {
        const double value = to_double();  // the file may hold numbers beyond the range of all integer types
        require(value_.is_number_integer() && value >= 1 && value <= max,
                "an integer from 1 to " + std::to_string(max));
        return static_cast<int>(value);
    }

    void require(bool valid, const std::string& expected) const {
        constexpr std::size_t max_length = 60;
        if (!valid) {
            std::string got = value_.dump(-1, ' ', true, json::error_handler_t::replace);
            got = got.size() > max_length ? got.substr(0, max_length) + "..." : got;
            throw InputError(location_ + ": expected " + expected + ", got " + got);
        }
    }

  private:
    double to_double() const { return value_.is_number() ? value_.get<double>() : NAN; }

    const json& value_;
    std::string location_;
};

// Accepts the path of the .json file or of the .ncnn.param file.
fs::path json_path(const fs::path& path) {
    const bool is_param = path.extension() == ".param" && path.stem().extension() == ".ncnn";
    if (!is_param && path.extension() != ".json") {
        throw InputError(path.string() + ": expected the .json file of an exported model, or its .ncnn.param file");
    }
    return is_param ? path.parent_path() / path.stem().replace_extension(".json") : path;
}

json parse(const fs::path& path) {
    try {
        return json::parse(read_file(path));
    } catch (const json::exception& error) {
        std::string reason = error.what();
        for (char& c : reason) {
            c = c < ' ' || c > '~' ? '?' : c;  // the message may quote bytes of the file
        }
        throw InputError(path.string() + ": expected JSON: " + reason);
    }
}

std::vector<Scale> read_scales(const Field& root) {
    const std::vector<Field> strides = root["strides"].list("strides");
    const std::vector<Field> blobs = root["outputs"].list("outputs, one per stride", strides.size());
    const std::vector<Field> anchors = root["anchors"].list("lists of anchors, one per stride", strides.size());
    std::vector<Scale> scales;
    for (std::size_t i = 0; i < strides.size(); ++i) {
        Scale& scale = scales.emplace_back();
        scale.blob = blobs[i].text();
        scale.stride = strides[i].integer(kMaxSide);
        for (const Field& anchor : anchors[i].list("anchors")) {
            const std::vector<Field> sides = anchor.list("numbers: width, height", 2);
            scale.anchors.push_back({sides[0].positive(), sides[1].positive()});
        }
    }
    return scales;
}

int read_side(const Field& side, const std::vector<Scale>& scales) {
    const int pixels = side.integer(kMaxSide);
    for (const Scale& scale : scales) {
        side.require(pixels % scale.stride == 0, "a multiple of the stride " + std::to_string(scale.stride));
    }
    return pixels;
}

}  // namespace

ModelFile read_model_file(const fs::path& given) {
    ModelFile model;
    model.path = json_path(given);
    const json content = parse(model.path);
    const Field root(content, model.path.string());
    root["format"].integer(kFormat);
    model.param = model.path.parent_path() / fs::u8path(root["param"].text());
    model.bin = model.path.parent_path() / fs::u8path(root["bin"].text());
    for (const Field& name : root["names"].list("class names")) {
        model.class_names.push_back(name.text());
    }
    model.scales = read_scales(root);
    model.thresholds = {root["conf"].number(1), root["iou"].number(1),
                        root["max_det"].integer(std::numeric_limits<int>::max())};

    const Field input = root["input"];
    input["channels"].require(input["channels"].text() == "BGR", "\"BGR\"");
    model.input.blob = input["name"].text();
    model.input.width = read_side(root["width"], model.scales);
    model.input.height = read_side(root["height"], model.scales);
    for (Scale& scale : model.scales) {
        scale.rows = model.input.height / scale.stride;
        scale.columns = model.input.width / scale.stride;
        scale.values = static_cast<int>(5 * scale.anchors.size() + model.class_names.size());
    }
    model.input.scale = input["scale"].positive();
    const std::vector<Field> mean = input["mean"].list("numbers: blue, green, red", 3);
    for (std::size_t i = 0; i < mean.size(); ++i) {
        model.input.mean[i] = static_cast<float>(mean[i].number(255));
    }
    return model;
}

}  // namespace yolo_fastest
