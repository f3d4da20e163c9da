#include "model_file.h"

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "files.h"

namespace yolo_fastest {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr int kFormat = 1;
constexpr int kLargestSide = 8192;  // pixels; a slip of the pen should not ask for all memory
constexpr const char* kParamSuffix = ".ncnn.param";

bool ends_with(const std::string& text, const std::string& end) {
    return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

fs::path json_path(const fs::path& path) {
    const std::string name = path.filename().string();
    if (ends_with(name, kParamSuffix)) {
        return path.parent_path() / (name.substr(0, name.size() - std::string(kParamSuffix).size()) + ".json");
    }
    if (path.extension() != ".json") {
        throw InputError(path.string() + ": expected the .json file of an exported model, or its " + kParamSuffix);
    }
    return path;
}

// A value of the file that knows where it stands, so that errors can say it.
class Value {
  public:
    Value(const json& value, std::string where) : value_(value), where_(std::move(where)) {}

    Value operator[](const char* key) const {
        if (!value_.is_object()) {
            fail("an object");
        }
        const auto found = value_.find(key);
        const std::string name = where_ + ": " + key;
        if (found == value_.end()) {
            throw InputError(name + ": missing");
        }
        return {*found, name};
    }

    // The elements of a list of `count`, or of any number above 0.
    std::vector<Value> list(const std::string& of, std::size_t count = 0) const {
        if (!value_.is_array() || value_.empty() || (count != 0 && value_.size() != count)) {
            fail("a list of " + (count != 0 ? std::to_string(count) + " " : std::string()) + of);
        }
        std::vector<Value> elements;
        for (std::size_t i = 0; i < value_.size(); ++i) {
            elements.emplace_back(value_[i], where_ + "[" + std::to_string(i) + "]");
        }
        return elements;
    }

    std::string text() const {
        if (!value_.is_string() || value_.get_ref<const std::string&>().empty()) {
            fail("text");
        }
        return value_.get<std::string>();
    }

    double number(double least, double most) const {
        const double value = value_.is_number() ? value_.get<double>() : NAN;
        if (!(value >= least && value <= most)) {
            fail(range("a number", least, most));
        }
        return value;
    }

    float positive() const {
        const double value = value_.is_number() ? value_.get<double>() : NAN;
        const auto single = static_cast<float>(value);
        if (!(single > 0 && std::isfinite(single))) {
            fail("a number above 0");
        }
        return single;
    }

    int whole(int least, int most) const {
        // Compared as a double: a number of the file may be larger than any integer type.
        const double value = value_.is_number_integer() ? value_.get<double>() : NAN;
        if (!(value >= least && value <= most)) {
            fail(range("a whole number", least, most));
        }
        return static_cast<int>(value);
    }

    [[noreturn]] void fail(const std::string& expected) const {
        constexpr std::size_t limit = 60;
        std::string got = value_.dump(-1, ' ', true, json::error_handler_t::replace);
        if (got.size() > limit) {
            got = got.substr(0, limit) + "...";
        }
        throw InputError(where_ + ": expected " + expected + ", got " + got);
    }

  private:
    static std::string range(const std::string& what, double least, double most) {
        std::ostringstream text;
        text << what << " from " << std::setprecision(std::numeric_limits<int>::digits10 + 1) << least << " to "
             << most;
        return text.str();
    }

    const json& value_;
    std::string where_;
};

json parse(const fs::path& path) {
    try {
        return json::parse(read_file(path));
    } catch (const json::exception& error) {
        // "[json.exception.parse_error.101] parse error at line 1, column 2: …", with bytes of the file in it.
        std::string reason = error.what();
        reason.erase(0, reason.find("] ") + 2);
        std::replace_if(
            reason.begin(), reason.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
        throw InputError(path.string() + ": expected JSON: " + reason);
    }
}

InputFormat read_input(const Value& root, const std::vector<Scale>& scales) {
    InputFormat input{};
    input.width = root["width"].whole(1, kLargestSide);
    input.height = root["height"].whole(1, kLargestSide);
    for (const char* side : {"width", "height"}) {
        for (const Scale& scale : scales) {
            if (root[side].whole(1, kLargestSide) % scale.stride != 0) {
                root[side].fail("a multiple of the stride " + std::to_string(scale.stride));
            }
        }
    }
    const Value format = root["input"];
    input.blob = format["name"].text();
    if (format["channels"].text() != "BGR") {
        format["channels"].fail("\"BGR\"");
    }
    input.scale = format["scale"].positive();
    const std::vector<Value> means = format["mean"].list("numbers", input.mean.size());
    for (std::size_t i = 0; i < means.size(); ++i) {
        input.mean[i] = static_cast<float>(means[i].number(0, 255));
    }
    return input;
}

std::vector<Scale> read_scales(const Value& root) {
    const std::vector<Value> strides = root["strides"].list("strides");
    const std::vector<Value> blobs = root["outputs"].list("outputs, as many as strides", strides.size());
    const std::vector<Value> anchors = root["anchors"].list("lists of anchors, as many as strides", strides.size());
    std::vector<Scale> scales;
    for (std::size_t i = 0; i < strides.size(); ++i) {
        Scale scale{blobs[i].text(), strides[i].whole(1, kLargestSide), {}};
        for (const Value& anchor : anchors[i].list("anchors")) {
            const std::vector<Value> sides = anchor.list("numbers, width and height", 2);
            scale.anchors.push_back({sides[0].positive(), sides[1].positive()});
        }
        scales.push_back(std::move(scale));
    }
    return scales;
}

}  // namespace

ModelFile read_model_file(const fs::path& given) {
    const fs::path path = json_path(given);
    const json content = parse(path);
    const Value root(content, path.string());
    root["format"].whole(kFormat, kFormat);

    ModelFile model;
    model.path = path;
    model.param = path.parent_path() / fs::u8path(root["param"].text());
    model.bin = path.parent_path() / fs::u8path(root["bin"].text());
    for (const Value& name : root["names"].list("class names")) {
        model.names.push_back(name.text());
    }
    model.scales = read_scales(root);
    model.input = read_input(root, model.scales);
    model.thresholds = {root["conf"].number(0, 1), root["iou"].number(0, 1),
                        root["max_det"].whole(1, std::numeric_limits<int>::max())};
    return model;
}

}  // namespace yolo_fastest
