#include "options.h"

#include <climits>
#include <vector>

#include "errors.h"

namespace yolo_fastest {

namespace {

constexpr const char* kUsage = "demo MODEL.json WHAT [--output DIR] [--conf X] [--iou X] [--threads N] [--bench N]";
constexpr int kMostThreads = 256;

[[noreturn]] void fail(const std::string& name, const std::string& expected, const std::string& got) {
    throw InputError(name + ": expected " + expected + ", got '" + got + "'");
}

double fraction(const std::string& name, const std::string& text) {
    try {
        std::size_t end = 0;
        const double value = std::stod(text, &end);
        if (end == text.size() && value >= 0 && value <= 1) {
            return value;
        }
    } catch (const std::logic_error&) {  // what std::stod throws of text that is no number
    }
    fail(name, "a number from 0 to 1", text);
}

int whole(const std::string& name, const std::string& text, int most) {
    try {
        std::size_t end = 0;
        const int value = std::stoi(text, &end);
        if (end == text.size() && value >= 1 && value <= most) {
            return value;
        }
    } catch (const std::logic_error&) {
    }
    fail(name, most == INT_MAX ? "a whole number of 1 or more" : "a whole number from 1 to " + std::to_string(most),
         text);
}

void set(Options& options, const std::string& name, const std::string& value) {
    if (name == "--output") {
        if (value.empty()) {
            fail(name, "a folder", value);
        }
        options.output = value;
    } else if (name == "--conf") {
        options.conf = fraction(name, value);
    } else if (name == "--iou") {
        options.iou = fraction(name, value);
    } else if (name == "--threads") {
        options.threads = whole(name, value, kMostThreads);
    } else if (name == "--bench") {
        options.bench = whole(name, value, INT_MAX);
    } else {
        throw InputError("unknown option " + name + "; usage: " + kUsage);
    }
}

}  // namespace

Options parse_options(int count, const char* const* words) {
    Options options;
    std::vector<std::string> named;
    for (int i = 1; i < count; ++i) {
        const std::string word = words[i];
        if (word == "--help" || word == "-h") {
            Options help;
            help.help = true;
            return help;
        }
        if (word.size() < 2 || word[0] != '-') {
            named.push_back(word);
            continue;
        }
        const std::size_t equals = word.find('=');
        if (equals != std::string::npos) {
            set(options, word.substr(0, equals), word.substr(equals + 1));
        } else if (i + 1 < count) {
            set(options, word, words[++i]);
        } else {
            throw InputError(word + ": expected a value after it; usage: " + kUsage);
        }
    }
    if (named.size() != 2) {
        throw InputError("expected a model and what to detect in, got " + std::to_string(named.size()) +
                         " names; usage: " + kUsage);
    }
    options.model = named[0];
    options.what = named[1];
    return options;
}

std::string help_text() {
    return std::string("usage: ") + kUsage + R"(

Detect in pictures: prints a JSON line a picture and writes it with boxes drawn.

  MODEL.json     an exported model, with its .ncnn.param and .ncnn.bin beside it
  WHAT           a picture, a folder (with those in it), or the number of a camera
  --output DIR   folder for the pictures (default: result)
  --conf X       detections must score above this, 0 to 1 (default: the model's)
  --iou X        overlap above which the weaker box is dropped, 0 to 1 (default: the model's)
  --threads N    threads that the network runs on (default: 1)
  --bench N      also detect N times in the picture and print how long it takes

example:
  demo coco.json street.jpg
  demo coco.json photos --output found --conf 0.4 > found.jsonl
)";
}

}  // namespace yolo_fastest
