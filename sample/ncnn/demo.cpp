// Detects objects in an image, in a folder of images or with a camera. `demo --help` shows the usage.

#include <algorithm>
#include <climits>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <type_traits>

#include "images.h"

#if WITH_OPENCV
#include <opencv2/core/utils/logger.hpp>
#include <opencv2/videoio.hpp>
#endif

namespace fs = std::filesystem;
using namespace yolo_fastest;
using nlohmann::ordered_json;

namespace {

constexpr const char* kHelp =
    R"(usage: demo MODEL.json SOURCE [--output DIR] [--conf X] [--iou X] [--threads N]
            [--arithmetic fp16|fp32] [--bench N]

Detects objects in images. Prints one JSON line per image and writes the images with boxes drawn.

  MODEL.json     an exported model, with its .ncnn.param and .ncnn.bin files in the same folder
  SOURCE         an image, a folder of images, or a camera index
  --output DIR   folder for the images with boxes (default: result)
  --conf X       keep detections that score above this, 0 to 1 (default: the model's)
  --iou X        drop boxes that overlap a better box by more than this, 0 to 1 (default: the model's)
  --threads N    number of threads of the network (default: 1)
  --arithmetic X fp16 (default): float16 on ARM processors that support it; fp32: always float32
  --bench N      also run the detector N times on the image and print the durations

examples:
  demo coco.json street.jpg
  demo coco.json photos --output found --conf 0.4 > found.jsonl
)";

constexpr std::size_t kMaxCameraDigits = 4;
constexpr int kMaxThreads = 256;

volatile std::sig_atomic_t interrupted = 0;  // set by Ctrl-C

struct Options {
    bool help = false;   // if true, the other members are not set
    std::string model;   // NAME.json or NAME.ncnn.param
    std::string source;  // an image, a folder or a camera index
    std::filesystem::path output = "result";
    std::optional<double> conf, iou;  // default: of the model
    int threads = 1;
    Arithmetic arithmetic = Arithmetic::kFloat16;
    int bench = 0;  // number of runs
};

[[noreturn]] void fail(const std::string& name, const std::string& expected, const std::string& got) {
    throw InputError(name + ": expected " + expected + ", got " + got + "; see --help");
}

template <typename Number>
Number parse_number(const std::string& name, const std::string& text, Number min, Number max) {
    std::istringstream stream(text);
    Number value{};
    if (!(stream >> value) || !stream.eof() || !(value >= min && value <= max)) {  // also if NaN
        std::ostringstream expected;
        expected << (std::is_integral_v<Number> ? "an integer" : "a number") << " from " << min << " to " << max;
        fail(name, expected.str(), "'" + text + "'");
    }
    return value;
}

Arithmetic parse_arithmetic(const std::string& name, const std::string& text) {
    if (text != "fp16" && text != "fp32") {
        fail(name, "fp16 or fp32", "'" + text + "'");
    }
    return text == "fp16" ? Arithmetic::kFloat16 : Arithmetic::kFloat32;
}

void set_option(Options& options, const std::string& name, const std::string& value) {
    if (name == "--output" && !value.empty()) {
        options.output = value;
    } else if (name == "--output") {
        fail(name, "a folder", "''");
    } else if (name == "--conf") {
        options.conf = parse_number(name, value, 0., 1.);
    } else if (name == "--iou") {
        options.iou = parse_number(name, value, 0., 1.);
    } else if (name == "--threads") {
        options.threads = parse_number(name, value, 1, kMaxThreads);
    } else if (name == "--arithmetic") {
        options.arithmetic = parse_arithmetic(name, value);
    } else if (name == "--bench") {
        options.bench = parse_number(name, value, 1, INT_MAX);
    } else {
        throw InputError(name + ": unknown option; see --help");
    }
}

Options parse_options(int count, const char* const* words) {
    Options options;
    std::vector<std::string> arguments;
    for (int i = 1; i < count; ++i) {
        const std::string word = words[i];
        const std::size_t equals = word.find('=');
        if (word == "--help" || word == "-h") {
            options.help = true;
            return options;
        } else if (word.size() < 2 || word[0] != '-') {
            arguments.push_back(word);
        } else if (equals != std::string::npos) {
            set_option(options, word.substr(0, equals), word.substr(equals + 1));
        } else if (i + 1 < count) {
            set_option(options, word, words[++i]);
        } else {
            fail(word, "a value", "nothing");
        }
    }
    if (arguments.size() != 2) {
        fail("arguments", "MODEL.json and SOURCE", std::to_string(arguments.size()) + " arguments");
    }
    options.model = arguments[0];
    options.source = arguments[1];
    return options;
}

PixelView view(const cv::Mat& image) {
    const std::size_t row_bytes = image.rows > 1 ? image.ptr(1) - image.ptr(0) : 3 * image.cols;
    return {image.data, image.cols, image.rows, row_bytes};
}

double rounded(double value, int digits) {
    const double factor = std::pow(10, digits);
    return std::round(value * factor) / factor;
}

std::string counted(std::size_t count, const std::string& noun) {
    return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

// The detector and the counts of one run.
class Demo {
  public:
    explicit Demo(const Options& options)
        : options_(options),
          detector_(options.model, options.threads, options.arithmetic),
          thresholds_(detector_.thresholds()) {
        thresholds_.conf = options.conf.value_or(thresholds_.conf);
        thresholds_.iou = options.iou.value_or(thresholds_.iou);
    }

    int run() {
        const std::string& source = options_.source;
        const bool is_index = source.size() <= kMaxCameraDigits && !source.empty() &&
                              source.find_first_not_of("0123456789") == std::string::npos;
        return is_index && !fs::exists(source) ? run_camera(std::stoi(source)) : run_images();
    }

  private:
    int run_images() {
        const bool is_folder = fs::is_directory(options_.source);
        const std::vector<fs::path> files = list_images(options_.source, options_.output);
        if (options_.bench > 0 && is_folder) {
            throw InputError("--bench: expected an image, got the folder " + options_.source);
        }
        std::size_t skipped = 0;
        for (const fs::path& file : files) {
            const fs::path target =
                options_.output / (is_folder ? file.lexically_relative(options_.source) : file.filename());
            std::error_code ignored;  // the target may not exist
            if (fs::equivalent(target, file, ignored)) {
                throw InputError("--output: expected another folder than that of the image " + target.string());
            }
            cv::Mat image;
            try {
                image = read_image(file);
            } catch (const InputError& error) {
                std::cerr << "warning: " << error.what() << "; skipped\n";
                ++skipped;
                continue;
            }
            process(image, {{"file", file.string()}}, target);
        }
        if (skipped == files.size()) {
            throw RunError(options_.source + ": cannot read " + counted(skipped, "image"));
        }
        std::cerr << counted(objects_, "object") << " in " << counted(files.size() - skipped, "image") << ", drawn in "
                  << (files.size() == 1 ? result_ : options_.output).string()
                  << (skipped > 0 ? "; " + std::to_string(skipped) + " could not be read" : "") << '\n';
        return skipped > 0 ? 1 : 0;
    }

    // Runs until Ctrl-C. Each frame overwrites the result image.
    int run_camera(int index) {
        const std::string title = "camera " + std::to_string(index), name = "camera" + std::to_string(index);
        if (options_.bench > 0) {
            throw InputError("--bench: expected an image, got " + title);
        }
#if WITH_OPENCV
        cv::VideoCapture camera(index);
        if (!camera.isOpened()) {
            throw InputError(title + ": cannot be opened; is it connected, and not used by another program?");
        }
        std::signal(SIGINT, [](int) { interrupted = 1; });
        std::size_t frames = 0;
        for (cv::Mat image; !interrupted && camera.read(image) && !image.empty(); ++frames) {
            if (image.channels() == 1) {  // from some drivers
                cv::cvtColor(image, image, cv::COLOR_GRAY2BGR);
            }
            process(image, {{"file", name}, {"frame", frames}}, options_.output / (name + ".jpg"));
        }
        if (frames == 0 && !interrupted) {
            throw RunError(title + ": returned no frame");
        }
        std::cerr << counted(objects_, "object") << " in " << counted(frames, "frame") << ", the last one drawn in "
                  << result_.string() << '\n';
        return 0;
#else
        throw InputError(title + ": this demo was built without OpenCV, which reads cameras");
#endif
    }

    // Prints the detections of one image after the keys of `line`, and writes the image with the detections drawn.
    void process(cv::Mat& image, ordered_json line, const fs::path& target) {
        const std::vector<Detection> detections = detector_.detect(view(image), thresholds_);
        line["width"] = image.cols;
        line["height"] = image.rows;
        line["detections"] = ordered_json::array();
        for (const Detection& box : detections) {
            line["detections"].push_back(
                {{"class", box.class_id},
                 {"name", detector_.class_names()[box.class_id]},
                 {"score", rounded(box.score, 4)},
                 {"box", {rounded(box.x1, 2), rounded(box.y1, 2), rounded(box.x2, 2), rounded(box.y2, 2)}}});
        }
        // A file name may contain bytes that are not UTF-8.
        std::cout << line.dump(-1, ' ', false, ordered_json::error_handler_t::replace) << '\n';
        if (!std::cout.flush()) {
            throw RunError("cannot write to standard output");
        }
        if (options_.bench > 0) {
            bench(image);
        }
        draw_detections(image, detections, detector_.class_names());
        result_ = write_image(target, image);
        objects_ += detections.size();
    }

    void bench(const cv::Mat& image) const {
        const char* const stages[] = {"preprocessing", "network", "postprocessing", "total"};
        std::vector<double> durations[4];
        for (int i = 0; i < options_.bench; ++i) {
            Timing timing{};
            detector_.detect(view(image), thresholds_, &timing);
            durations[0].push_back(timing.preprocessing);
            durations[1].push_back(timing.network);
            durations[2].push_back(timing.postprocessing);
            durations[3].push_back(timing.preprocessing + timing.network + timing.postprocessing);
        }
        std::fprintf(stderr, "%s, %s\n", counted(options_.bench, "run").c_str(),
                     counted(options_.threads, "thread").c_str());
        std::fprintf(stderr, "%-15s %8s %8s %8s\n", "milliseconds", "min", "median", "max");
        for (int i = 0; i < 4; ++i) {
            std::vector<double>& sorted = durations[i];
            std::sort(sorted.begin(), sorted.end());
            const double median = (sorted[(sorted.size() - 1) / 2] + sorted[sorted.size() / 2]) / 2;
            std::fprintf(stderr, "%-15s %8.2f %8.2f %8.2f\n", stages[i], sorted.front(), median, sorted.back());
        }
    }

    const Options& options_;
    Detector detector_;
    Thresholds thresholds_;
    std::size_t objects_ = 0;
    fs::path result_;  // the last image that was written
};

}  // namespace

int main(int count, char** words) {
#if WITH_OPENCV
    cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT);
#endif
    try {
        const Options options = parse_options(count, words);
        if (options.help) {
            std::cout << kHelp;
            return 0;
        }
        return Demo(options).run();
    } catch (const std::bad_alloc&) {
        std::cerr << "error: out of memory\n";
        return 1;
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << '\n';
        return dynamic_cast<const InputError*>(&error) != nullptr ? 2 : 1;
    }
}
