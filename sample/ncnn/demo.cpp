// Detects in a picture, in a folder of pictures or with a camera; see options.cpp for how it is called.

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "detector.h"
#include "drawing.h"
#include "image_io.h"
#include "options.h"
#include "sources.h"

namespace fs = std::filesystem;
using namespace yolo_fastest;

namespace {

volatile std::sig_atomic_t interrupted = 0;  // by Ctrl-C; a signal handler can only reach what is global

PixelView view(const Image& image) {
    return {image.bgr.data(), image.width, image.height, 3 * static_cast<std::size_t>(image.width)};
}

double rounded(double value, int digits) {
    const double factor = std::pow(10, digits);
    return std::round(value * factor) / factor;
}

// One line on standard output; `origin` is its beginning.
void print_line(nlohmann::ordered_json origin, const Image& image, const std::vector<Detection>& found,
                const Detector& detector) {
    origin["width"] = image.width;
    origin["height"] = image.height;
    auto& entries = origin["detections"] = nlohmann::ordered_json::array();
    for (const Detection& box : found) {
        entries.push_back({{"class", box.label},
                           {"name", detector.class_name(box.label)},
                           {"score", rounded(box.score, 4)},
                           {"box", {rounded(box.x1, 2), rounded(box.y1, 2), rounded(box.x2, 2), rounded(box.y2, 2)}}});
    }
    // A file's name may hold bytes that are no UTF-8.
    std::cout << origin.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    if (!std::cout.flush()) {
        throw RunError("standard output cannot be written to");
    }
}

void print_milliseconds(const char* step, std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const std::size_t middle = values.size() / 2;
    const double median = values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
    std::fprintf(stderr, "%-15s %8.2f %8.2f %8.2f\n", step, values.front(), median, values.back());
}

void bench(const Detector& detector, const Image& image, const Thresholds& thresholds, const Options& options) {
    std::vector<double> preprocessing, network, postprocessing, total;
    for (int i = 0; i < options.bench; ++i) {
        Timing timing{};
        detector.detect(view(image), thresholds, &timing);
        preprocessing.push_back(timing.preprocessing);
        network.push_back(timing.network);
        postprocessing.push_back(timing.postprocessing);
        total.push_back(timing.preprocessing + timing.network + timing.postprocessing);
    }
    std::fprintf(stderr, "%d runs, %d thread%s\n%-15s %8s %8s %8s\n", options.bench, options.threads,
                 options.threads == 1 ? "" : "s", "milliseconds", "min", "median", "max");
    print_milliseconds("preprocessing", preprocessing);
    print_milliseconds("network", network);
    print_milliseconds("postprocessing", postprocessing);
    print_milliseconds("together", total);
}

std::string counted(std::size_t number, const std::string& what) {
    return std::to_string(number) + " " + what + (number == 1 ? "" : "s");
}

int run_pictures(const Detector& detector, const Thresholds& thresholds, const Options& options) {
    const std::vector<Picture> pictures = list_pictures(options.what, options.output);
    if (options.bench > 0 && fs::is_directory(options.what)) {
        throw InputError("--bench: expected a picture to detect in, got the folder " + options.what);
    }
    std::size_t failed = 0, objects = 0;
    fs::path written;
    for (const Picture& picture : pictures) {
        const fs::path target = options.output / picture.name;
        std::error_code ignored;  // most often the target is not there
        if (fs::equivalent(target, picture.path, ignored)) {
            throw InputError("--output: expected another folder than that of the picture " + target.string());
        }
        Image image;
        try {
            image = read_image(picture.path);
        } catch (const InputError& error) {
            std::cerr << "warning: " << error.what() << "; skipped\n";
            ++failed;
            continue;
        }
        const std::vector<Detection> found = detector.detect(view(image), thresholds);
        objects += found.size();
        print_line({{"file", picture.path.string()}}, image, found, detector);
        if (options.bench > 0) {
            bench(detector, image, thresholds, options);
        }
        draw_detections(image, found, detector.class_names());
        written = write_image(target, image);
    }
    const std::size_t read = pictures.size() - failed;
    if (read == 0) {
        throw RunError(pictures.size() == 1 ? "the picture could not be read"
                                            : "none of " + std::to_string(failed) + " pictures could be read");
    }
    std::cerr << counted(objects, "object") << " in " << counted(read, "picture") << ", drawn in "
              << (pictures.size() == 1 ? written : options.output).string()
              << (failed > 0 ? "; " + std::to_string(failed) + " could not be read" : "") << '\n';
    return failed > 0 ? 1 : 0;
}

// Until Ctrl-C. The result's picture is always the latest.
int run_camera(int number, const Detector& detector, const Thresholds& thresholds, const Options& options) {
    if (options.bench > 0) {
        throw InputError("--bench: expected a picture to detect in, got the camera " + options.what);
    }
    const std::string name = "camera" + std::to_string(number);
    Camera camera(number);
    std::signal(SIGINT, [](int) { interrupted = 1; });
    std::size_t frames = 0, objects = 0;
    fs::path written;
    for (Image image; !interrupted && camera.read(image); ++frames) {
        const std::vector<Detection> found = detector.detect(view(image), thresholds);
        objects += found.size();
        print_line({{"file", name}, {"frame", frames}}, image, found, detector);
        draw_detections(image, found, detector.class_names());
        written = write_image(options.output / (name + ".jpg"), image);
    }
    if (frames == 0 && !interrupted) {
        throw RunError("camera " + std::to_string(number) + ": gives no picture");
    }
    std::cerr << counted(objects, "object") << " in " << counted(frames, "frame") << ", the last one drawn in "
              << written.string() << '\n';
    return 0;
}

int run(const Options& options) {
    if (options.help) {
        std::cout << help_text();
        return 0;
    }
    const Detector detector(options.model, options.threads);
    Thresholds thresholds = detector.thresholds();
    thresholds.conf = options.conf.value_or(thresholds.conf);
    thresholds.iou = options.iou.value_or(thresholds.iou);
    if (const std::optional<int> camera = camera_number(options.what)) {
        return run_camera(*camera, detector, thresholds, options);
    }
    return run_pictures(detector, thresholds, options);
}

}  // namespace

int main(int count, char** words) {
    try {
        return run(parse_options(count, words));
    } catch (const InputError& error) {
        std::cerr << "error: " << error.what() << '\n';
        return 2;
    } catch (const std::bad_alloc&) {
        std::cerr << "error: out of memory\n";
        return 1;
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << '\n';
        return 1;
    }
}
